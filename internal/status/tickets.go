package status

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"strconv"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"

	"gatehouse.dev/gatehouse/internal/kubelog"
)

// TicketSecret is the Secret, in the namespace of the Lease, that holds the keys
// of TLS session tickets for all replicas.
const TicketSecret = "gatehouse-tls-tickets"

// TicketKey is one key of session tickets.
type TicketKey = [32]byte

// How ticket keys are kept. A session can be resumed for one to two periods
// less than there are keys.
const (
	// TicketPeriod is how long the leader lets new tickets be made with one key.
	TicketPeriod = 12 * time.Hour
	// TicketKeys is how many are kept, the newest among them.
	TicketKeys = 3
	// ticketRefresh is how often replicas look: one that has not seen a new key
	// yet costs clients a full handshake.
	ticketRefresh = 30 * time.Second
)

// rotatedKey is where the Secret says when its newest key was made; that one is
// under "0", the others behind it.
const rotatedKey = "rotated"

var errTicketSecret = errors.New("the Secret does not hold ticket keys")

// tickets reads the ticket keys now and then, and makes and rotates them while
// this replica leads. It asks for the one Secret by name, so that no other need
// be readable. Without the API server the keys stay as they are.
type tickets struct {
	client    kubernetes.Interface
	namespace string
	use       func([]TicketKey)
	leading   func() context.Context // of the term; nil: does not lead
	log       *slog.Logger
	notice    kubelog.Notice
	kick      chan struct{}
}

func (k *tickets) run(ctx context.Context) {
	t := time.NewTicker(ticketRefresh)
	defer t.Stop()
	for {
		k.look(ctx)
		select {
		case <-ctx.Done():
			return
		case <-t.C:
		case <-k.kick:
		}
	}
}

// wake makes run look at once.
func (k *tickets) wake() {
	select {
	case k.kick <- struct{}{}:
	default:
	}
}

// look reads the keys, and as the leader makes those that are due.
func (k *tickets) look(ctx context.Context) {
	term := k.leading()
	if term != nil {
		ctx = term
	}
	ctx, cancel := context.WithTimeout(ctx, ticketRefresh)
	defer cancel()
	keys, err := k.refresh(ctx, term != nil)
	switch {
	case err == nil:
		if len(keys) > 0 {
			k.use(keys)
		}
		if k.notice.Over() {
			k.log.Info("TLS ticket keys can be used again")
		}
	case errors.Is(ctx.Err(), context.Canceled), apierrors.IsConflict(err), apierrors.IsAlreadyExists(err):
		// The next look finds what another has written.
	case k.notice.Due(err, time.Now()):
		k.log.Warn("cannot use the Secret of TLS ticket keys, retrying: sessions are resumed by the replica that made them only",
			"secret", k.namespace+"/"+TicketSecret, "error", kubelog.Cause(err), "retry", ticketRefresh)
	}
}

// refresh gives the keys to use; none while there is no Secret yet.
func (k *tickets) refresh(ctx context.Context, lead bool) ([]TicketKey, error) {
	api := k.client.CoreV1().Secrets(k.namespace)
	secret, err := api.Get(ctx, TicketSecret, metav1.GetOptions{})
	switch {
	case apierrors.IsNotFound(err) && !lead:
		return nil, nil
	case apierrors.IsNotFound(err):
		secret = &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: k.namespace, Name: TicketSecret}, Type: corev1.SecretTypeOpaque}
		keys := rotate(secret, nil, time.Now())
		_, err = api.Create(ctx, secret, metav1.CreateOptions{})
		return keys, err
	case err != nil:
		return nil, err
	}
	keys, rotated, err := ticketKeys(secret)
	if !lead {
		return keys, err
	}
	// A time to come is a clock that was wrong.
	if age := time.Since(rotated); err == nil && age < TicketPeriod && age > -TicketPeriod {
		return keys, nil
	}
	secret = secret.DeepCopy()
	keys = rotate(secret, keys, time.Now())
	_, err = api.Update(ctx, secret, metav1.UpdateOptions{})
	return keys, err
}

// ticketKeys reads the Secret. Nobody must be able to make replicas use keys
// that are no keys.
func ticketKeys(s *corev1.Secret) (keys []TicketKey, rotated time.Time, err error) {
	rotated, err = time.Parse(time.RFC3339, string(s.Data[rotatedKey]))
	if err != nil {
		return nil, time.Time{}, fmt.Errorf("%w: %q is no time", errTicketSecret, rotatedKey)
	}
	for i := range TicketKeys {
		name := strconv.Itoa(i)
		data, ok := s.Data[name]
		if !ok {
			break
		}
		if len(data) != len(TicketKey{}) {
			return nil, time.Time{}, fmt.Errorf("%w: %q has %d bytes", errTicketSecret, name, len(data))
		}
		keys = append(keys, TicketKey(data))
	}
	if len(keys) == 0 {
		return nil, time.Time{}, fmt.Errorf("%w: there are none", errTicketSecret)
	}
	return keys, rotated, nil
}

// rotate puts a new key in front of the others, of which the oldest goes.
func rotate(s *corev1.Secret, keys []TicketKey, now time.Time) []TicketKey {
	var fresh TicketKey
	rand.Read(fresh[:]) // never fails
	keys = append([]TicketKey{fresh}, keys[:min(len(keys), TicketKeys-1)]...)
	s.Data = map[string][]byte{rotatedKey: []byte(now.UTC().Format(time.RFC3339))}
	for i, k := range keys {
		s.Data[strconv.Itoa(i)] = append([]byte(nil), k[:]...)
	}
	return keys
}

package status

import (
	"context"
	"fmt"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/tools/leaderelection"
	"k8s.io/client-go/tools/leaderelection/resourcelock"

	"gatehouse.dev/gatehouse/internal/kubelog"
)

// A leader that vanishes is replaced within TakeOver; one that cannot renew
// stops after RenewDeadline; candidates look every RetryPeriod or up to 2.2
// times as long (leaderelection.JitterFactor). Kubernetes' own 15, 10 and 2 s
// would make it 23.8 s.
const (
	LeaseDuration = 9 * time.Second
	RenewDeadline = 6 * time.Second
	RetryPeriod   = 1500 * time.Millisecond
	// TakeOver is the longest that nobody leads after a leader was killed: a
	// candidate has seen its last renewal late, waits for the end of the Lease,
	// and looks late again.
	TakeOver = LeaseDuration + 2*RetryPeriod*22/10
)

// elect takes part in elections until ctx ends, and sends the context of every
// term that is won.
func (w *Writer) elect(ctx context.Context, terms chan<- context.Context) {
	for ctx.Err() == nil {
		elector, err := leaderelection.NewLeaderElector(leaderelection.LeaderElectionConfig{
			Name:            w.o.LeaseName,
			Lock:            w.lock(),
			LeaseDuration:   LeaseDuration,
			RenewDeadline:   RenewDeadline,
			RetryPeriod:     RetryPeriod,
			ReleaseOnCancel: true,
			Callbacks: leaderelection.LeaderCallbacks{
				OnStartedLeading: func(elected context.Context) {
					select {
					case terms <- elected:
					case <-elected.Done():
					}
				},
				OnStoppedLeading: func() {}, // the term's context has ended
			},
		})
		if err != nil {
			panic(fmt.Sprintf("BUG: status: leader election: %v", err))
		}
		elector.Run(ctx)
	}
}

func (w *Writer) lock() resourcelock.Interface {
	return &watchedLock{w: w, Interface: &resourcelock.LeaseLock{
		LeaseMeta:  metav1.ObjectMeta{Namespace: w.o.Namespace, Name: w.o.LeaseName},
		Client:     w.o.Client.CoordinationV1(),
		LockConfig: resourcelock.ResourceLockConfig{Identity: w.o.Identity},
	}}
}

// watchedLock tells the log when the Lease cannot be read or written: without
// it nobody would learn that no replica may lead.
type watchedLock struct {
	resourcelock.Interface
	w *Writer
}

// Get reads the Lease.
func (l *watchedLock) Get(ctx context.Context) (*resourcelock.LeaderElectionRecord, []byte, error) {
	record, raw, err := l.Interface.Get(ctx)
	return record, raw, l.note(ctx, err)
}

// Create makes the Lease.
func (l *watchedLock) Create(ctx context.Context, r resourcelock.LeaderElectionRecord) error {
	return l.note(ctx, l.Interface.Create(ctx, r))
}

// Update writes the Lease.
func (l *watchedLock) Update(ctx context.Context, r resourcelock.LeaderElectionRecord) error {
	return l.note(ctx, l.Interface.Update(ctx, r))
}

func (l *watchedLock) note(ctx context.Context, err error) error {
	switch {
	case err == nil:
		if l.w.lease.Over() {
			l.w.log.Info("lease can be used again", "lease", l.Describe())
		}
	case apierrors.IsNotFound(err), apierrors.IsConflict(err), apierrors.IsAlreadyExists(err), ctx.Err() != nil:
		// Part of every election.
	default:
		if l.w.lease.Due(err, time.Now()) {
			l.w.log.Warn("cannot use lease, retrying", "lease", l.Describe(), "error", kubelog.Cause(err), "retry", RetryPeriod)
		}
	}
	return err
}

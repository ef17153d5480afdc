package certs

import (
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"io"
	"math/big"
	"net"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"gatehouse.dev/gatehouse/internal/ir"
	"gatehouse.dev/gatehouse/internal/sorted"
)

// ecdsaCert is a self-signed P-256 certificate for the names.
func ecdsaCert(t testing.TB, names ...string) ir.Certificate {
	t.Helper()
	c, err := SelfSigned(time.Now(), names...)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

var rsaKey = sync.OnceValues(func() (*rsa.PrivateKey, error) { return rsa.GenerateKey(rand.Reader, 2048) })

// rsaCert is a self-signed RSA certificate for the names.
func rsaCert(t testing.TB, names ...string) ir.Certificate {
	t.Helper()
	key, err := rsaKey()
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(time.Now().UnixNano()),
		NotBefore:    time.Now().Add(-time.Hour),
		NotAfter:     time.Now().Add(time.Hour),
		DNSNames:     names,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	keyDER, err := x509.MarshalPKCS8PrivateKey(crypto.PrivateKey(key))
	if err != nil {
		t.Fatal(err)
	}
	chain := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
	keyPEM := pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: keyDER})
	return ir.Certificate{ID: ir.NewCertificateID(chain, keyPEM), Chain: chain, Key: keyPEM}
}

// names builds a listener's server names and remembers their certificates.
type names struct {
	list  []*ir.ServerName
	certs []*ir.Certificate
}

func (n *names) terminate(host string, certs ...ir.Certificate) *names {
	var ids []ir.CertificateID
	for _, c := range certs {
		ids = append(ids, c.ID)
	}
	for i := range certs {
		n.certs = append(n.certs, &certs[i])
	}
	n.list = append(n.list, &ir.ServerName{Pattern: ir.ParseIngressHost(host), Terminate: &ir.Terminate{Certificates: ids}})
	return n
}

func (n *names) refuse(host string) *names {
	n.list = append(n.list, &ir.ServerName{Pattern: ir.ParseIngressHost(host), Refuse: &ir.Refuse{Reason: ir.ReasonTLSUnavailable}})
	return n
}

func (n *names) compile(cache *Cache) *ServerNames {
	return n.compileAfter(nil, cache)
}

// compileAfter compiles them as those that come after others.
func (n *names) compileAfter(before *ServerNames, cache *Cache) *ServerNames {
	list, certs := slices.Clone(n.list), slices.Clone(n.certs)
	slices.SortFunc(list, ir.CompareServerNames)
	slices.SortFunc(certs, ir.CompareCertificates)
	return NewServerNames(sorted.Of(list...), sorted.Of(certs...), cache, before)
}

// front is a TLS listener on loopback that greets after each handshake.
type front struct {
	addr    string
	cache   *Cache
	current atomic.Pointer[ServerNames]
	config  *tls.Config
}

func newFront(t testing.TB, n *names, protocols ...string) *front {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	f := &front{addr: l.Addr().String(), cache: NewCache()}
	f.config = Config(f.current.Load, protocols...)
	f.swap(n)
	var open sync.WaitGroup
	open.Go(func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			open.Go(func() { greet(tls.Server(conn, f.config)) })
		}
	})
	t.Cleanup(func() {
		l.Close()
		open.Wait()
	})
	return f
}

func (f *front) swap(n *names) { f.current.Store(n.compile(f.cache)) }

const greeting = "at your service"

// greet answers every byte, the first of which is the handshake.
func greet(conn *tls.Conn) {
	defer conn.Close()
	conn.SetDeadline(time.Now().Add(20 * time.Second))
	if conn.Handshake() != nil {
		return
	}
	var b [1]byte
	for {
		if _, err := io.WriteString(conn, greeting); err != nil {
			return
		}
		if _, err := conn.Read(b[:]); err != nil {
			return
		}
	}
}

// open makes a handshake and reads the greeting, with which TLS 1.3 brings its
// session tickets.
func (f *front) open(config *tls.Config) (*tls.Conn, error) {
	raw, err := net.Dial("tcp", f.addr)
	if err != nil {
		return nil, err
	}
	raw.SetDeadline(time.Now().Add(20 * time.Second))
	conn := tls.Client(raw, config)
	if err := readGreeting(conn); err != nil {
		raw.Close()
		return nil, err
	}
	return conn, nil
}

func readGreeting(conn *tls.Conn) error {
	b := make([]byte, len(greeting))
	if _, err := io.ReadFull(conn, b); err != nil {
		return err
	}
	if string(b) != greeting {
		return errors.New("not the greeting: " + string(b))
	}
	return nil
}

// state is open and close.
func (f *front) state(config *tls.Config) (tls.ConnectionState, error) {
	conn, err := f.open(config)
	if err != nil {
		return tls.ConnectionState{}, err
	}
	defer conn.Close()
	return conn.ConnectionState(), nil
}

// client trusts everyone, as tests compare the certificates themselves.
func client(sni string) *tls.Config {
	return &tls.Config{ServerName: sni, InsecureSkipVerify: true}
}

func client12(sni string, suites ...uint16) *tls.Config {
	c := client(sni)
	c.MaxVersion = tls.VersionTLS12
	c.CipherSuites = suites
	return c
}

// shows reports whether the handshake showed the certificate.
func shows(s tls.ConnectionState, c ir.Certificate) bool {
	block, _ := pem.Decode(c.Chain)
	return len(s.PeerCertificates) > 0 && string(s.PeerCertificates[0].Raw) == string(block.Bytes)
}

const (
	alertNoApplicationProtocol = tls.AlertError(120)
	alertUnrecognizedName      = tls.AlertError(112)
	alertInternalError         = tls.AlertError(80)
	alertProtocolVersion       = tls.AlertError(70)
)

// isAlert reports whether the peer sent the alert.
func isAlert(err error, want tls.AlertError) bool {
	var op *net.OpError
	return errors.As(err, &op) && op.Op == "remote error" && op.Err.Error() == want.Error()
}

package upstream

import (
	"cmp"
	"context"
	"net"
	"net/netip"
	"os"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"
	"golang.org/x/sys/unix"

	"gatehouse.dev/gatehouse/internal/ir"
	"gatehouse.dev/gatehouse/internal/service"
	"gatehouse.dev/gatehouse/internal/sorted"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const (
	addrA = "10.0.0.1:80"
	addrB = "10.0.0.2:80"
	addrC = "10.0.0.3:80"
	addrD = "10.0.0.4:80"
)

// shop is the backend of most tests.
var shop = ir.Backend{ID: "default/shop:80", Namespace: "default", Service: "shop", Port: 80, Protocol: ir.BackendHTTP1}

// clusterIP is the Service "default/shop" with ready endpoints behind port 80.
func clusterIP(addrs ...string) *service.Service {
	p := service.Port{Number: 80}
	for _, a := range addrs {
		p.Endpoints = append(p.Endpoints, service.Endpoint{Addr: netip.MustParseAddrPort(a), Ready: true, Serving: true})
	}
	return &service.Service{Key: service.Key{Namespace: "default", Name: "shop"}, Ports: []service.Port{p}}
}

func externalName(host string) *service.Service {
	return &service.Service{Key: service.Key{Namespace: "default", Name: "shop"}, ExternalName: host}
}

func stateOf(services ...*service.Service) *service.State {
	slices.SortFunc(services, func(a, b *service.Service) int { return a.Key.Compare(b.Key) })
	return &service.State{Services: sorted.Of(services...)}
}

// fakeNet stands for the hosts behind addresses.
type fakeNet struct {
	mu    sync.Mutex
	fail  map[string]error // what a connect gives; errSilent: nothing until the deadline
	dials map[string]int
	conns []*fakeConn
}

var (
	errSilent  = context.DeadlineExceeded
	errRefused = &net.OpError{Op: "dial", Net: "tcp", Err: os.NewSyscallError("connect", unix.ECONNREFUSED)}
)

func (f *fakeNet) set(addr string, err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.fail == nil {
		f.fail = map[string]error{}
	}
	f.fail[addr] = err
}

func (f *fakeNet) dialled(addr string) int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.dials[addr]
}

func (f *fakeNet) dial(ctx context.Context, addr netip.AddrPort) (net.Conn, error) {
	f.mu.Lock()
	if f.dials == nil {
		f.dials = map[string]int{}
	}
	f.dials[addr.String()]++
	err := f.fail[addr.String()]
	f.mu.Unlock()
	if err == errSilent {
		<-ctx.Done()
		return nil, ctx.Err()
	}
	if err != nil {
		return nil, err
	}
	near, _ := net.Pipe()
	c := &fakeConn{Conn: near}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.conns = append(f.conns, c)
	return c, nil
}

type fakeConn struct {
	net.Conn
	closed atomic.Int32
	owners atomic.Int32 // for tests that count them
}

func (c *fakeConn) Close() error {
	c.closed.Add(1)
	return c.Conn.Close()
}

func closes(c *Conn) int { return int(c.Conn.(*fakeConn).closed.Load()) }

// newShop is a Manager over a fakeNet with the endpoints behind shop.
func newShop(t testing.TB, o Options, addrs ...string) (*Manager, *Backend, *fakeNet) {
	t.Helper()
	f := &fakeNet{}
	if o.Dialer == nil {
		o.Dialer = f.dial
	}
	m := New(o)
	m.Update(stateOf(clusterIP(addrs...)))
	t.Cleanup(m.close)
	return m, m.Backend(shop), f
}

func endpointAt(t testing.TB, b *Backend, addr string) *Endpoint {
	t.Helper()
	for _, e := range b.endpoints() {
		if e.String() == addr {
			return e
		}
	}
	t.Fatalf("backend has no endpoint %s, only %v", addr, b.endpoints())
	return nil
}

func addressesOf(b *Backend) []string {
	var out []string
	for _, e := range b.endpoints() {
		out = append(out, e.String())
	}
	return out
}

func dialOK(t testing.TB, e *Endpoint) *Conn {
	t.Helper()
	c, err := e.Dial(t.Context(), nil)
	if err != nil {
		t.Fatalf("cannot dial %s: %v", e, err)
	}
	return c
}

// start runs the Manager and gives what ends it and waits for that.
func start(t testing.TB, m *Manager) (stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- m.Run(ctx) }()
	return sync.OnceFunc(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("Run gave %v", err)
		}
	})
}

func equal[T cmp.Ordered](t testing.TB, what string, got, want []T) {
	t.Helper()
	if !slices.Equal(got, want) {
		t.Errorf("%s: got %v, want %v", what, got, want)
	}
}

var noon = time.Now()

// ready reports whether WaitReady would return at once.
func ready(m *Manager) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.readyLocked()
}

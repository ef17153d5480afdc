package kube

import (
	"context"
	"errors"
	"net"
	"slices"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"

	"golang.org/x/sys/unix"
)

const serviceAddress = "10.96.0.1:443"

// apiServersAt is the EndpointSlice of the Service kubernetes.
func apiServersAt(addresses ...string) *discoveryv1.EndpointSlice {
	es := &discoveryv1.EndpointSlice{ObjectMeta: meta1("default", "kubernetes", "1")}
	es.Labels = map[string]string{discoveryv1.LabelServiceName: "kubernetes"}
	name, port, tcp := "https", int32(6443), corev1.ProtocolTCP
	es.Ports = []discoveryv1.EndpointPort{{Name: &name, Port: &port, Protocol: &tcp}}
	for _, a := range addresses {
		es.Endpoints = append(es.Endpoints, discoveryv1.Endpoint{Addresses: []string{a}})
	}
	return es
}

// wires is a network in which each address answers, or not, as its function says.
type wires struct {
	reach map[string]func(context.Context) error

	mu     sync.Mutex
	dialed []string
	open   map[string]int // connections, by address
}

func refuses(context.Context) error { return syscall.ECONNREFUSED }

func swallows(ctx context.Context) error {
	<-ctx.Done()
	return ctx.Err()
}

func after(d time.Duration) func(context.Context) error {
	return func(context.Context) error { time.Sleep(d); return nil }
}

type wire struct {
	net.Conn
	*wires
	address string
}

func (w wire) Close() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.open[w.address]--
	return nil
}

func (w *wires) connect(ctx context.Context, _, address string) (net.Conn, error) {
	w.mu.Lock()
	w.dialed = append(w.dialed, address)
	w.mu.Unlock()
	if err := w.reach[address](ctx); err != nil {
		return nil, err
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.open[address]++
	return wire{wires: w, address: address}, nil
}

// TestDialsBehindTheService: whatever the cluster IP does, an API server that can
// be reached is reached, and soon.
func TestDialsBehindTheService(t *testing.T) {
	const one, two = "192.0.2.1:6443", "192.0.2.2:6443"
	type reach = map[string]func(context.Context) error
	f := func(what string, r reach, want string, took time.Duration, failure error, asked int) {
		t.Helper()
		synctest.Test(t, func(t *testing.T) {
			w := &wires{reach: r, open: map[string]int{}}
			a := &APIServers{connect: w.connect}
			a.learn(apiServersAt("192.0.2.1", "192.0.2.2"))
			began := time.Now()
			conn, err := a.dialer(serviceAddress)(t.Context(), "tcp", serviceAddress)
			if got := time.Since(began); got != took {
				t.Errorf("%s: took %v, want %v", what, got, took)
			}
			if !errors.Is(err, failure) {
				t.Errorf("%s: %v, want %v", what, err, failure)
			}
			if conn != nil && conn.(wire).address != want || conn == nil && want != "" {
				t.Errorf("%s: connected to %+v, want %s", what, conn, want)
			}
			time.Sleep(time.Minute) // those that are late
			synctest.Wait()
			for address, open := range w.open {
				if address == want && open != 1 || address != want && open != 0 {
					t.Errorf("%s: %d connections to %s", what, open, address)
				}
			}
			if len(w.dialed) != asked || w.dialed[0] != serviceAddress {
				t.Errorf("%s: dialled %s", what, w.dialed)
			}
		})
	}
	f("as ever", reach{serviceAddress: after(0)}, serviceAddress, 0, nil, 1)
	f("refused", reach{serviceAddress: refuses, one: refuses, two: after(0)}, two, 0, nil, 3)
	f("swallowed", reach{serviceAddress: swallows, one: after(0), two: after(time.Second)}, one, directAfter, nil, 3)
	f("slow", reach{serviceAddress: after(2 * time.Second), one: swallows, two: after(2 * time.Second)}, serviceAddress, 2*time.Second, nil, 3)
	f("nobody there", reach{serviceAddress: refuses, one: refuses, two: swallows}, "", dialTimeout, syscall.ECONNREFUSED, 3)
	f("no network", reach{serviceAddress: swallows, one: refuses, two: refuses}, "", dialTimeout, context.DeadlineExceeded, 3)
}

// TestProxyIsNoService: behind another address there are no API servers.
func TestProxyIsNoService(t *testing.T) {
	w := &wires{reach: map[string]func(context.Context) error{"proxy:3128": refuses}}
	a := &APIServers{connect: w.connect}
	a.learn(apiServersAt("192.0.2.1"))
	if conn, err := a.dialer(serviceAddress)(t.Context(), "tcp", "proxy:3128"); !errors.Is(err, syscall.ECONNREFUSED) {
		t.Errorf("dialled %s: %v, %v", w.dialed, conn, err)
	}
}

// TestLearnsWhereTheAPIServersAre: from the Source, and for good.
func TestLearnsWhereTheAPIServersAre(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := NewAPIServers()
		c := newCluster(t, Options{APIServers: a})
		defer c.run()()
		f := func(want ...string) {
			t.Helper()
			synctest.Wait()
			if got := a.behind(); !slices.Equal(got, want) {
				t.Errorf("API servers at %s, want %s", got, want)
			}
		}
		other := apiServersAt("192.0.2.9")
		other.Name = "other"
		c.put(other)
		f()
		c.put(apiServersAt("192.0.2.1", "2001:db8::1"))
		f("192.0.2.1:6443", "[2001:db8::1]:6443")
		c.put(apiServersAt("192.0.2.2"))
		f("192.0.2.2:6443")
		c.put(apiServersAt())
		f("192.0.2.2:6443")
		c.remove(apiServersAt())
		f("192.0.2.2:6443")
	})
}

// TestLostConnectionsEnd: the kernel is asked to find out. That it does, the
// upstream package shows with a host that vanishes.
func TestLostConnectionsEnd(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	address := l.Addr().String()
	conn, err := NewAPIServers().dialer(address)(t.Context(), "tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	raw, err := conn.(*net.TCPConn).SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	f := func(level, option, want int) {
		t.Helper()
		if err := raw.Control(func(fd uintptr) {
			if got, err := unix.GetsockoptInt(int(fd), level, option); err != nil || got != want {
				t.Errorf("option %d is %d (%v), want %d", option, got, err, want)
			}
		}); err != nil {
			t.Fatal(err)
		}
	}
	f(unix.SOL_SOCKET, unix.SO_KEEPALIVE, 1)
	f(unix.IPPROTO_TCP, unix.TCP_KEEPIDLE, 5)
	f(unix.IPPROTO_TCP, unix.TCP_KEEPINTVL, 1)
	f(unix.IPPROTO_TCP, unix.TCP_USER_TIMEOUT, 10_000)
}

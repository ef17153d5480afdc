package upstream

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"os"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/sys/unix"

	"gatehouse.dev/gatehouse/internal/service"
)

// local permits loopback endpoints.
var local = service.AddressPolicy{AllowLocal: true}

// listen gives a loopback listener that ends with the test.
func listen(t testing.TB) *net.TCPListener {
	t.Helper()
	l, err := net.ListenTCP("tcp", &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	return l
}

// toSocket is an endpoint at a real address, dialled for real.
func toSocket(t testing.TB, addr string) *Endpoint {
	t.Helper()
	m := New(Options{Addresses: local})
	m.Update(stateOf(clusterIP(addr)))
	t.Cleanup(m.close)
	return endpointAt(t, m.Backend(shop), addr)
}

func wantFailure(t *testing.T, err error, want DialFailure) {
	t.Helper()
	var de *DialError
	if !errors.As(err, &de) || de.Failure != want || de.Timeout() != (want == DialTimeout) {
		t.Errorf("got %v, want a DialError of kind %s", err, want)
	}
}

func TestDialRefused(t *testing.T) {
	l := listen(t)
	addr := l.Addr().String()
	_ = l.Close()
	e := toSocket(t, addr)
	_, err := e.Dial(t.Context(), nil)
	wantFailure(t, err, DialRefused)
	if !errors.Is(err, unix.ECONNREFUSED) || !e.Ejected(time.Now()) {
		t.Errorf("err %v, ejected %v", err, e.Ejected(time.Now()))
	}
}

func TestDialTimeout(t *testing.T) {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = unix.Close(fd) }()
	if err := unix.Bind(fd, &unix.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}); err != nil {
		t.Fatal(err)
	}
	if err := unix.Listen(fd, 0); err != nil {
		t.Fatal(err)
	}
	sa, err := unix.Getsockname(fd)
	if err != nil {
		t.Fatal(err)
	}
	addr := netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, 0, 0, 1}), uint16(sa.(*unix.SockaddrInet4).Port))
	e := toSocket(t, addr.String())
	// Nobody accepts: once the backlog is full, packets are dropped.
	for range 8 {
		ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
		c, err := e.Dial(ctx, nil)
		cancel()
		if err != nil {
			wantFailure(t, err, DialTimeout)
			if !e.Ejected(time.Now()) {
				t.Error("a timeout did not eject")
			}
			return
		}
		defer func() { _ = c.Close() }()
	}
	t.Fatal("every connect succeeded")
}

func TestDialSetsSocketOptions(t *testing.T) {
	e := toSocket(t, listen(t).Addr().String())
	f := func(ctx context.Context, lowest, highest int) {
		t.Helper()
		c, err := e.Dial(ctx, nil)
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = c.Close() }()
		raw, err := c.Conn.(syscall.Conn).SyscallConn()
		if err != nil {
			t.Fatal(err)
		}
		var noDelay, keepAlive, idle, every, patience int
		_ = raw.Control(func(fd uintptr) {
			noDelay, _ = unix.GetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_NODELAY)
			keepAlive, _ = unix.GetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_KEEPALIVE)
			idle, _ = unix.GetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_KEEPIDLE)
			every, _ = unix.GetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_KEEPINTVL)
			patience, _ = unix.GetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_USER_TIMEOUT)
		})
		if noDelay == 0 || keepAlive == 0 {
			t.Errorf("TCP_NODELAY %d, SO_KEEPALIVE %d; want both on", noDelay, keepAlive)
		}
		if idle != 5 || every != 1 || patience < lowest || patience > highest {
			t.Errorf("TCP_KEEPIDLE %d s, TCP_KEEPINTVL %d s, TCP_USER_TIMEOUT %d ms; want 5, 1 and %d", idle, every, patience, highest)
		}
	}
	f(t.Context(), 10000, 10000)
	// It must not end a connect before its time.
	long, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	f(long, 58000, 61000)
}

func TestDialDenied(t *testing.T) {
	l := listen(t)
	addr := netip.MustParseAddrPort(l.Addr().String())
	mapped := netip.AddrPortFrom(netip.AddrFrom16(addr.Addr().As16()), addr.Port())
	admin := service.AddressPolicy{AllowLocal: true, Denied: []netip.AddrPort{addr}}
	for _, p := range []service.AddressPolicy{{}, admin} {
		for _, a := range []netip.AddrPort{addr, mapped} {
			// An endpoint that slipped past the list is stopped before the dialer,
			f := &fakeNet{}
			e := newEndpoint(a, New(Options{Addresses: p, Dialer: f.dial}).settings, false)
			_, err := e.Dial(t.Context(), nil)
			wantFailure(t, err, DialDenied)
			if f.dialled(a.String()) != 0 || e.Ejected(time.Now()) || e.Active() != 0 {
				t.Error("a denied address reached the dialer or left traces")
			}
			// and the socket's own hook stops what slipped past that.
			if c, err := tcpDialer(p)(t.Context(), a, make(turns, 1)); !errors.Is(err, ErrAddressDenied) {
				t.Errorf("dialled %v: %v, %v", a, c, err)
			}
		}
	}
}

func TestDialFailuresThatAreNotTheEndpoints(t *testing.T) {
	_, b, f := newShop(t, Options{}, addrA)
	e := endpointAt(t, b, addrA)
	for _, errno := range []error{unix.EMFILE, unix.ENFILE, unix.EADDRNOTAVAIL, unix.ENOBUFS} {
		f.set(addrA, &net.OpError{Op: "dial", Err: os.NewSyscallError("socket", errno)})
		_, err := e.Dial(t.Context(), nil)
		wantFailure(t, err, DialLocal)
	}
	f.set(addrA, errSilent)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err := e.Dial(ctx, nil)
	wantFailure(t, err, DialCanceled)
	if e.Ejected(time.Now()) {
		t.Error("ejected for what was not its failure")
	}
	f.set(addrA, &net.OpError{Op: "dial", Err: os.NewSyscallError("connect", unix.EHOSTUNREACH)})
	_, err = e.Dial(t.Context(), nil)
	wantFailure(t, err, DialUnreachable)
	if !e.Ejected(time.Now()) {
		t.Error("an unreachable endpoint was not ejected")
	}
}

func TestDialIsBoundedWithoutDeadline(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		_, b, f := newShop(t, Options{}, addrA)
		f.set(addrA, errSilent)
		began := time.Now()
		_, err := endpointAt(t, b, addrA).Dial(context.Background(), nil)
		wantFailure(t, err, DialTimeout)
		if took := time.Since(began); took != DefaultConnectTimeout {
			t.Errorf("gave up after %v, want %v", took, DefaultConnectTimeout)
		}
	})
}

func TestEjectionDoublesAndRecovers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		_, b, f := newShop(t, Options{}, addrA, addrB)
		bad := endpointAt(t, b, addrB)
		f.set(addrB, errRefused)
		fails := func() { _, _ = bad.Dial(t.Context(), nil) }
		// picks counts how often B is picked in 100 turns.
		picks := func() (n int) {
			for range 100 {
				if e, _ := b.Pick(nil, time.Now()); e == bad {
					n++
				}
			}
			return n
		}
		fails()
		for i, seconds := range []time.Duration{1, 2, 4, 8, 10, 10} {
			fails() // not counted: it is ejected already
			time.Sleep(seconds*time.Second - 1)
			if n := picks(); n != 0 {
				t.Errorf("ejection %d: picked %d times before %d s were over", i, n, seconds)
			}
			time.Sleep(time.Nanosecond)
			if n := picks(); n != 1 {
				t.Errorf("ejection %d: picked %d times of 100 after %d s, want one exchange to find out", i, n, seconds)
			}
			fails()
		}
		f.set(addrB, nil)
		_ = dialOK(t, bad).Close()
		if n := picks(); n != 50 {
			t.Errorf("picked %d times of 100 after recovery, want 50", n)
		}
		f.set(addrB, errRefused)
		fails()
		time.Sleep(time.Second)
		if n := picks(); n != 1 {
			t.Error("a success did not bring the ejection back to 1 s")
		}
	})
}

func TestBurstOfFailuresCountsOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		_, b, f := newShop(t, Options{}, addrA)
		e := endpointAt(t, b, addrA)
		f.set(addrA, errSilent)
		var wg sync.WaitGroup
		for i := range 20 {
			wg.Go(func() {
				ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second+time.Duration(i)*100*time.Millisecond)
				defer cancel()
				_, _ = e.Dial(ctx, nil)
			})
		}
		time.Sleep(6*time.Second - 1)
		if !e.Ejected(time.Now()) {
			t.Error("not ejected for 1 s after the first timeout")
		}
		time.Sleep(time.Nanosecond)
		if e.Ejected(time.Now()) {
			t.Error("dials that began before the ejection made it longer")
		}
		wg.Wait()
	})
}

func TestProbeConnects(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		_, b, f := newShop(t, Options{}, addrA, addrB)
		bad := endpointAt(t, b, addrB)
		old := dialOK(t, bad)
		bad.Put(old, time.Now())
		f.set(addrB, errRefused)
		_, _ = bad.Dial(t.Context(), nil)
		if closes(old) != 0 {
			t.Error("a refused connect closed connections that still may serve")
		}
		time.Sleep(time.Second)
		for {
			if e, _ := b.Pick(nil, time.Now()); e == bad {
				break
			}
		}
		if _, ok := bad.Idle(time.Now(), true); ok {
			t.Error("the exchange that must find out got an old connection")
		}
		f.set(addrB, nil)
		_ = dialOK(t, bad).Close()
		if c, ok := bad.Idle(time.Now(), true); !ok || c != old {
			t.Error("after recovery the old connection is not used")
		}
	})
}

func TestVanishedHostLosesItsIdleConnections(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		_, b, f := newShop(t, Options{}, addrA)
		e := endpointAt(t, b, addrA)
		idle, inUse := dialOK(t, e), dialOK(t, e)
		e.Put(idle, time.Now())
		f.set(addrA, errSilent)
		_, _ = e.Dial(t.Context(), nil)
		if closes(idle) != 1 || closes(inUse) != 0 {
			t.Errorf("closed: idle %d times, in use %d times; want 1 and 0", closes(idle), closes(inUse))
		}
	})
}

func TestOnlyOneExchangeProbes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		_, b, f := newShop(t, Options{}, addrA, addrB, addrC)
		f.set(addrB, errSilent)
		_, _ = endpointAt(t, b, addrB).Dial(t.Context(), nil)
		time.Sleep(time.Second)
		got := count(t, b, 8, 300)
		if got[addrB] != 1 {
			t.Errorf("%d exchanges were sent to an endpoint whose ejection had just ended, want 1", got[addrB])
		}
	})
}

// Connects to an endpoint begin a few at a time, so that thousands at once do not take
// the CPU from every other request. Another endpoint's do not wait for these, and when
// time runs out a connect begins without a turn.
func TestConnectsTakeTurns(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	port := l.Addr().(*net.TCPAddr).AddrPort()
	m := New(Options{Addresses: local})
	defer m.close()
	m.Update(stateOf(clusterIP(port.String(), "127.0.0.1:1")))
	b := m.Backend(shop)
	busy := endpointAt(t, b, port.String())
	for range mostConnecting {
		busy.turns <- struct{}{}
	}
	var d *DialError
	ctx, cancel := context.WithTimeout(t.Context(), withoutTurn+20*time.Millisecond)
	defer cancel()
	c, err := busy.Dial(ctx, nil)
	if err != nil {
		t.Fatalf("without a turn: %v", err)
	}
	_ = c.Close()
	if n := len(busy.turns); n != mostConnecting {
		t.Errorf("%d turns are taken, want the %d of others", n, mostConnecting)
	}
	canceled, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := busy.Dial(canceled, nil); !errors.As(err, &d) || d.Failure != DialCanceled {
		t.Errorf("cancelled: %v", err)
	}
	if _, err := endpointAt(t, b, "127.0.0.1:1").Dial(t.Context(), nil); !errors.As(err, &d) || d.Failure != DialRefused {
		t.Errorf("another endpoint: %v, want it refused at once", err)
	}
	connected := make(chan error)
	go func() {
		c, err := busy.Dial(t.Context(), nil)
		if err == nil {
			err = c.Close()
		}
		connected <- err
	}()
	<-busy.turns
	if err := <-connected; err != nil {
		t.Errorf("when it was its turn: %v", err)
	}
	if n := len(busy.turns); n != mostConnecting-1 {
		t.Errorf("%d turns are taken in the end, want %d", n, mostConnecting-1)
	}
}

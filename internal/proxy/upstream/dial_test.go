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
			if c, err := tcpDialer(p)(t.Context(), a); !errors.Is(err, ErrAddressDenied) {
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

// Of many exchanges that connect to an endpoint at once, some begin and the others wait
// for their turn: a storm of connects takes the CPU from every other request. Who waits
// in vain says nothing about the endpoint.
func TestConnectsTakeTurns(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const all = mostDialling + 50
		begun, answer := 0, make(chan error)
		var mu sync.Mutex
		m, b, _ := newShop(t, Options{Dialer: func(ctx context.Context, _ netip.AddrPort) (net.Conn, error) {
			mu.Lock()
			begun++
			mu.Unlock()
			select {
			case err := <-answer:
				near, _ := net.Pipe()
				return near, err
			case <-ctx.Done():
				return nil, ctx.Err()
			}
		}}, addrA, addrB)
		e := endpointAt(t, b, addrA)
		failed := make(chan error, all)
		dial := func() {
			ctx, cancel := context.WithTimeout(t.Context(), time.Second)
			defer cancel()
			c, err := e.Dial(ctx, nil)
			if err == nil {
				_ = c.Close()
			}
			failed <- err
		}
		want := func(n int, when string) {
			t.Helper()
			synctest.Wait()
			mu.Lock()
			defer mu.Unlock()
			if begun != n {
				t.Fatalf("%s: %d connects have begun, want %d", when, begun, n)
			}
		}
		for range all {
			go dial()
		}
		want(mostDialling, "at first")
		time.Sleep(time.Second / 2)
		for range 20 {
			answer <- nil
		}
		want(mostDialling+20, "when 20 have ended")
		time.Sleep(time.Second / 2) // for all, be they under way or waiting
		ok, timeouts := 0, 0
		for range all {
			var d *DialError
			switch err := <-failed; {
			case err == nil:
				ok++
			case errors.As(err, &d) && d.Failure == DialTimeout:
				timeouts++
			default:
				t.Error(err)
			}
		}
		if ok != 20 || timeouts != all-20 || e.Active() != 0 {
			t.Errorf("%d connected, %d timed out, %d are active; want 20, %d, 0", ok, timeouts, e.Active(), all-20)
		}
		if n := m.Ejections(); n != 1 { // by those that had their time
			t.Errorf("%d ejections, want 1", n)
		}
		e.health.recover()

		// All turns are taken: who waits in vain ejects nobody.
		for range mostDialling {
			e.dialling <- struct{}{}
		}
		go dial()
		time.Sleep(time.Second)
		if err := <-failed; err == nil || e.Ejected(time.Now()) {
			t.Errorf("waited in vain: %v, ejected %v", err, e.Ejected(time.Now()))
		}
	})
}

package upstream

import (
	"context"
	"io"
	"net"
	"net/netip"
	"os/exec"
	"runtime"
	"strconv"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"gatehouse.dev/gatehouse/internal/service"
)

// A host that is cut off answers nothing any more: connections to it end after
// ten seconds, those that have sent something as well as those that wait, and
// connects end when their own time is over.
func TestHostVanishes(t *testing.T) {
	t.Parallel() // it waits for the kernel
	const host, hardware = "10.213.0.9", "02:00:00:00:00:09"
	here, there := newNetwork(t), newNetwork(t)
	here.run("ip", "link", "add", "near", "type", "veth", "peer", "name", "far", "address", hardware, "netns", strconv.Itoa(there.thread))
	here.run("ip", "link", "set", "near", "up")
	here.run("ip", "addr", "add", "10.213.0.1/24", "dev", "near")
	// As behind a router: nobody says that the host is not there.
	here.run("ip", "neigh", "add", host, "lladdr", hardware, "dev", "near")
	there.run("ip", "link", "set", "far", "up")
	there.run("ip", "addr", "add", host+"/24", "dev", "far")
	var l net.Listener
	there.do(func() (err error) { l, err = net.Listen("tcp", host+":0"); return err })
	defer l.Close()
	far := make(chan net.Conn, 8)
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				close(far)
				return
			}
			far <- c
		}
	}()
	addr := netip.MustParseAddrPort(l.Addr().String())
	m := New(Options{Dialer: func(ctx context.Context, a netip.AddrPort) (c net.Conn, err error) {
		here.do(func() error { c, err = tcpDialer(service.AddressPolicy{})(ctx, a, make(turns, 1)); return nil })
		return c, err
	}})
	m.Update(stateOf(clusterIP(addr.String())))
	e := endpointAt(t, m.Backend(shop), addr.String())
	waits, writes := dialOK(t, e), dialOK(t, e)
	for range 2 {
		defer func(c net.Conn) { c.Close() }(<-far)
	}

	there.run("ip", "link", "set", "far", "down")
	began := time.Now()
	if _, err := writes.Write([]byte("GET / HTTP/1.1\r\n\r\n")); err != nil {
		t.Fatalf("the write itself failed: %v", err)
	}
	ended := make(chan error, 2)
	for _, c := range []*Conn{waits, writes} {
		go func() {
			c.SetReadDeadline(began.Add(60 * time.Second)) // the default of --upstream-read-timeout
			_, err := c.Read(make([]byte, 1))
			ended <- err
			c.Close()
		}()
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Second)
	defer cancel()
	_, err := e.Dial(ctx, nil)
	wantFailure(t, err, DialTimeout)
	for range 2 {
		err := <-ended
		if took := time.Since(began); !IsLost(err) || took < 4*time.Second || took > 15*time.Second {
			t.Errorf("ended after %v by %v, want about 10 s and a lost host", took, err)
		}
	}
	if IsLost(io.EOF) {
		t.Error("a connection that was closed counts as lost")
	}
}

// network is a network namespace of its own.
type network struct {
	t      *testing.T
	thread int
	work   chan func()
}

func newNetwork(t *testing.T) *network {
	w := &network{t: t, work: make(chan func())}
	made := make(chan error)
	go func() {
		runtime.LockOSThread() // and never unlocked: the thread ends with the namespace
		w.thread = unix.Gettid()
		made <- unix.Unshare(unix.CLONE_NEWNET)
		for f := range w.work {
			f()
		}
	}()
	if err := <-made; err != nil {
		t.Fatalf("cannot make a network namespace (tests run as root): %v", err)
	}
	t.Cleanup(func() { close(w.work) })
	return w
}

// do runs f in the namespace.
func (w *network) do(f func() error) {
	w.t.Helper()
	done := make(chan error)
	w.work <- func() { done <- f() }
	if err := <-done; err != nil {
		w.t.Fatal(err)
	}
}

func (w *network) run(name string, args ...string) {
	w.t.Helper()
	w.do(func() error {
		out, err := exec.Command(name, args...).CombinedOutput()
		if err != nil {
			w.t.Errorf("%s %v: %s", name, args, out)
		}
		return err
	})
}

package proxy

import (
	"context"
	"net"
	"net/netip"
	"os"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"gatehouse.dev/gatehouse/internal/ir"
	"gatehouse.dev/gatehouse/internal/proxy/upstream"
	"gatehouse.dev/gatehouse/internal/service"
)

// An endpoint that refused a connection while it served others on a shared one is
// taken back when it accepts again, although the shared one would do.
func TestSharedEndpointRecovers(t *testing.T) {
	a, b := addrOf(backend2(t, false)), addrOf(backend2(t, false))
	var refuse atomic.Bool
	e := newEdge(t, func(o *Options) {
		o.Upstream = upstream.New(upstream.Options{
			Addresses: service.AddressPolicy{AllowLocal: true}, EjectFor: 50 * time.Millisecond,
			Dialer: func(ctx context.Context, to netip.AddrPort) (net.Conn, error) {
				if to == a && refuse.Load() {
					return nil, &net.OpError{Op: "dial", Net: "tcp", Err: os.NewSyscallError("connect", syscall.ECONNREFUSED)}
				}
				return new(net.Dialer).DialContext(ctx, "tcp", to.String())
			},
		})
	}, a, b)
	var backend ir.Backend
	e.to2(func(c *ir.Config) { backend = *c.Backends.At(0) })
	ask := func() {
		if res, _ := e.ask(get); res.StatusCode != 200 {
			t.Errorf("%v", res)
		}
	}
	for range 4 {
		ask() // now both have a shared connection
	}
	var ep *upstream.Endpoint
	for ep == nil || ep.Addr() != a {
		ep, _ = e.o.Upstream.Backend(backend).Pick(nil, time.Now())
	}
	refuse.Store(true)
	if _, err := ep.Dial(t.Context(), nil); err == nil || !ep.Ejected(time.Now()) {
		t.Fatalf("%v, not ejected", err)
	}
	refuse.Store(false)
	wait(t, "the ejection is over", func() bool { return !ep.Ejected(time.Now()) })
	for range 8 {
		ask()
	}
	if left := e.o.Upstream.Ejected(time.Now()); len(left) != 0 {
		t.Errorf("still avoided: %v", left)
	}
}

// As long as it does not, what it shares serves on when there is nobody else.
func TestSharedEndpointServesOn(t *testing.T) {
	a := addrOf(backend2(t, false))
	var refuse atomic.Bool
	e := newEdge(t, func(o *Options) {
		o.Upstream = upstream.New(upstream.Options{
			Addresses: service.AddressPolicy{AllowLocal: true}, EjectFor: 5 * time.Millisecond,
			Dialer: func(ctx context.Context, to netip.AddrPort) (net.Conn, error) {
				if refuse.Load() {
					return nil, &net.OpError{Op: "dial", Net: "tcp", Err: os.NewSyscallError("connect", syscall.ECONNREFUSED)}
				}
				return new(net.Dialer).DialContext(ctx, "tcp", to.String())
			},
		})
	}, a)
	var backend ir.Backend
	e.to2(func(c *ir.Config) { backend = *c.Backends.At(0) })
	e.ask(get)
	ep, _ := e.o.Upstream.Backend(backend).Pick(nil, time.Now())
	refuse.Store(true)
	ep.Dial(t.Context(), nil)
	for range 4 {
		wait(t, "the ejection is over", func() bool { return !ep.Ejected(time.Now()) })
		if res, body := e.ask(get); res.StatusCode != 200 {
			t.Fatalf("%v %q", res, body)
		}
	}
}

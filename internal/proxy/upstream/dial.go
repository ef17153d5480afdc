package upstream

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"gatehouse.dev/gatehouse/internal/service"
)

// ErrAddressDenied is in the chain of a DialError when service.AddressPolicy
// refuses the address.
var ErrAddressDenied = errors.New("the address may not be dialled")

// DialFailure says why a connect failed, as one of a small fixed set.
type DialFailure string

// The kinds of failure.
const (
	DialRefused     DialFailure = "Refused"     // nothing listens there
	DialTimeout     DialFailure = "Timeout"     // no answer until the deadline
	DialLost        DialFailure = "Lost"        // connected, and then nothing came back any more
	DialUnreachable DialFailure = "Unreachable" // no way to the host, or another error of the network
	DialDenied      DialFailure = "Denied"      // the address policy forbids it
	DialLocal       DialFailure = "Local"       // this host lacks descriptors, ports or memory
	DialCanceled    DialFailure = "Canceled"    // the context was cancelled, not timed out
	DialTLS         DialFailure = "TLS"         // connected, but TLS could not be agreed on
	DialUntrusted   DialFailure = "Untrusted"   // connected, but the certificate could not be verified
)

// ejects reports whether the failure speaks against the endpoint.
func (f DialFailure) ejects() bool {
	return f == DialRefused || f == DialTimeout || f == DialUnreachable
}

// DialError says why an endpoint could not be connected to.
type DialError struct {
	Addr    netip.AddrPort
	Failure DialFailure
	Err     error
}

func (e *DialError) Error() string {
	return fmt.Sprintf("cannot connect to %s: %v", e.Addr, e.Err)
}

func (e *DialError) Unwrap() error { return e.Err }

// Timeout reports whether the endpoint did not answer in time.
func (e *DialError) Timeout() bool { return e.Failure == DialTimeout }

func failureOf(ctx context.Context, err error) DialFailure {
	var asked interface{ Timeout() bool }
	switch {
	case errors.Is(err, ErrAddressDenied):
		return DialDenied
	case errors.Is(ctx.Err(), context.Canceled):
		return DialCanceled
	case errors.Is(err, unix.ECONNREFUSED):
		return DialRefused
	case isLocal(err):
		return DialLocal
	case errors.As(err, &asked) && asked.Timeout():
		return DialTimeout
	default:
		return DialUnreachable
	}
}

// isLocal reports errors that every endpoint would give now: ejecting for them
// would empty all backends at once.
func isLocal(err error) bool {
	for _, e := range []syscall.Errno{
		unix.EMFILE, unix.ENFILE, unix.ENOBUFS, unix.ENOMEM, unix.EADDRNOTAVAIL, unix.EAGAIN,
	} {
		if errors.Is(err, e) {
			return true
		}
	}
	return false
}

// IsLost reports whether err ended a connection because the other host answers
// nothing any more, not even to the kernel's questions: see lostAfter.
func IsLost(err error) bool {
	return errors.Is(err, unix.ETIMEDOUT) || errors.Is(err, unix.EHOSTUNREACH) || errors.Is(err, unix.ENETUNREACH)
}

// The kernel gives a connection up when bytes sent, or probes of a connection
// on which nothing is sent, stay without any acknowledgement for lostAfter
// (RFC 5482; TCP_USER_TIMEOUT of tcp(7)). Without it a host that vanished would
// cost a request its whole read timeout of 60 s, and a WebSocket or a stream
// hours. Ten seconds is longer than a route change, a live migration or a
// switch that starts anew takes, and five probes may be lost in it.
const (
	lostAfter     = 10 * time.Second
	lostLongAfter = time.Minute // see Conn.BearLong
	probeAfter    = 5 * time.Second
	probeEvery    = time.Second
)

// turns holds a token for each connect(2) to an endpoint that is being called. The
// call looks for a free port, which takes the longer the more connections lead to the
// same place: a quarter of a millisecond with ten thousand of them. Thousands of calls
// at once, each on a thread of its own, would keep every other request from the CPU
// for seconds.
type turns chan struct{}

// mostConnecting is how many calls may run at once, for one endpoint. They do not wait
// for the other host.
const mostConnecting = 2

// withoutTurn is how long before the connect must have ended it begins without a
// turn: turns are for the good of others, and are no limit.
const withoutTurn = 250 * time.Millisecond

// take waits for a turn, but not for longer than the connect can bear. The caller
// gives back a turn that was taken.
func (t turns) take(ctx context.Context) (taken bool, err error) {
	select {
	case t <- struct{}{}:
		return true, nil
	default:
	}
	patience := DefaultConnectTimeout - withoutTurn
	if by, ok := ctx.Deadline(); ok {
		patience = time.Until(by) - withoutTurn
	}
	timer := time.NewTimer(max(patience, 0))
	defer timer.Stop()
	select {
	case t <- struct{}{}:
		return true, nil
	case <-timer.C:
		return false, nil
	case <-ctx.Done():
		return false, ctx.Err()
	}
}

// tcpDialer connects with TCP. TCP_NODELAY is Go's default. Keep-alive is set
// here and not by Go, which sets it after the connect and one option more.
func tcpDialer(policy service.AddressPolicy) func(context.Context, netip.AddrPort, turns) (net.Conn, error) {
	// Not Dialer.DialTCP: without a local address it still calls bind, which
	// costs a system call and takes a port from all destinations at once.
	return func(ctx context.Context, addr netip.AddrPort, t turns) (net.Conn, error) {
		d := net.Dialer{
			KeepAlive: -1,
			// Sees the address that is really dialled, whatever it came from.
			ControlContext: func(ctx context.Context, _, address string, c syscall.RawConn) error {
				a, err := netip.ParseAddrPort(address)
				if err != nil || !policy.Allows(a) {
					return ErrAddressDenied
				}
				var failed error
				if err := c.Control(func(fd uintptr) {
					if failed = watchHost(int(fd), patienceOf(ctx)); failed == nil {
						failed = t.connect(ctx, int(fd), a)
					}
				}); err != nil {
					return err
				}
				return failed
			},
		}
		return d.DialContext(ctx, "tcp", addr.String())
	}
}

// connect begins to connect a socket that does not wait. The dialer's own call then
// finds that under way, or done (EALREADY, EISCONN), and goes on as usual.
func (t turns) connect(ctx context.Context, fd int, to netip.AddrPort) error {
	var sa unix.Sockaddr
	switch a := to.Addr(); {
	case a.Zone() != "": // which the dialer translates
		return nil
	case a.Is4():
		sa = &unix.SockaddrInet4{Port: int(to.Port()), Addr: a.As4()}
	default:
		sa = &unix.SockaddrInet6{Port: int(to.Port()), Addr: a.As16()}
	}
	taken, err := t.take(ctx)
	if err != nil {
		return err
	}
	if taken {
		defer func() { <-t }()
	}
	switch err := unix.Connect(fd, sa); err {
	case nil, unix.EINPROGRESS, unix.EINTR:
		return nil
	default:
		return os.NewSyscallError("connect", err)
	}
}

// patienceOf is lostAfter, or longer: the option bounds the connect too, which
// must not end before its own deadline.
func patienceOf(ctx context.Context) time.Duration {
	if by, ok := ctx.Deadline(); ok {
		return max(lostAfter, time.Until(by)+time.Second)
	}
	return lostAfter
}

// watchHost lets the kernel find out that the other host has vanished.
func watchHost(fd int, patience time.Duration) error {
	for _, o := range [...]struct{ level, option, value int }{
		{unix.SOL_SOCKET, unix.SO_KEEPALIVE, 1},
		{unix.IPPROTO_TCP, unix.TCP_KEEPIDLE, int(probeAfter / time.Second)},
		{unix.IPPROTO_TCP, unix.TCP_KEEPINTVL, int(probeEvery / time.Second)},
		{unix.IPPROTO_TCP, unix.TCP_USER_TIMEOUT, int(patience / time.Millisecond)},
	} {
		if err := unix.SetsockoptInt(fd, o.level, o.option, o.value); err != nil {
			return os.NewSyscallError("setsockopt", err)
		}
	}
	return nil
}

package upstream

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"syscall"

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

// tcpDialer connects with TCP. Keep-alive probes stay off: they cost four
// system calls per connect, idle connections do not live long enough to need
// them and those in use have read timeouts. TCP_NODELAY is Go's default.
func tcpDialer(policy service.AddressPolicy) func(context.Context, netip.AddrPort) (net.Conn, error) {
	d := net.Dialer{
		KeepAlive: -1,
		// Sees the address that is really dialled, whatever it came from.
		Control: func(_, address string, _ syscall.RawConn) error {
			if a, err := netip.ParseAddrPort(address); err != nil || !policy.Allows(a) {
				return ErrAddressDenied
			}
			return nil
		},
	}
	// Not Dialer.DialTCP: without a local address it still calls bind, which
	// costs a system call and takes a port from all destinations at once.
	return func(ctx context.Context, addr netip.AddrPort) (net.Conn, error) {
		return d.DialContext(ctx, "tcp", addr.String())
	}
}

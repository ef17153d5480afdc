package socket

import (
	"context"
	"net"
	"os"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// The kernel asks a client that has said nothing for probeAfter whether its host is
// still there, and takes it for gone when probes of them, probeEvery apart, stay
// without an answer.
const (
	probeAfter = time.Minute
	probeEvery = 15 * time.Second
	probes     = 9
)

// Listen opens a listening socket for clients at an address of package net. Its
// connections have TCP_NODELAY and keep-alive probes: after a minute of silence
// nine of them, 15 seconds apart.
//
// Linux hands options of the listening socket down to its connections, which saves
// four system calls on each. Only plain TCP does, and Multipath TCP, Go's default,
// costs more in all sockets than it gives behind a balancer.
func Listen(ctx context.Context, addr string) (*net.TCPListener, error) {
	lc := net.ListenConfig{
		KeepAlive: -1, // set here
		Control: func(_, _ string, c syscall.RawConn) error {
			var failed error
			if err := c.Control(func(fd uintptr) { failed = probe(int(fd)) }); err != nil {
				return err
			}
			return failed
		},
	}
	lc.SetMultipathTCP(false)
	l, err := lc.Listen(ctx, "tcp", addr)
	if err != nil {
		return nil, err
	}
	return l.(*net.TCPListener), nil
}

// probe turns keep-alive on.
func probe(fd int) error {
	for _, o := range [...]struct{ level, option, value int }{
		{unix.SOL_SOCKET, unix.SO_KEEPALIVE, 1},
		{unix.IPPROTO_TCP, unix.TCP_KEEPIDLE, int(probeAfter / time.Second)},
		{unix.IPPROTO_TCP, unix.TCP_KEEPINTVL, int(probeEvery / time.Second)},
		{unix.IPPROTO_TCP, unix.TCP_KEEPCNT, probes},
	} {
		if err := unix.SetsockoptInt(fd, o.level, o.option, o.value); err != nil {
			return os.NewSyscallError("setsockopt", err)
		}
	}
	return nil
}

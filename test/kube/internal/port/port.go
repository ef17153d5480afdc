// Package port finds TCP ports of 127.0.0.1 for the programs under test.
package port

import (
	"fmt"
	"math/rand/v2"
	"net"
	"strconv"

	"golang.org/x/sys/unix"
)

// Reservation is a port that stays ours while nobody listens on it, so that a
// server can be stopped and started again at the same address. Only a server
// that sets SO_REUSEPORT, of the same user, can listen on it.
type Reservation struct {
	fd   int
	addr string
}

// Reserve binds a free port without listening: connections to it are refused
// until a server listens, and neither an outgoing connection nor another
// listener can take it meanwhile.
func Reserve() (*Reservation, error) {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("cannot reserve a port: %w", err)
	}
	port, err := bindAny(fd)
	if err != nil {
		unix.Close(fd)
		return nil, fmt.Errorf("cannot reserve a port: %w", err)
	}
	return &Reservation{fd: fd, addr: join(port)}, nil
}

func bindAny(fd int) (int, error) {
	if err := unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_REUSEPORT, 1); err != nil {
		return 0, err
	}
	// For port 0 the kernel never picks a port that another socket holds, not
	// even one with SO_REUSEPORT.
	if err := unix.Bind(fd, &unix.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}); err != nil {
		return 0, err
	}
	name, err := unix.Getsockname(fd)
	if err != nil {
		return 0, err
	}
	v4, ok := name.(*unix.SockaddrInet4)
	if !ok {
		return 0, fmt.Errorf("unexpected socket name %T", name)
	}
	return v4.Port, nil
}

// Addr is the reserved 127.0.0.1:PORT.
func (r *Reservation) Addr() string { return r.addr }

// Port is the reserved port, in decimal.
func (r *Reservation) Port() string {
	_, port, err := net.SplitHostPort(r.addr)
	if err != nil {
		panic("BUG: " + err.Error())
	}
	return port
}

// Close gives the port back.
func (r *Reservation) Close() error { return unix.Close(r.fd) }

// Free returns n different 127.0.0.1:PORT that nobody listened on a moment ago,
// for servers that do not set SO_REUSEPORT. They lie below the range the kernel
// takes ports of outgoing connections from, so only another caller that draws
// the same number in the same moment can get in between.
func Free(n int) ([]string, error) {
	const low, high, tries = 20000, 32000, 200
	var addrs []string
	for range tries {
		addr := join(low + rand.IntN(high-low))
		l, err := net.Listen("tcp", addr)
		if err != nil {
			continue
		}
		defer l.Close() // all together, so that none is drawn twice
		if addrs = append(addrs, addr); len(addrs) == n {
			return addrs, nil
		}
	}
	return nil, fmt.Errorf("cannot find %d free ports on 127.0.0.1", n)
}

func join(port int) string { return net.JoinHostPort("127.0.0.1", strconv.Itoa(port)) }

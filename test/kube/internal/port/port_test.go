package port

import (
	"context"
	"errors"
	"net"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

func TestReserve(t *testing.T) {
	r, err := Reserve()
	if err != nil {
		t.Fatal(err)
	}
	if conn, err := net.Dial("tcp", r.Addr()); !errors.Is(err, unix.ECONNREFUSED) {
		t.Errorf("nobody listens, but Dial gives %v, %v", conn, err)
	}
	if l, err := net.Listen("tcp", r.Addr()); err == nil {
		l.Close()
		t.Error("somebody else can listen")
	}
	sharing := net.ListenConfig{Control: func(_, _ string, c syscall.RawConn) error {
		var err error
		return errors.Join(c.Control(func(fd uintptr) {
			err = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_REUSEPORT, 1)
		}), err)
	}}
	l, err := sharing.Listen(context.Background(), "tcp", r.Addr())
	if err != nil {
		t.Fatalf("a server with SO_REUSEPORT cannot listen: %v", err)
	}
	// All connections reach the one who listens.
	for range 20 {
		conn, err := net.Dial("tcp", r.Addr())
		if err != nil {
			t.Fatal(err)
		}
		conn.Close()
	}
	l.Close()
	if err := r.Close(); err != nil {
		t.Error(err)
	}
}

func TestFree(t *testing.T) {
	addrs, err := Free(3)
	if err != nil {
		t.Fatal(err)
	}
	seen := map[string]bool{}
	for _, addr := range addrs {
		if seen[addr] {
			t.Errorf("%s twice", addr)
		}
		seen[addr] = true
		l, err := net.Listen("tcp", addr)
		if err != nil {
			t.Errorf("not free: %v", err)
			continue
		}
		l.Close()
	}
}

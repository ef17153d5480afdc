package proxy

import (
	"io"
	"net"
	"testing"

	"golang.org/x/sys/unix"
)

// corked sends the text and the end of the connection in one segment.
func corked(t *testing.T, c net.Conn, text string) {
	t.Helper()
	tcp := c.(*net.TCPConn)
	raw, err := tcp.SyscallConn()
	if err != nil {
		t.Error(err)
		return
	}
	raw.Control(func(fd uintptr) { err = unix.SetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_CORK, 1) })
	if err != nil {
		t.Error(err)
	}
	io.WriteString(c, text)
	if err := tcp.CloseWrite(); err != nil {
		t.Error(err)
	}
}

// reset ends the connection with RST.
func reset(c net.Conn) {
	c.(*net.TCPConn).SetLinger(0)
	c.Close()
}

package testserver

import (
	"context"
	"io"
	"net"
	"strings"
	"testing"
)

func TestRelay(t *testing.T) {
	listen := func() net.Listener {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { l.Close() })
		return l
	}
	ctx, stop := context.WithCancel(t.Context())
	l, echo := listen(), listen()
	done := make(chan error, 1)
	go func() { done <- ServeRelay(ctx, l) }()
	go func() {
		for {
			c, err := echo.Accept()
			if err != nil {
				return
			}
			io.Copy(c, c)
			c.Close()
		}
	}()
	dial := DialThrough(l.Addr().String())
	c, err := dial(ctx, "tcp", echo.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	io.WriteString(c, "there and back")
	c.(*net.TCPConn).CloseWrite()
	if b, err := io.ReadAll(c); string(b) != "there and back" || err != nil {
		t.Errorf("got %q, %v", b, err)
	}
	c.Close()
	gone := listen()
	gone.Close()
	if _, err := dial(ctx, "tcp", gone.Addr().String()); err == nil || !strings.Contains(err.Error(), "refused") {
		t.Errorf("a refused connection: %v", err)
	}
	stop()
	if err := <-done; err != nil {
		t.Error(err)
	}
}

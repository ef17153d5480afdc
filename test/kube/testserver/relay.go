package testserver

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"time"
)

// connectTimeout bounds what a relay does before it carries bytes.
const connectTimeout = 5 * time.Second

// ServeRelay takes connections from l until ctx ends: each names an address
// HOST:PORT in its first line, is told "ok" or what is wrong, and is carried
// there. So a test opens connections from inside of a pod, see DialThrough.
func ServeRelay(ctx context.Context, l net.Listener) error {
	return eachConn(ctx, l, func(conn net.Conn) { relay(ctx, conn) })
}

func relay(ctx context.Context, conn net.Conn) {
	in := bufio.NewReader(conn)
	conn.SetReadDeadline(time.Now().Add(connectTimeout))
	addr, err := in.ReadString('\n')
	if err != nil {
		return
	}
	conn.SetReadDeadline(time.Time{})
	dialer := net.Dialer{Timeout: connectTimeout}
	out, err := dialer.DialContext(ctx, "tcp", strings.TrimSpace(addr))
	if err != nil {
		fmt.Fprintf(conn, "%v\n", err)
		return
	}
	defer out.Close()
	if _, err := io.WriteString(conn, "ok\n"); err != nil {
		return
	}
	// Each side's end is passed on as it is, whether in good order or by RST.
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		carry(out, in)
	}()
	carry(conn, out)
	<-ended
}

// carry copies until the end, and ends to as from ended.
func carry(to net.Conn, from io.Reader) {
	t := to.(*net.TCPConn)
	if _, err := io.Copy(t, from); err != nil {
		t.SetLinger(0)
		t.Close()
		return
	}
	t.CloseWrite()
}

// DialThrough gives a function as net.Dialer.DialContext whose connections come
// from where the relay at addr runs; names are looked up there.
func DialThrough(addr string) func(ctx context.Context, network, address string) (net.Conn, error) {
	return func(ctx context.Context, network, address string) (net.Conn, error) {
		var d net.Dialer
		conn, err := d.DialContext(ctx, network, addr)
		if err != nil {
			return nil, err
		}
		if err := request(ctx, conn, address); err != nil {
			conn.Close()
			return nil, fmt.Errorf("cannot connect to %s from the relay: %w", address, err)
		}
		return conn, nil
	}
}

func request(ctx context.Context, conn net.Conn, address string) error {
	stop := context.AfterFunc(ctx, func() { conn.SetDeadline(time.Now()) })
	defer stop()
	if _, err := io.WriteString(conn, address+"\n"); err != nil {
		return err
	}
	// Byte by byte: what follows the line is not ours.
	var line []byte
	for b := []byte{0}; ; line = append(line, b[0]) {
		if _, err := io.ReadFull(conn, b); err != nil {
			return err
		}
		if b[0] == '\n' {
			break
		}
	}
	if string(line) != "ok" {
		return errors.New(string(line))
	}
	return nil
}

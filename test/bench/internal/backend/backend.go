// Package backend is the server behind the proxies of a benchmark: a raw
// HTTP/1.1 loop that answers every GET with the same body, as cheaply as a Go
// program can, so that it takes little from the load's CPU. A target that ends
// with ?echo is answered with the request head as it came, by which a proxy's
// work can be checked. It knows no request bodies and no other methods: it
// closes such connections. It is no server for anything but benchmarks.
package backend

import (
	"bytes"
	"context"
	"errors"
	"net"
	"strconv"

	"golang.org/x/sys/unix"
)

// maxHead is the largest request head, in bytes.
const maxHead = 16 << 10

// Body is n bytes of text to answer with.
func Body(n int) []byte {
	const text = "the quick brown fox jumps over the lazy dog; "
	return bytes.Repeat([]byte(text), n/len(text)+1)[:n]
}

// Serve answers on l until ctx ends; it closes l.
func Serve(ctx context.Context, l net.Listener, body []byte) error {
	return accept(ctx, l, serve, body)
}

// accept serves each connection in a goroutine of its own.
func accept(ctx context.Context, l net.Listener, serve func(*net.TCPConn, []byte), body []byte) error {
	defer l.Close()
	stop := context.AfterFunc(ctx, func() { l.Close() })
	defer stop()
	answer := appendAnswer(nil, body)
	for {
		nc, err := l.Accept()
		if ctx.Err() != nil {
			return nil
		}
		if err != nil {
			return err
		}
		go func() {
			defer nc.Close()
			stop := context.AfterFunc(ctx, func() { nc.Close() })
			defer stop()
			serve(nc.(*net.TCPConn), answer)
		}()
	}
}

func appendAnswer(b, body []byte) []byte {
	b = append(b, "HTTP/1.1 200 OK\r\nServer: bench\r\nContent-Type: text/plain\r\nContent-Length: "...)
	b = strconv.AppendInt(b, int64(len(body)), 10)
	b = append(b, "\r\n\r\n"...)
	return append(b, body...)
}

// serve holds one raw read open for the connection's life: a request is then
// one read and one write, without the failed read that net.Conn makes first.
func serve(nc *net.TCPConn, answer []byte) {
	raw, err := nc.SyscallConn()
	if err != nil {
		return
	}
	var (
		buf    = make([]byte, maxHead)
		filled int
		out    []byte
	)
	_ = raw.Read(func(fd uintptr) (done bool) {
		n, err := unix.Read(int(fd), buf[filled:])
		switch {
		case errors.Is(err, unix.EAGAIN), errors.Is(err, unix.EINTR):
			return false
		case err != nil, n <= 0:
			return true
		}
		filled += n
		out = out[:0]
		in := buf[:filled]
		for {
			end := bytes.Index(in, []byte("\r\n\r\n"))
			if end < 0 {
				break
			}
			var ok bool
			if out, ok = answerTo(out, in[:end+4], answer); !ok {
				return true
			}
			in = in[end+4:]
		}
		filled = copy(buf, in)
		if len(out) > 0 {
			// A small answer always fits into the socket's buffer; the rest of a
			// large one waits until there is room.
			n, err := unix.Write(int(fd), out)
			if err != nil && !errors.Is(err, unix.EAGAIN) {
				return true
			}
			if n = max(n, 0); n < len(out) {
				if _, err := nc.Write(out[n:]); err != nil {
					return true
				}
			}
		}
		return filled == len(buf)
	})
}

func answerTo(out, head, answer []byte) ([]byte, bool) {
	line, _, _ := bytes.Cut(head, []byte("\r\n"))
	target, ok := bytes.CutPrefix(line, []byte("GET "))
	if !ok {
		return out, false
	}
	target, ok = bytes.CutSuffix(target, []byte(" HTTP/1.1"))
	switch {
	case !ok:
		return out, false
	case bytes.HasSuffix(target, []byte("?echo")):
		return appendAnswer(out, head), true
	}
	return append(out, answer...), true
}

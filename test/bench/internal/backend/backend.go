// Package backend is the server behind the proxies of a benchmark: a raw
// HTTP/1.1 loop that answers every GET with the same body, as cheaply as a Go
// program can, so that it takes little from the load's CPU. A target that ends
// with ?echo is answered with the request head as it came, by which a proxy's
// work can be checked. A POST must bring what Body makes, with a Content-Length,
// and is answered alike; a WebSocket gets back each message. With ServeH2 and
// ServeTLS it speaks HTTP/2 too, and answers gRPC calls. All else it closes the
// connection for. It is no server for anything but benchmarks.
package backend

import (
	"bytes"
	"context"
	"errors"
	"net"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// maxHead is the largest request head, in bytes.
const maxHead = 16 << 10

const text = "the quick brown fox jumps over the lazy dog; "

// Body is n bytes of text to answer with.
func Body(n int) []byte {
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
		d      = dialogue{answer: answer}
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
		in, ok := buf[:filled], true
		if out, in, ok = d.replies(out[:0], in); !ok {
			return true
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

// dialogue is what is said on one connection.
type dialogue struct {
	answer   []byte
	upgraded bool // to a WebSocket
}

// replies answers all that is whole in in, and returns the rest of it.
func (d *dialogue) replies(out, in []byte) (_, rest []byte, ok bool) {
	for {
		var used int
		if d.upgraded {
			out, used, ok = echoFrame(out, in)
		} else {
			out, used, ok = d.reply(out, in)
		}
		if !ok || used == 0 {
			return out, in, ok
		}
		in = in[used:]
	}
}

// reply answers the request that in begins with, and says how long it is; 0 when
// it is not whole.
func (d *dialogue) reply(out, in []byte) (_ []byte, used int, ok bool) {
	end := bytes.Index(in, []byte("\r\n\r\n"))
	if end < 0 {
		return out, 0, true
	}
	head := in[:end+4]
	line, _, _ := bytes.Cut(head, []byte("\r\n"))
	method, target, _ := bytes.Cut(line, []byte(" "))
	target, ok = bytes.CutSuffix(target, []byte(" HTTP/1.1"))
	if !ok {
		return out, 0, false
	}
	switch {
	case string(method) == "POST":
		n, err := strconv.Atoi(field(head, "Content-Length"))
		if err != nil || n > maxHead/2 {
			return out, 0, false
		}
		if len(in) < len(head)+n {
			return out, 0, true
		}
		used = len(head) + n
		return append(out, d.answer...), used, isBody(in[len(head):used])
	case string(method) != "GET":
		return out, 0, false
	case field(head, "Sec-WebSocket-Key") != "":
		d.upgraded = true
		return appendUpgrade(out, field(head, "Sec-WebSocket-Key")), len(head), true
	case bytes.HasSuffix(target, []byte("?echo")):
		return appendAnswer(out, head), len(head), true
	}
	return append(out, d.answer...), len(head), true
}

// isBody says whether p is what Body makes.
func isBody(p []byte) bool {
	for n := 0; n < len(p); n += len(text) {
		if string(p[n:min(n+len(text), len(p))]) != text[:min(len(text), len(p)-n)] {
			return false
		}
	}
	return true
}

// field is the value of a head's field, "" without it. Proxies keep the spelling
// of names or write them in small letters.
func field(head []byte, name string) string {
	for _, n := range []string{name, strings.ToLower(name)} {
		_, rest, ok := bytes.Cut(head, []byte("\r\n"+n+": "))
		if ok {
			value, _, _ := bytes.Cut(rest, []byte("\r\n"))
			return string(value)
		}
	}
	return ""
}

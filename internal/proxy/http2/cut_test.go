package http2

import (
	"errors"
	"io"
	"testing"
	"time"

	xhttp2 "golang.org/x/net/http2"
)

// A body of which a part was thrown away by a reset is never done, although its
// END_STREAM was received and nothing of it is left to give: it would pass for a
// whole one elsewhere (RFC 9113, section 8.1).
func TestResetBodyIsNotDone(t *testing.T) {
	type result struct {
		early, late bool
		rest        error
	}
	got := make(chan result, 1)
	half := make(chan struct{})
	addr, _ := serve(t, ServerOptions{Exchange: func(s *Stream) {
		var r result
		s.ReadBody()
		close(half)
		untilGone(s)
		r.early = s.BodyDone() // what comes after one run is asked now
		_, r.rest = s.BufferedBody()
		r.late = s.BodyDone()
		got <- r
	}})
	p := rawClient(t, addr)
	must(t, p.headers(1, false, ":method", "POST", ":scheme", "http", ":path", "/", ":authority", "a"))
	must(t, p.WriteData(1, false, []byte("one half")))
	<-half
	must(t, p.WriteData(1, true, []byte("the other")))
	must(t, p.WriteRSTStream(1, xhttp2.ErrCodeCancel))
	var se *StreamError
	if r := <-got; r.early || r.late || !errors.As(r.rest, &se) {
		t.Errorf("%+v", r)
	}
}

// Likewise when nobody wanted the rest.
func TestStoppedBodyIsNotDone(t *testing.T) {
	got := make(chan bool, 1)
	addr, _ := serve(t, ServerOptions{Exchange: func(s *Stream) {
		s.StopReading()
		s.c.mu.Lock()
		for !s.recvEnd && s.err == nil {
			var deadline time.Time
			s.sleep(&s.recv, time.Minute, &deadline)
		}
		s.c.mu.Unlock()
		got <- s.BodyDone()
		s.WriteLocal(200, nil, nil)
	}})
	p := rawClient(t, addr)
	must(t, p.headers(1, false, ":method", "POST", ":scheme", "http", ":path", "/", ":authority", "a"))
	must(t, p.WriteData(1, true, []byte("payload")))
	if <-got {
		t.Error("done")
	}
}

// A message ends with its last frame, padding included: a connection that ends
// within it has cut the message.
func TestEndInPaddingIsACut(t *testing.T) {
	c, p := rawServer(t, ClientOptions{})
	s := start(t, c, p)
	must(t, p.headers(1, false, ":status", "200"))
	_, err := s.ReadHead()
	must(t, err)
	_, err = io.WriteString(p.nc, "\x00\x00\x07\x00\x09\x00\x00\x00\x01\x03abc\x00")
	must(t, err)
	p.nc.Close()
	if body, err := readAll(s); body != "abc" || err == nil || s.BodyDone() {
		t.Errorf("%q, %v", body, err)
	}
	s.Close()

	c, p = rawServer(t, ClientOptions{})
	s = start(t, c, p)
	must(t, p.headers(1, false, ":status", "200"))
	_, err = io.WriteString(p.nc, "\x00\x00\x07\x00\x09\x00\x00\x00\x01\x03abc\x00")
	must(t, err)
	if body, err := s.ReadBody(); string(body) != "abc" || err != nil || s.BodyDone() {
		t.Errorf("%q, %v", body, err)
	}
	_, err = io.WriteString(p.nc, "\x00\x00")
	must(t, err)
	if body, err := s.ReadBody(); len(body) > 0 || err != io.EOF || !s.BodyDone() {
		t.Errorf("%q, %v", body, err)
	}
}

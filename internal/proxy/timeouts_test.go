package proxy

import (
	"bufio"
	"crypto/tls"
	"io"
	"net"
	"strings"
	"testing"
	"time"
)

const short = 150 * time.Millisecond

// ok is the shortest answer that keeps the connection.
const ok = "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"

// mute reads the head and never answers; it tells when the connection ends.
func mute(t *testing.T, ended chan<- int) *backend {
	return newBackend(t, func(n int, c net.Conn, r *bufio.Reader) {
		readHead(r)
		io.Copy(io.Discard, r)
		ended <- n
	})
}

func TestSlowHead(t *testing.T) {
	e := newEdge(t, func(o *Options) { o.HeaderTimeout = short }, echo(t))
	for _, part := range []string{"G", "GET / HTTP/1.1\r\nHost: exam", "GET / HTTP/1.1\r\nHost: example.com\r\n"} {
		c := e.dial()
		c.write(part)
		if res, _ := c.read("GET"); res.StatusCode != 408 || !res.Close {
			t.Errorf("%q: %v", part, res)
		}
		c.closed()
	}
	// A byte now and then does not help: the limit is on the whole head.
	c := e.dial()
	done := make(chan struct{})
	go func() {
		defer close(done)
		for _, b := range []byte(get[:len(get)-1]) {
			time.Sleep(short / 10) // the client's slowness is what is tested
			if _, err := c.Conn.Write([]byte{b}); err != nil {
				return
			}
		}
	}()
	if res, _ := c.read("GET"); res.StatusCode != 408 {
		t.Errorf("%v", res)
	}
	c.closed()
	<-done
}

func TestIdleConnectionEndsSilently(t *testing.T) {
	e := newEdge(t, func(o *Options) { o.IdleTimeout = short }, echo(t))
	e.dial().closed()
	c := e.dial()
	c.roundTrip(get)
	c.closed()
	c = e.dialTLS(tls.VersionTLS13)
	c.roundTrip(get)
	c.closed()
	c = e.dial()
	c.write("\r\n\r\n") // not the beginning of a request
	c.closed()
	if n := len(e.logs()); n != 2 {
		t.Errorf("%d lines logged", n)
	}
}

func TestSlowBody(t *testing.T) {
	rec := newRecorder(t, "")
	e := newEdge(t, func(o *Options) { o.BodyTimeout = short }, rec.addr())
	for _, framing := range []string{"Content-Length: 10\r\n\r\nhello", "Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n", "Transfer-Encoding: chunked\r\n\r\n", "Content-Length: 10\r\nExpect: 100-continue\r\n\r\n"} {
		c := e.dial()
		c.write(post + framing)
		if res, _ := c.read("POST"); res.StatusCode != 408 || !res.Close {
			t.Errorf("%q: %v", framing, res)
		}
		c.closed()
	}
	if strings.Contains(rec.got.String(), "\r\n0\r\n") {
		t.Errorf("a cut body was ended: %q", rec.got.String())
	}
}

func TestSilentEndpoint(t *testing.T) {
	ended := make(chan int, 8)
	b := mute(t, ended)
	e := newEdge(t, func(o *Options) { o.UpstreamRead = short }, b.addr())
	c := e.dial()
	for n := range 2 { // the client's connection goes on, the endpoint's does not
		if res, body := c.roundTrip(get); res.StatusCode != 504 || !strings.Contains(body, "UpstreamTimeout") || res.Close {
			t.Errorf("%d %q", res.StatusCode, body)
		}
		if got := <-ended; got != n+1 {
			t.Errorf("connection %d ended, want %d", got, n+1)
		}
	}
}

// An endpoint's time begins when it has the whole request.
func TestLongUploadIsNoTimeout(t *testing.T) {
	b := newBackend(t, func(_ int, c net.Conn, r *bufio.Reader) {
		readHead(r)
		io.CopyN(io.Discard, r, 10)
		io.WriteString(c, ok)
	})
	e := newEdge(t, func(o *Options) { o.UpstreamRead = short }, b.addr())
	c := e.dial()
	c.write(post + "Content-Length: 10\r\n\r\n")
	start := time.Now()
	for range 10 {
		time.Sleep(short / 3) // the client's slowness is what is tested
		c.write("x")
	}
	if res, _ := c.read("POST"); res.StatusCode != 200 || time.Since(start) < 2*short {
		t.Errorf("%v after %v", res, time.Since(start))
	}
}

// A stream may last as long as it likes, but not pause for too long.
func TestStalledAnswer(t *testing.T) {
	for _, head := range []string{"HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n", "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\n"} {
		e := newEdge(t, func(o *Options) { o.UpstreamRead = 8 * short }, newBackend(t, func(_ int, c net.Conn, r *bufio.Reader) {
			readHead(r)
			io.WriteString(c, head)
			for range 3 {
				time.Sleep(short * 3 / 2) // the endpoint's slowness is what is tested
				io.WriteString(c, "x")
			}
			io.Copy(io.Discard, r)
		}).addr())
		got := e.raw(get)
		if strings.Count(got, "x") != 3 || strings.HasSuffix(got, "0\r\n\r\n") {
			t.Errorf("%q: got %q", head, got)
		}
		if l := e.lastLog(); l["reason"] != "UpstreamCut" {
			t.Errorf("%v", l)
		}
	}
}

// A client that has hung up frees the endpoint's connection soon, whether it
// waits for the head or for the rest of the answer.
func TestClientHangsUp(t *testing.T) {
	heads := map[string]string{
		"no answer": "", "length": "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nx", "spliced": "HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\nx",
		"chunks": "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\n", "to the end": "HTTP/1.1 200 OK\r\n\r\nx",
	}
	for name, head := range heads {
		for _, how := range []string{"RST", "FIN"} {
			t.Run(name+" "+how, func(t *testing.T) {
				asked, ended := make(chan struct{}), make(chan int, 1)
				b := newBackend(t, func(n int, c net.Conn, r *bufio.Reader) {
					readHead(r)
					io.WriteString(c, head)
					close(asked)
					io.Copy(io.Discard, r)
					ended <- n
				})
				e := newEdge(t, func(o *Options) { o.watch, o.halfClose = 10*time.Millisecond, 50*time.Millisecond }, b.addr())
				c := e.dial()
				c.write(get)
				<-asked
				if head != "" {
					c.r.ReadByte()
				}
				if how == "RST" {
					reset(c.Conn)
				} else {
					c.tcp.CloseWrite()
				}
				<-ended
				want := 499.0
				if head != "" {
					want = 200
				}
				if l := e.lastLog(); l["reason"] != "ClientGone" || l["status"] != want {
					t.Errorf("%v", l)
				}
			})
		}
	}
}

// A client that has only ended its side gets its answer, if it comes in time.
func TestHalfClosedClientIsAnswered(t *testing.T) {
	asked, answer := make(chan struct{}, 1), make(chan struct{})
	e := newEdge(t, func(o *Options) { o.watch = time.Millisecond }, newBackend(t, func(_ int, c net.Conn, r *bufio.Reader) {
		for {
			if _, err := readHead(r); err != nil {
				return
			}
			asked <- struct{}{}
			<-answer
			io.WriteString(c, ok)
		}
	}).addr())
	for _, c := range []*client{e.dial(), e.dialTLS(tls.VersionTLS13)} {
		c.write(get)
		c.Conn.(interface{ CloseWrite() error }).CloseWrite()
		<-asked
		time.Sleep(20 * time.Millisecond) // long enough for many looks
		answer <- struct{}{}
		if res, _ := c.read("GET"); res.StatusCode != 200 {
			t.Errorf("%v", res)
		}
		c.closed()
	}
}

// A client that stops reading is given up.
func TestClientDoesNotRead(t *testing.T) {
	big := strings.Repeat("x", 32<<20)
	for _, framing := range []string{"Content-Length: 33554432\r\n\r\n" + big, "\r\n" + big} {
		e := newEdge(t, func(o *Options) { o.SendTimeout = short }, newBackend(t, func(_ int, c net.Conn, r *bufio.Reader) {
			readHead(r)
			io.WriteString(c, "HTTP/1.1 200 OK\r\n"+framing)
		}).addr())
		c := e.dial()
		c.tcp.SetReadBuffer(4096)
		c.write(get)
		wait(t, "the connection is given up", func() bool { return e.o.Stats.HTTP.Accepted.Load() == 1 && e.o.Stats.HTTP.Active.Load() == 0 })
		if l := e.lastLog(); l["reason"] != "ClientGone" {
			t.Errorf("%v", l)
		}
	}
}

// TestClientReadsSlowly: a client that takes long for an answer, but never long
// for a part of it, gets all of it.
func TestClientReadsSlowly(t *testing.T) {
	big := strings.Repeat("x", 32<<20)
	for _, framing := range []string{"Content-Length: 33554432\r\n\r\n" + big, "\r\n" + big} {
		e := newEdge(t, func(o *Options) { o.SendTimeout = 4 * short }, newBackend(t, func(_ int, c net.Conn, r *bufio.Reader) {
			readHead(r)
			io.WriteString(c, "HTTP/1.1 200 OK\r\n"+framing)
		}).addr())
		c := e.dial()
		c.tcp.SetReadBuffer(64 << 10)
		c.r = bufio.NewReader(&slowReader{r: c.Conn})
		c.write(get)
		began := time.Now()
		if res, body := c.read("GET"); res.StatusCode != 200 || len(body) != len(big) {
			t.Errorf("%v with %d bytes", res.Status, len(body))
		}
		if d := time.Since(began); d < 8*short {
			t.Errorf("it took only %v", d)
		}
	}
}

// slowReader pauses after each MiB.
type slowReader struct {
	r io.Reader
	n int
}

func (s *slowReader) Read(p []byte) (int, error) {
	n, err := s.r.Read(p)
	if s.n += n; s.n >= 1<<20 {
		s.n = 0
		time.Sleep(short / 3) // the client's slowness is what is tested
	}
	return n, err
}

func TestHandshakeTimeout(t *testing.T) {
	e := newEdge(t, func(o *Options) { o.HandshakeTimeout = short }, echo(t))
	c := e.dialTLS(tls.VersionTLS13)
	if _, err := io.ReadAll(c.tcp); err != nil { // no ClientHello
		t.Error(err)
	}
	if n := e.o.Stats.TLSHandshakes.Failed.Load(); n != 1 {
		t.Errorf("%d handshakes counted as failed", n)
	}
}

package proxy

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"regexp"
	"strings"
	"testing"

	"gatehouse.dev/gatehouse/internal/proxy/http1"
)

const get10 = "GET / HTTP/1.0\r\nHost: example.com\r\n\r\n"

// once answers one request on each connection and then closes it.
func once(answer string) func(int, net.Conn, *bufio.Reader) { return script(answer) }

// raw sends a request and gives every byte up to the end of the connection.
func (e *edge) raw(req string) string {
	e.t.Helper()
	c := e.dial()
	defer c.Conn.Close()
	c.write(req)
	b, _ := io.ReadAll(c.r)
	return string(b)
}

// undated takes out the Date of each response, of which there must be exactly one
// where the endpoint sent none (RFC 9110, section 6.6.1).
func undated(t *testing.T, s string) string {
	t.Helper()
	if dates := len(dateLine.FindAllString(s, -1)); dates != strings.Count(s, "HTTP/1.1 2") {
		t.Errorf("%d Date fields in %q", dates, s)
	}
	return dateLine.ReplaceAllString(s, "")
}

var dateLine = regexp.MustCompile("Date: [A-Z][a-z]{2}, [0-9]{2} [A-Z][a-z]{2} [0-9]{4} [0-9:]{8} GMT\r\n")

// An answer's end is told in the way that the client's version knows.
func TestAnswerFraming(t *testing.T) {
	const (
		length  = "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello"
		chunks  = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2;x=y\r\nhe\r\n3\r\nllo\r\n0\r\nX-T: v\r\n\r\n"
		toEnd   = "HTTP/1.1 200 OK\r\n\r\nhello"
		toEnd10 = "HTTP/1.0 200 OK\r\n\r\nhello"
	)
	f := func(name, answer, request, want string) {
		t.Helper()
		e := newEdge(t, nil, newBackend(t, once(answer)).addr())
		if got := undated(t, e.raw(request)); got != want {
			t.Errorf("%s: %q, want %q", name, got, want)
		}
	}
	const close11 = "GET / HTTP/1.1\r\nHost: example.com\r\nConnection: close\r\n\r\n"
	f("length", length, close11, "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nConnection: close\r\n\r\nhello")
	f("chunks", chunks, close11, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n2\r\nhe\r\n3\r\nllo\r\n0\r\nX-T: v\r\n\r\n")
	f("to the end", toEnd, close11, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n5\r\nhello\r\n0\r\n\r\n")
	f("to the end, 1.0", toEnd10, close11, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n5\r\nhello\r\n0\r\n\r\n")
	f("length to 1.0", length, get10, "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nConnection: close\r\n\r\nhello")
	f("chunks to 1.0", chunks, get10, "HTTP/1.1 200 OK\r\nConnection: close\r\n\r\nhello")
	f("to the end to 1.0", toEnd, get10, "HTTP/1.1 200 OK\r\nConnection: close\r\n\r\nhello")
	const keep10 = "GET / HTTP/1.0\r\nHost: example.com\r\nConnection: keep-alive\r\n\r\n"
	f("to the end to 1.0, keep-alive", toEnd, keep10, "HTTP/1.1 200 OK\r\nConnection: close\r\n\r\nhello")
	f("length to 1.0, keep-alive, then end", length, keep10+get10,
		"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nConnection: keep-alive\r\n\r\nhello"+"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nConnection: close\r\n\r\nhello")
}

// Answers without a body have none, whatever their fields say, and the bytes
// that follow are the next answer.
func TestAnswersWithoutBody(t *testing.T) {
	for _, answer := range []string{
		"HTTP/1.1 204 No Content\r\n\r\n",
		"HTTP/1.1 204 No Content\r\nContent-Length: 5\r\n\r\n",
		"HTTP/1.1 204 No Content\r\nTransfer-Encoding: chunked\r\n\r\n",
		"HTTP/1.1 304 Not Modified\r\nContent-Length: 5\r\n\r\n",
		"HTTP/1.1 304 Not Modified\r\nTransfer-Encoding: chunked\r\n\r\n",
		"HTTP/1.1 304 Not Modified\r\nETag: x\r\n\r\n",
	} {
		b := newBackend(t, script(answer, answer))
		e := newEdge(t, nil, b.addr())
		c := e.dial()
		for range 2 {
			res, body := c.roundTrip(get)
			if res.StatusCode/100 == 5 || body != "" || len(res.TransferEncoding) > 0 {
				t.Errorf("%q: %d %q %v", answer, res.StatusCode, body, res.TransferEncoding)
			}
			if res.StatusCode == 204 && res.Header.Get("Content-Length") != "" {
				t.Errorf("%q: passed on with a length", answer)
			}
		}
		c.Conn.Close()
		// A 204 that is framed all the same may have a body behind it.
		want := 1
		if strings.Contains(answer, "204 No Content\r\nC") || strings.Contains(answer, "204 No Content\r\nT") {
			want = 2
		}
		if n := b.count(); n != want {
			t.Errorf("%q: %d connections to the endpoint, want %d", answer, n, want)
		}
	}
	for _, answer := range []string{
		"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n",
		"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n",
		"HTTP/1.1 200 OK\r\n\r\n",
	} {
		b := newBackend(t, script(answer, answer))
		e := newEdge(t, nil, b.addr())
		c := e.dial()
		for range 2 {
			if res, _ := c.roundTrip("HEAD / HTTP/1.1\r\nHost: example.com\r\n\r\n"); res.StatusCode != 200 {
				t.Errorf("%q: %d", answer, res.StatusCode)
			}
		}
		c.Conn.Close()
		if n := b.count(); n != 1 {
			t.Errorf("%q: %d connections to the endpoint", answer, n)
		}
	}
}

func TestInterimAnswers(t *testing.T) {
	const final = "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"
	e := newEdge(t, nil, newBackend(t, once("HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: </a>\r\nConnection: x\r\n\r\n"+final)).addr())
	c := e.dial()
	c.write(get)
	// The 100 was not asked for, the 103 is for whoever understands it.
	if res, _ := c.read("GET"); res.StatusCode != 103 || res.Header.Get("Link") != "</a>" || res.Header.Get("Connection") != "" {
		t.Fatalf("%v", res)
	}
	if res, _ := c.read("GET"); res.StatusCode != 200 {
		t.Fatalf("%v", res)
	}
	if got := e.raw(get10); !strings.HasPrefix(got, "HTTP/1.1 200 OK\r\n") {
		t.Errorf("HTTP/1.0 got %q", got)
	}
}

func TestExpectContinue(t *testing.T) {
	heads := make(chan string, 1)
	e := newEdge(t, nil, newBackend(t, func(_ int, c net.Conn, r *bufio.Reader) {
		for {
			h, err := readHead(r)
			if err != nil {
				return
			}
			heads <- h
			if strings.HasPrefix(h, "POST /no") {
				io.WriteString(c, "HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n")
				continue
			}
			if strings.HasPrefix(h, "POST /yes") {
				io.WriteString(c, "HTTP/1.1 100 Continue\r\n\r\n")
			}
			body := make([]byte, 5)
			io.ReadFull(r, body)
			fmt.Fprintf(c, "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n%s", body)
		}
	}).addr())
	request := func(path string) string {
		return "POST " + path + " HTTP/1.1\r\nHost: example.com\r\nContent-Length: 5\r\nExpect: 100-continue\r\n\r\n"
	}
	c := e.dial()
	for range 2 { // relayed, and the connection goes on
		c.write(request("/yes"))
		if h := <-heads; !strings.Contains(h, "\r\nExpect: 100-continue\r\n") {
			t.Fatalf("not passed on: %q", h)
		}
		if res, _ := c.read("POST"); res.StatusCode != 100 {
			t.Fatalf("%v", res)
		}
		c.write("hello")
		if res, body := c.read("POST"); res.StatusCode != 200 || body != "hello" {
			t.Fatalf("%v %q", res, body)
		}
	}
	// The endpoint says nothing and the client gets tired of waiting.
	c.write(request("/silent"))
	<-heads
	c.write("hello")
	if res, body := c.read("POST"); res.StatusCode != 200 || body != "hello" {
		t.Fatalf("%v %q", res, body)
	}
	// The body is there at once: nobody waits.
	c.write(request("/silent") + "hello")
	<-heads
	if res, body := c.read("POST"); res.StatusCode != 200 || body != "hello" {
		t.Fatalf("%v %q", res, body)
	}
	// A final answer instead of 100: the body may or may not follow.
	c.write(request("/no"))
	<-heads
	if res, _ := c.read("POST"); res.StatusCode != 403 || !res.Close {
		t.Fatalf("%v", res)
	}
	c.closed()
	// The same, made here.
	c = e.dial()
	c.write(strings.Replace(request("/admin"), "\r\n\r\n", "\r\nX: y\r\n\r\n", 1))
	if res, _ := c.read("POST"); res.StatusCode != 503 || !res.Close {
		t.Fatalf("%v", res)
	}
	c.closed()
}

func TestPipelining(t *testing.T) {
	e := newEdge(t, nil, echo(t))
	c := e.dial()
	request := func(path, body string) string {
		return fmt.Sprintf("POST %s HTTP/1.1\r\nHost: example.com\r\nContent-Length: %d\r\n\r\n%s", path, len(body), body)
	}
	chunked := "PUT /4 HTTP/1.1\r\nHost: example.com\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n"
	big := strings.Repeat("x", 200<<10)
	c.write(strings.Replace(get, " / ", " /1 ", 1) + request("/2", "ab") + request("/admin", "wasted") + chunked + "\r\n" + request("/5", big) + strings.Replace(get, " / ", " /6 ", 1))
	for _, want := range []string{
		"GET /1 host=example.com body=0\n", "POST /2 host=example.com body=2\n", "503 Service", "PUT /4 host=example.com body=3\n",
		"POST /5 host=example.com body=204800\n", "GET /6 host=example.com body=0\n",
	} {
		if _, body := c.read("GET"); !strings.HasPrefix(body, want) {
			t.Fatalf("%.100q, want %q", body, want)
		}
	}
}

// Trailers reach both sides, and so does every byte of streamed chunks.
func TestChunksAndTrailersBothWays(t *testing.T) {
	got := make(chan *http.Request, 1)
	payload := make(chan string, 1)
	b := newBackend(t, func(_ int, c net.Conn, r *bufio.Reader) {
		for {
			req, err := http.ReadRequest(r)
			if err != nil {
				return
			}
			body, _ := io.ReadAll(req.Body)
			got <- req
			payload <- string(body)
			fmt.Fprintf(c, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: X-Sum\r\n\r\n")
			for rest := string(body); rest != ""; {
				n := min(len(rest), 10007)
				fmt.Fprintf(c, "%x\r\n%s\r\n", n, rest[:n])
				rest = rest[n:]
			}
			io.WriteString(c, "0\r\nX-Sum: 42\r\nContent-Length: 7\r\n\r\n")
		}
	})
	e := newEdge(t, nil, b.addr())
	c := e.dial()
	for _, size := range []int{0, 1, 5000, http1.LargeBuffer, 1 << 20} {
		body := strings.Repeat("0123456789", size/10+1)[:size]
		go func() {
			io.WriteString(c.Conn, "POST / HTTP/1.1\r\nHost: example.com\r\nTransfer-Encoding: chunked\r\n\r\n")
			for rest := body; rest != ""; {
				n := min(len(rest), 4999)
				fmt.Fprintf(c.Conn, "%x;ext=\"v\"\r\n%s\r\n", n, rest[:n])
				rest = rest[n:]
			}
			io.WriteString(c.Conn, "0\r\nX-Trail: er\r\n\r\n")
		}()
		res, err := http.ReadResponse(c.r, nil)
		if err != nil {
			t.Fatal(err)
		}
		back, err := io.ReadAll(res.Body)
		if err != nil || string(back) != body || res.Trailer.Get("X-Sum") != "42" || res.Trailer.Get("Content-Length") != "" {
			t.Fatalf("%d bytes of %d, %v, trailer %v", len(back), size, err, res.Trailer)
		}
		if req, sent := <-got, <-payload; sent != body || req.Trailer.Get("X-Trail") != "er" {
			t.Fatalf("endpoint got %d bytes of %d, trailer %v", len(sent), size, req.Trailer)
		}
	}
	if n := b.count(); n != 1 {
		t.Errorf("%d connections to the endpoint", n)
	}
}

// Data and the end of the connection in one segment, from either side.
func TestDataAndEndTogether(t *testing.T) {
	for _, answer := range []string{
		"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello",
		"HTTP/1.1 200 OK\r\n\r\nhello",
		"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
	} {
		e := newEdge(t, nil, newBackend(t, func(_ int, c net.Conn, r *bufio.Reader) {
			readHead(r)
			corked(t, c, answer)
		}).addr())
		for range 3 {
			c := e.dial()
			corked(t, c.tcp, get) // a client that half-closes still gets its answer
			if res, body := c.read("GET"); res.StatusCode != 200 || body != "hello" {
				t.Errorf("%q: %d %q", answer, res.StatusCode, body)
			}
			c.closed()
		}
	}
}

func TestLimits(t *testing.T) {
	rec := newRecorder(t, "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
	e := newEdge(t, func(o *Options) {
		o.BodySize = 100
		o.Limits = http1.Limits{HeadBytes: 4096, Fields: 10, Target: 200}
	}, rec.addr())
	f := func(name, req string, status int, reason string) {
		t.Helper()
		res, body := e.ask(req)
		if res.StatusCode != status || !strings.Contains(body, reason) {
			t.Errorf("%s: %d %q, want %d", name, res.StatusCode, body, status)
		}
	}
	f("target", "GET /"+strings.Repeat("x", 200)+" HTTP/1.1\r\nHost: example.com\r\n\r\n", 414, "URITooLong")
	f("target without end", "GET /"+strings.Repeat("x", 5000), 414, "URITooLong")
	f("target that fits", "GET /"+strings.Repeat("x", 199)+" HTTP/1.1\r\nHost: example.com\r\n\r\n", 200, "")
	f("head", "GET / HTTP/1.1\r\nHost: example.com\r\nX: "+strings.Repeat("x", 4096)+"\r\n\r\n", 431, "HeaderTooLarge")
	f("head without end", "GET / HTTP/1.1\r\nHost: example.com\r\nX: "+strings.Repeat("x", 5000), 431, "HeaderTooLarge")
	f("fields", "GET / HTTP/1.1\r\nHost: example.com\r\n"+strings.Repeat("X: y\r\n", 10)+"\r\n", 431, "HeaderTooLarge")
	f("fields that fit", "GET / HTTP/1.1\r\nHost: example.com\r\n"+strings.Repeat("X: y\r\n", 9)+"\r\n", 200, "")
	if n := rec.count(); n != 1 {
		t.Errorf("%d connections to the endpoint", n)
	}
	before := len(rec.got.String())
	f("length", post+"Content-Length: 101\r\n\r\n"+strings.Repeat("x", 101), 413, "BodyTooLarge")
	f("length, expecting", post+"Content-Length: 101\r\nExpect: 100-continue\r\n\r\n", 413, "BodyTooLarge")
	f("chunks at hand", chunkedPost+"65\r\n"+strings.Repeat("x", 101)+"\r\n0\r\n\r\n", 413, "BodyTooLarge")
	if n := len(rec.got.String()); n != before {
		t.Errorf("%d bytes of a body that is too large reached the endpoint", n-before)
	}
	f("length that fits", post+"Content-Length: 100\r\n\r\n"+strings.Repeat("x", 100), 200, "")
}

// A chunked body that grows too large on the way is cut off, not ended.
func TestBodyGrowsTooLarge(t *testing.T) {
	rec := newRecorder(t, "")
	e := newEdge(t, func(o *Options) { o.BodySize = 100 }, rec.addr())
	c := e.dial()
	c.write(chunkedPost + "32\r\n" + strings.Repeat("x", 50) + "\r\n")
	wait(t, "first chunk", func() bool { return strings.Contains(rec.got.String(), "xxx") })
	c.write("33\r\n" + strings.Repeat("y", 51) + "\r\n0\r\n\r\n")
	if res, body := c.read("POST"); res.StatusCode != 413 || !res.Close {
		t.Errorf("%d %q", res.StatusCode, body)
	}
	c.closed()
	if got := rec.got.String(); strings.Contains(got, "\r\n0\r\n") || strings.Contains(got, "y") {
		t.Errorf("endpoint got %q", got)
	}
}

// The unread rest of a request must not end up in what is said and logged
// about it, nor an earlier request in what is said of a later one.
func TestUnreadBodyStaysOutOfAnswerAndLog(t *testing.T) {
	e := newEdge(t, nil, echo(t))
	c := e.dial()
	body := strings.Repeat("Set-Cookie: evil=1\r\n", 500)
	c.write("POST /admin HTTP/1.1\r\nHost: example.com\r\nX-Request-ID: 12345\r\nContent-Length: " + itoa(len(body)) + "\r\n\r\n")
	res, _ := c.read("POST")
	c.write(body)
	if res.StatusCode != 503 || res.Header.Get("X-Request-ID") != "12345" || res.Header.Get("Set-Cookie") != "" || res.Close {
		t.Errorf("%v", res.Header)
	}
	// The connection goes on behind the body that nobody wanted.
	if res, _ := c.roundTrip(get); res.StatusCode != 200 {
		t.Errorf("%v", res)
	}
	c.write("GET /" + strings.Repeat("y", 70000))
	if res, _ := c.read("GET"); res.StatusCode != 414 {
		t.Errorf("%v", res)
	}
	c.closed()
	all := e.logs()
	if len(all) != 3 {
		t.Fatalf("%d lines: %v", len(all), all)
	}
	if all[0]["request_id"] != "12345" || all[0]["reason"] != "GuardUnsupported" {
		t.Errorf("%v", all[0])
	}
	if all[2]["method"] != nil || all[2]["host"] != nil || all[2]["request_id"] == nil {
		t.Errorf("the line of an unreadable request shows an earlier one: %v", all[2])
	}
	for _, l := range all {
		if strings.Contains(fmt.Sprint(l), "evil") {
			t.Errorf("%v", l)
		}
	}
}

package proxy

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	xhttp2 "golang.org/x/net/http2"
)

// heads2 is an HTTP/2 endpoint that answers each request with the fields, the last
// of them as the end.
func heads2(t *testing.T, responses ...[]string) *backend {
	return newBackend(t, func(_ int, c net.Conn, r *bufio.Reader) {
		p, err := serve2(t, c, r)
		for err == nil {
			var f xhttp2.Frame
			if f, err = p.next(); err != nil {
				return
			}
			if h, ok := f.(*xhttp2.MetaHeadersFrame); ok {
				for i, fields := range responses {
					p.head(h.StreamID, i == len(responses)-1, fields...)
				}
			}
		}
	})
}

// A response that cannot have a body has none, whatever its fields say, and they
// cannot make it ambiguous (RFC 9112, section 6.3, rule 1, comes before all others);
// what went wrong there is not passed on. 1xx and 204 carry no Content-Length at all
// (RFC 9110, section 8.6).
func TestFramingOfResponsesWithoutBody(t *testing.T) {
	f := func(name, method, response, want string) {
		t.Run(name, func(t *testing.T) {
			b := newBackend(t, script(response, response))
			e := newEdge(t, nil, b.addr())
			c := e.dial()
			for range 2 { // the second on another connection to the endpoint, or on a sound one
				c.write(method + " / HTTP/1.1\r\nHost: example.com\r\n\r\n")
				var got strings.Builder
				for strings.Count(got.String(), "\r\n\r\n") < strings.Count(want, "\r\n\r\n") {
					head, err := readHead(c.r)
					if err != nil {
						t.Fatalf("%q %v", got.String(), err)
					}
					got.WriteString(dateLine.ReplaceAllString(head, ""))
				}
				if got.String() != want {
					t.Errorf("%q, want %q", got.String(), want)
				}
			}
			if n := c.r.Buffered(); n > 0 {
				t.Errorf("%d bytes behind it", n)
			}
		})
	}
	for name, fields := range map[string]string{
		"length 0": "Content-Length: 0\r\n", "length": "Content-Length: 7\r\n", "chunked": "Transfer-Encoding: chunked\r\n",
		"both": "Content-Length: 7\r\nTransfer-Encoding: chunked\r\n", "two lengths": "Content-Length: 7\r\nContent-Length: 8\r\n",
		"odd length": "Content-Length: -1\r\n", "odd coding": "Transfer-Encoding: gzip, chunked\r\n",
	} {
		f("204, "+name, "GET", "HTTP/1.1 204 No Content\r\n"+fields+"\r\n", "HTTP/1.1 204 No Content\r\n\r\n")
		f("103, "+name, "GET", "HTTP/1.1 103 Early Hints\r\n"+fields+"\r\nHTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n",
			"HTTP/1.1 103 Early Hints\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
		kept := ""
		if strings.HasPrefix(name, "length") {
			kept = fields // it tells of the response to a GET
		}
		f("304, "+name, "GET", "HTTP/1.1 304 Not Modified\r\n"+fields+"\r\n", "HTTP/1.1 304 Not Modified\r\n"+kept+"\r\n")
		f("HEAD, "+name, "HEAD", "HTTP/1.1 200 OK\r\n"+fields+"\r\n", "HTTP/1.1 200 OK\r\n"+kept+"\r\n")
	}
}

// A 101 begins the tunnel behind its head, whatever its fields say: Actix and
// aiohttp have sent Transfer-Encoding with it.
func TestFramingOfSwitch(t *testing.T) {
	for _, fields := range []string{"Content-Length: 0\r\n", "Content-Length: 5\r\n", "Transfer-Encoding: chunked\r\n", "Content-Length: 5\r\nContent-Length: 6\r\n"} {
		e := newEdge(t, nil, newBackend(t, func(_ int, c net.Conn, r *bufio.Reader) {
			readHead(r)
			io.WriteString(c, strings.Replace(switched, "\r\n\r\n", "\r\n"+fields+"\r\n", 1)+"hello")
			io.Copy(c, r)
		}).addr())
		c := e.dial()
		c.write(upgrade)
		c.expect(switched + "hello")
		c.write("ping")
		c.expect("ping")
		c.Conn.Close()
	}
}

// Over HTTP/2 it is the 2xx to an extended CONNECT (RFC 8441), which has no framing
// fields either (RFC 9110, section 9.3.6).
func TestFramingOfSwitchOverHTTP2(t *testing.T) {
	e := newEdge(t, nil, newBackend(t, func(_ int, c net.Conn, r *bufio.Reader) {
		readHead(r)
		io.WriteString(c, strings.Replace(switched, "\r\n\r\n", "\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n", 1)+"hello")
		io.Copy(c, r)
	}).addr())
	p, c := e.raw2()
	defer c.Conn.Close()
	p.head(1, false, ":method", "CONNECT", ":protocol", "websocket", ":scheme", "http", ":path", "/ws", ":authority", "example.com", "sec-websocket-version", "13")
	for {
		f, err := p.next()
		if err != nil {
			t.Fatal(err)
		}
		switch f := f.(type) {
		case *xhttp2.MetaHeadersFrame:
			if f.PseudoValue("status") != "200" {
				t.Errorf("%v", f)
			}
			for _, h := range f.RegularFields() {
				if h.Name == "content-length" || h.Name == "transfer-encoding" {
					t.Errorf("%v", h)
				}
			}
			continue
		case *xhttp2.DataFrame:
			if string(f.Data()) != "hello" {
				t.Errorf("%q", f.Data())
			}
		}
		return
	}
}

// The same over HTTP/2 (RFC 9113, section 8.1.1: with these statuses, and to HEAD, a
// Content-Length that is not 0 goes without DATA).
func TestFramingOfResponsesWithoutBodyOverHTTP2(t *testing.T) {
	f := func(name, method string, want int, length string, responses ...[]string) {
		t.Run(name, func(t *testing.T) {
			e := newEdge(t, nil, heads2(t, responses...).addr())
			e.to2(nil)
			for range 2 {
				c := e.dial()
				c.write(method + " / HTTP/1.1\r\nHost: example.com\r\n\r\n")
				res, _ := c.read(method)
				for res.StatusCode == 103 {
					res, _ = c.read(method)
				}
				if res.StatusCode != want || res.Header.Get("Content-Length") != length || len(res.TransferEncoding) > 0 {
					t.Errorf("%v", res)
				}
				req, _ := http.NewRequest(method, e.url(false, "/"), nil)
				res, err := e.client2(false).Do(req)
				if err != nil || res.StatusCode != want {
					t.Errorf("%v %v", res, err)
				}
			}
		})
	}
	f("204", "GET", 204, "", []string{":status", "204", "content-length", "0"})
	f("204 with a length", "GET", 204, "", []string{":status", "204", "content-length", "5"})
	f("304", "GET", 304, "5", []string{":status", "304", "content-length", "5"})
	f("HEAD", "HEAD", 200, "5", []string{":status", "200", "content-length", "5"})
	f("HEAD with two lengths", "HEAD", 200, "", []string{":status", "200", "content-length", "5", "content-length", "6"})
	f("103 with a length", "GET", 204, "", []string{":status", "103", "content-length", "5"}, []string{":status", "204"})
}

// What was understood is what is written: a status line has the space behind its
// code (RFC 9112, section 4), statuses that mean nothing are the endpoint's own
// (nginx 1.22 and HAProxy 2.6 pass them on), and a final response has a Date, its own
// or ours (RFC 9110, section 6.6.1).
func TestHeadsPassedOn(t *testing.T) {
	f := func(name, response, want string) {
		t.Run(name, func(t *testing.T) {
			e := newEdge(t, nil, newBackend(t, once(response)).addr())
			if got := dateLine.ReplaceAllString(e.raw("GET / HTTP/1.1\r\nHost: example.com\r\nConnection: close\r\n\r\n"), "DATE\r\n"); got != want {
				t.Errorf("%q, want %q", got, want)
			}
			status := want[len("HTTP/1.1 "):][:3]
			res, err := e.client2(false).Get(e.url(false, "/"))
			if err != nil || fmt.Sprint(res.StatusCode) != status || len(res.Header["Date"]) != 1 {
				t.Errorf("HTTP/2: %v %v", res, err)
			}
		})
	}
	const own = "Date: Sun, 06 Nov 1994 08:49:37 GMT\r\n"
	f("no space", "HTTP/1.1 200\r\nContent-Length: 0\r\n\r\n", "HTTP/1.1 200 \r\nContent-Length: 0\r\nDATE\r\nConnection: close\r\n\r\n")
	f("no reason", "HTTP/1.1 200 \r\nContent-Length: 0\r\n\r\n", "HTTP/1.1 200 \r\nContent-Length: 0\r\nDATE\r\nConnection: close\r\n\r\n")
	f("600", "HTTP/1.1 600 Odd\r\nContent-Length: 0\r\n\r\n", "HTTP/1.1 600 Odd\r\nContent-Length: 0\r\nDATE\r\nConnection: close\r\n\r\n")
	f("999", "HTTP/1.1 999 Denied\r\nContent-Length: 0\r\n\r\n", "HTTP/1.1 999 Denied\r\nContent-Length: 0\r\nDATE\r\nConnection: close\r\n\r\n")
	f("a date of its own", "HTTP/1.1 200 OK\r\n"+own+"Content-Length: 0\r\n\r\n", "HTTP/1.1 200 OK\r\nDATE\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
	f("tabs", "HTTP/1.1 200 OK\r\nContent-Length:\t0\t\r\nX:\t \ta\tb\t\r\n\r\n", "HTTP/1.1 200 OK\r\nContent-Length: 0\r\nX: a\tb\r\nDATE\r\nConnection: close\r\n\r\n")
	// An interim response needs none.
	e := newEdge(t, nil, newBackend(t, once("HTTP/1.1 103\r\n\r\nHTTP/1.1 204\r\n\r\n")).addr())
	if got := e.raw("GET / HTTP/1.1\r\nHost: example.com\r\nConnection: close\r\n\r\n"); !strings.HasPrefix(got, "HTTP/1.1 103 \r\n\r\nHTTP/1.1 204 \r\nDate: ") {
		t.Errorf("%q", got)
	}
}

// As many fields as nginx passes on, 300 and more (it has no limit on their number).
func TestManyResponseFields(t *testing.T) {
	var fields strings.Builder
	list := []string{":status", "204"}
	for i := range 300 {
		fmt.Fprintf(&fields, "X-%d: y\r\n", i)
		list = append(list, fmt.Sprintf("x-%d", i), "y")
	}
	e := newEdge(t, nil, newBackend(t, once("HTTP/1.1 204 No Content\r\n"+fields.String()+"\r\n")).addr())
	if res, _ := e.ask(get); res.StatusCode != 204 || res.Header.Get("X-299") != "y" {
		t.Errorf("%d, %d fields", res.StatusCode, len(res.Header))
	}
	res, err := e.client2(false).Get(e.url(false, "/"))
	if err != nil || res.StatusCode != 204 || res.Header.Get("X-299") != "y" {
		t.Errorf("HTTP/2: %v %v", res, err)
	}
	e = newEdge(t, nil, heads2(t, list).addr())
	e.to2(nil)
	if res, _ := e.ask(get); res.StatusCode != 204 || res.Header.Get("X-299") != "y" {
		t.Errorf("from HTTP/2: %d, %d fields", res.StatusCode, len(res.Header))
	}
	// A limit of its own.
	e = newEdge(t, func(o *Options) { o.ResponseFields = 299 }, newBackend(t, once("HTTP/1.1 204 No Content\r\n"+fields.String()+"\r\n")).addr())
	if res, _ := e.ask(get); res.StatusCode != 502 {
		t.Errorf("%d", res.StatusCode)
	}
	e = newEdge(t, func(o *Options) { o.ResponseHeadBytes = 1024 }, newBackend(t, once("HTTP/1.1 204 No Content\r\n"+fields.String()+"\r\n")).addr())
	if res, _ := e.ask(get); res.StatusCode != 502 {
		t.Errorf("%d", res.StatusCode)
	}
}

// There may be as many interim responses as an endpoint likes (long jobs send 102 all
// the time): RFC 9110, section 15.2, has no bound on their number. Each begins the
// endpoint's time anew.
func TestManyInterimResponses(t *testing.T) {
	const many = 200
	pace := func(c net.Conn) {
		for range many {
			io.WriteString(c, "HTTP/1.1 102 Processing\r\n\r\n")
		}
		io.WriteString(c, ok)
	}
	e := newEdge(t, nil, newBackend(t, func(_ int, c net.Conn, r *bufio.Reader) {
		for {
			if _, err := readHead(r); err != nil {
				return
			}
			pace(c)
		}
	}).addr())
	count := func(e *edge) {
		t.Helper()
		c := e.dial()
		defer c.Conn.Close()
		c.write(get)
		for n := 0; ; n++ {
			res, _ := c.read("GET")
			if res.StatusCode == 102 {
				continue
			}
			if res.StatusCode != 200 || n != many {
				t.Errorf("%d behind %d interim responses", res.StatusCode, n)
			}
			return
		}
	}
	count(e)
	var list [][]string
	for range many {
		list = append(list, []string{":status", "102"})
	}
	e = newEdge(t, nil, heads2(t, append(list, []string{":status", "200"})...).addr())
	e.to2(nil)
	count(e)
}

// An interim response begins the endpoint's time anew: a long job says by 102 that it
// is at work (RFC 4918 brought it for that), and may take longer than the timeout.
func TestInterimResponsesKeepAlive(t *testing.T) {
	const read, pace, beats = time.Second, 250 * time.Millisecond, 6
	e := newEdge(t, func(o *Options) { o.UpstreamRead = read }, newBackend(t, func(_ int, c net.Conn, r *bufio.Reader) {
		readHead(r)
		for range beats {
			<-time.After(pace)
			io.WriteString(c, "HTTP/1.1 102 Processing\r\n\r\n")
		}
		io.WriteString(c, ok)
	}).addr())
	c := e.dial()
	c.write(get)
	for range beats {
		if res, _ := c.read("GET"); res.StatusCode != 102 {
			t.Fatalf("%v", res)
		}
	}
	if res, _ := c.read("GET"); res.StatusCode != 200 {
		t.Errorf("%v", res)
	}
}

// Why a response was refused stands in the log, with the rule, the field and the
// name of the request, and is counted by rule, of which there are a few.
func TestRefusedResponsesSayWhy(t *testing.T) {
	f := func(response, detail, rule string) {
		t.Run(rule, func(t *testing.T) {
			e := newEdge(t, nil, newBackend(t, once(response)).addr())
			c := e.dial()
			c.write("GET / HTTP/1.1\r\nHost: example.com\r\nX-Request-ID: req-1\r\n\r\n")
			// Behind the interim responses: a client that left before would be 499.
			for res, _ := c.read("GET"); res.StatusCode < 200; {
				res, _ = c.read("GET")
			}
			l := e.lastLog()
			if l["status"] != 502.0 || l["reason"] != "BadGateway" || l["detail"] != detail || l["request_id"] != "req-1" {
				t.Errorf("%v", l)
			}
			if page := string(e.o.Log.Failures()); !strings.Contains(page, detail) || !strings.Contains(page, "req-1") {
				t.Errorf("failures: %q", page)
			}
			if got := e.o.Stats.RefusedResponses(); rule != "" && (len(got) != 1 || got[rule] != 1) {
				t.Errorf("%v", got)
			}
		})
	}
	refused := func(response, rule string) { f(response, "response refused: "+rule, rule) }
	refused("HTTP/1.1 200 OK\r\nContent-Length: 4\r\nContent-Length: 5\r\n\r\nevil!", "bad, duplicate or contradicting Content-Length")
	refused("HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\n", "bad Transfer-Encoding")
	refused("HTTP/1.1 200 OK\nX: y\n\n", "line not ended by CRLF")
	refused("SSH-2.0-OpenSSH\r\n\r\n", "bad status line")
	refused("HTTP/1.1 200 OK\r\n"+strings.Repeat("X: y\r\n", 1001)+"\r\n", "too many header fields")
	refused("HTTP/1.1 200 OK\r\nX: "+strings.Repeat("y", 70<<10)+"\r\n\r\n", "header too large")
	refused("HTTP/1.1 200 OK\r\nX: y\r\n z\r\n\r\n", "folded header line")
	refused("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nxyz\r\n", "bad chunk framing")
	refused(switched, "101 to a request without Upgrade")
	refused(strings.Repeat("HTTP/1.1 103 Early Hints\r\n\r\n", interimBurst/interimCost), "too many bytes of interim responses")
	f("HTTP/1.1 200 OK\r\nX-Color: a\x00b\r\n\r\n", "response refused: control byte in header value: X-Color", "control byte in header value")
	f("", "connection closed before the response", "")
	f("HTTP/1.1 200 OK\r\nX: y", "connection closed in the middle of the response", "")
}

func TestRefusedResponsesSayWhyOverHTTP2(t *testing.T) {
	f := func(rule string, fields ...string) {
		t.Run(rule, func(t *testing.T) {
			e := newEdge(t, nil, heads2(t, fields).addr())
			e.to2(nil)
			e.ask(get)
			if l := e.lastLog(); l["status"] != 502.0 || l["detail"] != "response refused: "+rule {
				t.Errorf("%v", l)
			}
		})
	}
	f("bad, missing or misplaced pseudo-field", "x", "y")
	f("connection-specific field", ":status", "200", "connection", "close")
	f("control byte in header value: x-color", ":status", "200", "x-color", "a\nb")
	f("upper case in a field name", ":status", "200", "X", "y")
	f("bad, duplicate or contradicting Content-Length", ":status", "200", "content-length", "5")
}

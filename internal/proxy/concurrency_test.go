package proxy

import (
	"bufio"
	"crypto/sha256"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"gatehouse.dev/gatehouse/internal/ir"
	"gatehouse.dev/gatehouse/internal/proxy/stats"
)

// sums answers with the payload it got and its checksum, in a framing of its
// own choice, and sometimes hangs up or breaks off.
func sums(t *testing.T, hostile bool) *backend {
	return newBackend(t, func(n int, c net.Conn, r *bufio.Reader) {
		for i := 0; ; i++ {
			req, err := http.ReadRequest(r)
			if err != nil {
				return
			}
			if hostile && (n+i)%11 == 0 {
				return
			}
			body, err := io.ReadAll(req.Body)
			if err != nil {
				return
			}
			id := req.Header.Get("X-Request-Id")
			head := fmt.Sprintf("HTTP/1.1 200 OK\r\nX-Sum: %x\r\nX-Id: %s\r\n", sha256.Sum256(body), id)
			if hostile && (n+i)%13 == 0 {
				fmt.Fprintf(c, "%sContent-Length: %d\r\n\r\n%s", head, len(body)+1, body)
				return
			}
			if len(body)%2 == 0 {
				fmt.Fprintf(c, "%sContent-Length: %d\r\n\r\n%s", head, len(body), body)
			} else {
				fmt.Fprintf(c, "%sTransfer-Encoding: chunked\r\n\r\n%x\r\n%s\r\n0\r\n\r\n", head, len(body), body)
			}
		}
	})
}

// exchange sends a random request and reports whether the connection goes on.
// The answer, if it is a whole one, must be that to this very request.
func (c *client) exchange(rng *rand.Rand, id string) (sent, ok bool) {
	size := []int{0, 1, 500, 5000, 70000, 300001}[rng.IntN(6)]
	body := strings.Repeat(id, size/len(id)+1)[:size]
	var req string
	switch path := []string{"/", "/admin"}[rng.IntN(5)/4]; rng.IntN(3) {
	case 0:
		req = fmt.Sprintf("PUT %s HTTP/1.1\r\nHost: example.com\r\nX-Request-ID: %s\r\nContent-Length: %d\r\n\r\n%s", path, id, size, body)
	case 1:
		end := fmt.Sprintf("%x\r\n%s\r\n0\r\nX-T: y\r\n\r\n", size, body)
		if size == 0 {
			end = "0\r\n\r\n"
		}
		req = fmt.Sprintf("POST %s HTTP/1.1\r\nHost: example.com\r\nX-Request-ID: %s\r\nTransfer-Encoding: chunked\r\n\r\n%s", path, id, end)
	default:
		req, body = fmt.Sprintf("GET %s HTTP/1.1\r\nHost: example.com\r\nX-Request-ID: %s\r\n\r\n", path, id), ""
	}
	cut := rng.IntN(len(req))
	wrote := make(chan struct{})
	go func() {
		defer close(wrote)
		io.WriteString(c.Conn, req[:cut])
		io.WriteString(c.Conn, req[cut:])
	}()
	defer func() { <-wrote }()
	res, err := http.ReadResponse(c.r, nil)
	if err != nil {
		return false, false
	}
	back, err := io.ReadAll(res.Body)
	if res.StatusCode == 200 && err == nil {
		if res.Header.Get("X-Id") != id || string(back) != body || res.Header.Get("X-Sum") != fmt.Sprintf("%x", sha256.Sum256([]byte(body))) {
			c.t.Errorf("request %s of %d bytes got the answer of %s, %d bytes", id, len(body), res.Header.Get("X-Id"), len(back))
		}
	} else if res.StatusCode != 200 && res.Header.Get("X-Request-ID") != id && res.StatusCode != 408 {
		c.t.Errorf("request %s got %d for %s", id, res.StatusCode, res.Header.Get("X-Request-ID"))
	}
	return true, err == nil && !res.Close
}

// Under load, with endpoints and clients that break off in every way, nobody
// gets another's bytes (a buffer used after it was given back), and every
// request is counted once and logged once.
func TestNobodyGetsAnothersBytes(t *testing.T) {
	e := newEdge(t, nil, sums(t, false).addr(), sums(t, true).addr())
	var wg sync.WaitGroup
	var answered atomic.Int64
	for worker := range 12 {
		wg.Go(func() {
			rng := rand.New(rand.NewPCG(1, uint64(worker)))
			c := e.dial()
			for i := range 60 {
				sent, ok := c.exchange(rng, fmt.Sprintf("w%d-%d.", worker, i))
				if sent {
					answered.Add(1)
				}
				if !ok || rng.IntN(20) == 0 {
					if rng.IntN(2) == 0 {
						reset(c.tcp)
					}
					c.Conn.Close()
					c = e.dial()
				}
			}
			c.write("GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n")
			c.read("GET")
			c.closed()
			answered.Add(1)
		})
	}
	wg.Wait()
	lines := int64(len(e.logs()))
	if lines < answered.Load() {
		t.Errorf("%d lines for %d answers", lines, answered.Load())
	}
	if n := requests(e.o.Stats); n != lines {
		t.Errorf("%d requests counted, %d logged", n, lines)
	}
	reasons := map[ir.Reason]int64{}
	for _, l := range e.logs() {
		if r, _ := l["reason"].(string); r != "" {
			reasons[ir.Reason(r)]++
		}
	}
	for reason, n := range e.o.Stats.Answers {
		if reasons[reason] != int64(n) {
			t.Errorf("%s: %d counted, %d logged", reason, n, reasons[reason])
		}
	}
}

func requests(r *stats.Registry) (n int64) {
	for _, rt := range r.Routes() {
		if s, any := rt.Read(); any {
			for _, c := range s.Codes {
				n += int64(c.Count)
			}
		}
	}
	return n
}

// The set of endpoints changes under load; not one request fails, POSTs
// included, as seen by the client and by the endpoints.
func TestEndpointsChangeUnderLoad(t *testing.T) {
	var asked atomic.Int64
	answering := func() *backend {
		return newBackend(t, func(_ int, c net.Conn, r *bufio.Reader) {
			for {
				if _, err := readHead(r); err != nil {
					return
				}
				io.CopyN(io.Discard, r, 5)
				asked.Add(1)
				io.WriteString(c, ok)
			}
		})
	}
	a, b, d := answering().addr(), answering().addr(), answering().addr()
	e := newEdge(t, nil, a, b)
	var wg sync.WaitGroup
	var answered atomic.Int64
	var stop atomic.Bool
	for range 4 {
		c := e.dial()
		wg.Go(func() {
			defer c.Conn.Close()
			for !stop.Load() {
				io.WriteString(c.Conn, post+"Content-Length: 5\r\n\r\nhello")
				res, err := http.ReadResponse(c.r, nil)
				if err != nil || res.StatusCode != 200 {
					t.Errorf("%v %v", res, err)
					return
				}
				answered.Add(1)
			}
		})
	}
	for i := range 300 {
		e.endpoints([][]netip.AddrPort{{a, b}, {b, d}, {d}, {a}, {a, b, d}}[i%5]...)
		if i%10 == 0 {
			e.apply(e.config())
		}
		n := answered.Load()
		wait(t, "traffic", func() bool { return answered.Load() > n || t.Failed() })
	}
	stop.Store(true)
	wg.Wait()
	if asked.Load() != answered.Load() {
		t.Errorf("%d requests at the endpoints, %d answers", asked.Load(), answered.Load())
	}
}

package proxy

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"strings"
	"testing"
)

// An endpoint says how long it keeps a connection (Keep-Alive, RFC 2068, section
// 19.7.1.1). A request that cannot be sent again must not meet its close: with one
// second there is no time that is safe. Others may go there as long as it lasts. The
// last request that it takes is followed by none.
func TestKeepAliveOfEndpoint(t *testing.T) {
	const (
		length  = "Content-Length: 5\r\n\r\nhello"
		chunked = "Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n"
	)
	f := func(name, field, req string, reused bool) {
		t.Run(name, func(t *testing.T) {
			on := make(chan int, 8)
			b := newBackend(t, func(n int, c net.Conn, r *bufio.Reader) {
				for {
					head, err := readHead(r)
					if err != nil {
						return
					}
					switch {
					case strings.Contains(head, "Content-Length: 5"):
						r.Discard(len("hello"))
					case strings.Contains(head, "chunked"):
						r.Discard(len("5\r\nhello\r\n0\r\n\r\n"))
					}
					on <- n
					io.WriteString(c, "HTTP/1.1 200 OK\r\nConnection: keep-alive\r\n"+field+"Content-Length: 2\r\n\r\nok")
				}
			})
			e := newEdge(t, nil, b.addr())
			c := e.dial()
			for i := 1; i <= 3; i++ {
				if res, body := c.roundTrip(req); res.StatusCode != 200 || body != "ok" || res.Header.Get("Keep-Alive") != "" {
					t.Fatalf("%v %q", res, body)
				}
				want := i
				if reused {
					want = 1
				}
				if n := <-on; n != want {
					t.Errorf("request %d on connection %d, want %d", i, n, want)
				}
			}
		})
	}
	for _, body := range []string{length, chunked} {
		kind := fmt.Sprintf(", %.7s", body)
		f("POST, one second"+kind, "Keep-Alive: timeout=1\r\n", post+body, false)
		f("POST, five seconds"+kind, "Keep-Alive: timeout=5\r\n", post+body, true)
	}
	f("GET, one second", "Keep-Alive: timeout=1\r\n", get, true)
	f("GET, no second", "Keep-Alive: timeout=0\r\n", get, false)
	f("the last request", "Keep-Alive: timeout=5, max=0\r\n", get, false)
	f("one of many", "Keep-Alive: timeout=5, max=99\r\n", get, true)
	f("it does not say", "", post+length, true)
}

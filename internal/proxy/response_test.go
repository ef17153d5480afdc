package proxy

import (
	"bufio"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"

	"gatehouse.dev/gatehouse/internal/proxy/http1"
)

// Answers of every size that some buffer or record is of, one after another on
// one connection, so that each is read as the one before it suggests.
func TestAnswerSizes(t *testing.T) {
	var text strings.Builder
	for i := 0; text.Len() < 300<<10; i++ {
		fmt.Fprintf(&text, "%d ", i)
	}
	body := func(n int) string { return text.String()[:n] }
	b := newBackend(t, func(_ int, c net.Conn, r *bufio.Reader) {
		for {
			req, err := http.ReadRequest(r)
			if err != nil {
				return
			}
			var n int
			fmt.Sscanf(req.URL.Path, "/%d", &n)
			if req.URL.RawQuery == "" {
				fmt.Fprintf(c, "HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s", n, body(n))
				continue
			}
			io.WriteString(c, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
			if n > 0 {
				fmt.Fprintf(c, "%x\r\n%s\r\n", n, body(n))
			}
			io.WriteString(c, "0\r\n\r\n")
		}
	})
	var sizes []int
	for _, n := range []int{http1.SmallBuffer, http1.MediumBuffer, 64 << 10, http1.LargeBuffer, spliceFrom, 300 << 10} {
		sizes = append(sizes, 0, n-200, n-100, n-1, 1, n)
	}
	e := newEdge(t, nil, b.addr())
	for name, c := range map[string]*client{"plain": e.dial(), "TLS": e.dialTLS(tls.VersionTLS13)} {
		for _, form := range []string{"", "?chunks"} {
			for _, n := range sizes {
				c.write(fmt.Sprintf("GET /%d%s HTTP/1.1\r\nHost: example.com\r\n\r\n", n, form))
				if res, got := c.read("GET"); res.StatusCode != 200 || got != body(n) {
					t.Fatalf("%s, %d bytes%s: %d, %d bytes", name, n, form, res.StatusCode, len(got))
				}
			}
		}
	}
}

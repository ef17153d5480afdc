package proxy

import (
	"bufio"
	"crypto/tls"
	"io"
	"net"
	"testing"
	"time"

	"gatehouse.dev/gatehouse/internal/ir"
	"gatehouse.dev/gatehouse/internal/proxy/certs"
)

// gathering sends what was written to it in one segment, when told to.
type gathering struct {
	net.Conn
	r    io.Reader
	hold bool
	kept []byte
}

func (g *gathering) Read(p []byte) (int, error) { return g.r.Read(p) }

func (g *gathering) Write(p []byte) (int, error) {
	if g.hold {
		g.kept = append(g.kept, p...)
		return len(p), nil
	}
	return g.Conn.Write(p)
}

// What follows an answer under TLS lies in TLS's own buffer, where nobody who
// asks the socket sees it: it must not become somebody else's answer, be it a
// record of its own or the beginning of one.
func TestLeftoversBelowTLS(t *testing.T) {
	cert, err := certs.SelfSigned(time.Now(), "example.com")
	if err != nil {
		t.Fatal(err)
	}
	pair, err := tls.X509KeyPair(cert.Chain, cert.Key)
	if err != nil {
		t.Fatal(err)
	}
	const evil = "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil"
	f := func(name string, plain bool, version uint16, cut func(whole, first int) int) {
		t.Run(name, func(t *testing.T) {
			asked := make(chan int, 8)
			b := newBackend(t, func(n int, c net.Conn, r *bufio.Reader) {
				g := &gathering{Conn: c, r: r}
				s := tls.Server(g, &tls.Config{Certificates: []tls.Certificate{pair}, MinVersion: version, MaxVersion: version})
				sr := bufio.NewReader(s)
				for i := 0; ; i++ {
					if _, err := readHead(sr); err != nil {
						return
					}
					asked <- n
					if n > 1 || i > 0 {
						c.Write(g.kept)
						g.kept, g.hold = nil, false
						io.WriteString(s, ok)
						continue
					}
					g.hold = true
					io.WriteString(s, ok)
					first := len(g.kept)
					io.WriteString(s, evil)
					at := cut(len(g.kept), first)
					c.Write(g.kept[:at])
					g.kept = g.kept[at:]
				}
			})
			e := newEdge(t, func(o *Options) { o.PlainReads = plain }, b.addr())
			e.configure(func(c *ir.Config) {
				another(c, func(b *ir.Backend) {
					b.TLS = &ir.BackendTLS{Verify: true, CAs: cert.Chain, VerifyName: "example.com"}
				})
			})
			for range 2 {
				if _, body := e.ask(get); body != "" {
					t.Errorf("a client got %q", body)
				}
			}
			if n := len(asked); n != 2 || <-asked != 1 || <-asked != 2 {
				t.Errorf("%d requests came, and not one on each of two connections", n)
			}
		})
	}
	for name, version := range map[string]uint16{"TLS 1.2": tls.VersionTLS12, "TLS 1.3": tls.VersionTLS13} {
		for _, plain := range []bool{false, true} {
			if plain {
				name += ", plain reads"
			}
			f(name+", record", plain, version, func(whole, _ int) int { return whole })
			f(name+", part of a record", plain, version, func(_, first int) int { return first + 20 })
			f(name+", part of a record's head", plain, version, func(_, first int) int { return first + 2 })
		}
	}
}

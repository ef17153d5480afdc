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

	"gatehouse.dev/gatehouse/internal/ir"
)

const (
	// As docker exec sends it to its daemon: RFC 9110, section 7.8, allows a body,
	// behind which the protocol changes.
	execHead = "POST /exec/1/start HTTP/1.1\r\nHost: example.com\r\nConnection: Upgrade\r\nUpgrade: tcp\r\nContent-Type: application/json\r\n"
	execBody = `{"Detach":false,"Tty":true}`
	execOpen = "HTTP/1.1 101 UPGRADED\r\nContent-Type: application/vnd.docker.raw-stream\r\nConnection: Upgrade\r\nUpgrade: tcp\r\n\r\n"
)

// daemon is an endpoint that reads a request with its body, answers, and then sends
// back what it gets.
func daemon(t *testing.T, answer string) *backend {
	return newBackend(t, func(_ int, c net.Conn, r *bufio.Reader) {
		for {
			req, err := http.ReadRequest(r)
			if err != nil {
				return
			}
			body, err := io.ReadAll(req.Body)
			if err != nil {
				return
			}
			if req.Header.Get("Upgrade") != "tcp" || string(body) != execBody {
				t.Errorf("%v %q", req.Header, body)
			}
			io.WriteString(c, answer)
			if strings.HasPrefix(answer, "HTTP/1.1 101") {
				io.Copy(c, r)
				return
			}
		}
	})
}

// nginx tunnels it as well (1.22, with Upgrade and Connection passed on).
func TestUpgradeWithBody(t *testing.T) {
	length := execHead + fmt.Sprintf("Content-Length: %d\r\n\r\n", len(execBody))
	chunked := execHead + "Transfer-Encoding: chunked\r\n\r\n"
	pieces := map[string][]string{
		"at once":         {length + execBody},
		"in two":          {length, execBody},
		"in many":         {length, execBody[:5], execBody[5:20], execBody[20:]},
		"chunks, at once": {chunked + fmt.Sprintf("%x\r\n%s\r\n0\r\n\r\n", len(execBody), execBody)},
		"chunks":          {chunked, fmt.Sprintf("%x\r\n%s\r\n", len(execBody), execBody), "0\r\n\r\n"},
	}
	dials := map[string]func(e *edge) *client{
		"plain": (*edge).dial, "TLS": func(e *edge) *client { return e.dialTLS(tls.VersionTLS13) },
	}
	for how, sent := range pieces {
		for where, dial := range dials {
			t.Run(how+", "+where, func(t *testing.T) {
				e := newEdge(t, nil, daemon(t, execOpen).addr())
				c := dial(e)
				for _, s := range sent {
					c.write(s)
				}
				c.expect(execOpen)
				for range 3 {
					c.write("ls\n")
					c.expect("ls\n")
				}
				c.Conn.(interface{ CloseWrite() error }).CloseWrite()
				c.closed()
				if l := e.lastLog(); l["status"] != 101.0 || l["bytes_in"] != float64(len(execBody)+9) || l["bytes_out"] != 9.0 {
					t.Errorf("%v", l)
				}
			})
		}
	}
}

// An upgrade that is refused, by the endpoint or here, closes: what the client sends
// in the hope of it must not be taken for a request.
func TestRefusedUpgradeWithBodyCloses(t *testing.T) {
	const next = "GET /admin HTTP/1.1\r\nHost: example.com\r\n\r\n"
	f := func(name, request string, status int) {
		t.Run(name, func(t *testing.T) {
			e := newEdge(t, nil, daemon(t, ok).addr())
			c := e.dial()
			c.write(request + next)
			if res, _ := c.read("POST"); res.StatusCode != status || !res.Close {
				t.Errorf("%v", res)
			}
			c.closed()
		})
	}
	body := fmt.Sprintf("Content-Length: %d\r\n\r\n%s", len(execBody), execBody)
	f("by the endpoint", execHead+body, 200)
	f("here", strings.Replace(execHead, "/exec/1/start", "/admin", 1)+body, 503)
	f("here, without a body", strings.Replace(upgrade, "/ws", "/admin", 1), 503)
}

// Nothing that could be meant for a tunnel gets to the endpoint before it has
// accepted, and nothing of the request gets into the tunnel.
func TestNothingCrossesASwitch(t *testing.T) {
	length := fmt.Sprintf("Content-Length: %d\r\n\r\n", len(execBody))
	t.Run("tunnel bytes behind the body", func(t *testing.T) {
		rec := newRecorder(t, "")
		released := make(chan struct{})
		front := newBackend(t, func(_ int, c net.Conn, r *bufio.Reader) {
			req, err := http.ReadRequest(r)
			if err != nil {
				return
			}
			io.Copy(io.Discard, req.Body)
			<-released
			io.WriteString(c, execOpen)
			b, _ := io.ReadAll(r)
			rec.got.Write(b)
		})
		e := newEdge(t, nil, front.addr())
		c := e.dial()
		c.write(execHead + length + execBody + "evil")
		close(released)
		if res, _ := c.read("POST"); res.StatusCode != 400 || !res.Close {
			t.Errorf("%v", res)
		}
		c.closed()
		if got := rec.got.String(); got != "" {
			t.Errorf("the endpoint got %q", got)
		}
	})
	t.Run("switch before the end of the body", func(t *testing.T) {
		got := make(chan string, 1)
		e := newEdge(t, nil, newBackend(t, func(_ int, c net.Conn, r *bufio.Reader) {
			readHead(r)
			io.WriteString(c, execOpen)
			b, _ := io.ReadAll(r)
			got <- string(b)
		}).addr())
		c := e.dial()
		c.write(execHead + length + execBody[:5])
		if res, _ := c.read("POST"); res.StatusCode != 502 || !res.Close {
			t.Errorf("%v", res)
		}
		c.closed()
		if b := <-got; b != execBody[:5] {
			t.Errorf("the endpoint got %q", b)
		}
		if l := e.lastLog(); l["detail"] != "response refused: 101 before the end of the request" {
			t.Errorf("%v", l)
		}
	})
}

// A request that means something without its upgrade goes without to an endpoint of
// a protocol that has none (RFC 9110, section 7.8: Upgrade may be ignored).
func TestUpgradeIgnoredTowardsHTTP2(t *testing.T) {
	b := newBodies(t)
	b.want = execBody
	e := newEdge(t, nil, addrOf(b.Server))
	e.configure(func(c *ir.Config) { another(c, func(b *ir.Backend) { b.Protocol = ir.BackendHTTP2 }) })
	c := e.dial()
	c.write(execHead + fmt.Sprintf("Content-Length: %d\r\n\r\n%s", len(execBody), execBody))
	if res, _ := c.read("POST"); res.StatusCode != 200 || !res.Close || b.whole.Load() != 1 {
		t.Errorf("%v", res)
	}
}

// The protocols that may not be passed on go, the others stay.
func TestUpgradeAmongOthers(t *testing.T) {
	heads := make(chan string, 1)
	e := newEdge(t, nil, newBackend(t, func(_ int, c net.Conn, r *bufio.Reader) {
		head, _ := readHead(r)
		heads <- head
		io.WriteString(c, switched)
		io.Copy(c, r)
	}).addr())
	c := e.dial()
	c.write(strings.Replace(upgrade, "Upgrade: websocket", "Upgrade: websocket, h2c", 1))
	c.expect(switched)
	if head := <-heads; !strings.Contains(head, "\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n") || strings.Contains(head, "h2c") {
		t.Errorf("%q", head)
	}
	c.write("ping")
	c.expect("ping")
	c.Conn.Close()
}

package app

import (
	"bufio"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"gatehouse.dev/gatehouse/internal/proxy/certs"
)

// upgrading is a backend that answers requests, echoes upgraded connections and
// counts the connections it gets.
func upgrading(t *testing.T, conns *atomic.Int64) uint16 {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	srv := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Upgrade") == "" {
			io.Copy(w, r.Body)
			return
		}
		c, rw, err := w.(http.Hijacker).Hijack()
		if err != nil {
			return
		}
		defer c.Close()
		io.WriteString(c, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n")
		io.Copy(c, rw)
	})}
	srv.ConnState = func(_ net.Conn, s http.ConnState) {
		if s == http.StateNew {
			conns.Add(1)
		}
	}
	var done sync.WaitGroup
	done.Go(func() { srv.Serve(l) })
	t.Cleanup(func() { srv.Close(); done.Wait() })
	return l.Addr().(*net.TCPAddr).AddrPort().Port()
}

// tlsEchoing is a backend that terminates TLS itself and echoes.
func tlsEchoing(t *testing.T, conns *atomic.Int64) uint16 {
	made, err := certs.SelfSigned(time.Now(), "pass.test")
	if err != nil {
		t.Fatal(err)
	}
	pair, err := tls.X509KeyPair(made.Chain, made.Key)
	if err != nil {
		t.Fatal(err)
	}
	l, err := tls.Listen("tcp", "127.0.0.1:0", &tls.Config{Certificates: []tls.Certificate{pair}})
	if err != nil {
		t.Fatal(err)
	}
	var done sync.WaitGroup
	done.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			conns.Add(1)
			done.Go(func() { defer c.Close(); io.Copy(c, c) })
		}
	})
	t.Cleanup(func() { l.Close(); done.Wait() })
	return l.Addr().(*net.TCPAddr).AddrPort().Port()
}

// echoes is a client's connection that gets its bytes back.
func echoes(conn net.Conn, br *bufio.Reader) func() (int, error) {
	n := 0
	return func() (int, error) {
		n++
		line := fmt.Sprintf("line %d\n", n)
		if _, err := io.WriteString(conn, line); err != nil {
			return 0, err
		}
		if got, err := br.ReadString('\n'); err != nil || got != line {
			return 0, fmt.Errorf("got %q: %w", got, err)
		}
		return 200, nil
	}
}

// TestUnrelatedEdits states that connections live on, to clients as to
// endpoints, whatever becomes of objects that they have nothing to do with.
func TestUnrelatedEdits(t *testing.T) {
	t.Parallel()
	const edits = 150
	var served, passed atomic.Int64
	dir := t.TempDir()
	m, b, ca := newManifests(t, dir), newBackends(t), newAuthority(t)
	slice := func(service string, port uint16) string {
		return fmt.Sprintf("---\napiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\nmetadata: {name: %s-1, labels: {kubernetes.io/service-name: %s}}\n"+
			"addressType: IPv4\nports: [{port: %d}]\nendpoints: [{addresses: [127.0.0.1]}]\n", service, service, port)
	}
	m.write("service.yaml", oneService+"---\n"+strings.Replace(oneService, "name: s", "name: p", 1)+
		slice("s", upgrading(t, &served))+slice("p", tlsEchoing(t, &passed)))
	_, secret := ca.secret("default/x hosts=x.test")
	m.write("x.yaml", secret+"\n---\n"+strings.Replace(fmt.Sprintf(oneIngress, "/"), "spec: {", "spec: {tls: [{hosts: [x.test], secretName: x}], ", 1)+
		"---\n"+strings.NewReplacer("name: i", "name: pass, annotations: {nginx.ingress.kubernetes.io/ssl-passthrough: 'true'}", "x.test", "pass.test", "name: s", "name: p").Replace(fmt.Sprintf(oneIngress, "/")))
	o := testOptions(dir)
	o.SSLRedirect = false
	g := startGateway(t, o)
	m.wait(g)

	cfg := &tls.Config{ServerName: "x.test", RootCAs: ca.pool()}
	conns := openConns(t, g, cfg)
	tunnel, err := net.Dial("tcp", g.Addr(false).String())
	if err != nil {
		t.Fatal(err)
	}
	defer tunnel.Close()
	tunnel.SetDeadline(time.Now().Add(patience))
	io.WriteString(tunnel, "GET / HTTP/1.1\r\nHost: x.test\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n")
	br := bufio.NewReader(tunnel)
	if res, err := http.ReadResponse(br, nil); err != nil || res.StatusCode != 101 {
		t.Fatalf("upgrade: %v %v", res, err)
	}
	through, err := tls.Dial("tcp", g.Addr(true).String(), &tls.Config{ServerName: "pass.test", InsecureSkipVerify: true})
	if err != nil {
		t.Fatal(err)
	}
	defer through.Close()
	through.SetDeadline(time.Now().Add(patience))
	conns = append(conns, openConn{"WebSocket", echoes(tunnel, br)}, openConn{"passthrough", echoes(through, bufio.NewReader(through))})
	all := func(when string) {
		t.Helper()
		for _, c := range conns {
			if got, err := c.ask(); err != nil || got != 200 {
				t.Fatalf("%s: %s: %d %v", when, c.name, got, err)
			}
		}
	}
	all("before")
	tunnelled := passed.Load()

	generation := g.stats.Config.Generation.Load()
	other := strings.NewReplacer("name: i", "name: other", "name: s,", "name: other,")
	for i := range edits {
		host := fmt.Sprintf("other%d.test", i%7)
		ingress := strings.Replace(other.Replace(fmt.Sprintf(oneIngress, fmt.Sprintf("/p%d", i))), "x.test", host, 1)
		switch i % 5 {
		case 1:
			_, secret := ca.secret("default/other hosts=" + host)
			ingress = secret + "\n---\n" + strings.Replace(ingress, "spec: {", "spec: {tls: [{hosts: ["+host+"], secretName: other}], ", 1)
		case 2:
			ingress = strings.Replace(ingress, "name: other", "name: other, annotations: {nginx.ingress.kubernetes.io/ssl-passthrough: 'true'}", 1)
		case 3:
			ingress += "---\n" + strings.Replace(oneService, "name: s", "name: other", 1) + sliceOf(b, "other", fmt.Sprintf("b%d", i%3))
		case 4:
			ingress = strings.Replace(ingress, "name: other", "name: other, annotations: {nginx.ingress.kubernetes.io/auth-type: nonsense}", 1)
		}
		m.write("other.yaml", ingress)
		m.wait(g)
		if i%10 == 0 {
			all(fmt.Sprintf("after edit %d", i))
		}
	}
	all("after all edits")
	if n := g.stats.Config.Generation.Load() - generation; n < edits {
		t.Errorf("only %d of %d edits became effective", n, edits)
	}
	// A request may begin before the one before it has given its connection back,
	// so that each client may have led to one.
	if n := served.Load(); n > int64(len(conns)) || passed.Load() != tunnelled {
		t.Errorf("connections to endpoints: %d and %d, want %d at most and the %d there were", n, passed.Load(), len(conns), tunnelled)
	}
}

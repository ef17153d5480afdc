package app

import (
	"bufio"
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"
)

// openConn is a client's connection that stays open while things change.
type openConn struct {
	name string
	ask  func() (status int, err error)
}

// openConns are one of each kind: HTTP/1 and HTTP/2, in the clear and not.
func openConns(t *testing.T, g *Gateway, cfg *tls.Config) []openConn {
	t.Helper()
	dial := func(secure bool, protocols ...string) net.Conn {
		t.Helper()
		conn, err := net.Dial("tcp", g.Addr(secure).String())
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { conn.Close() })
		conn.SetDeadline(time.Now().Add(patience))
		if !secure {
			return conn
		}
		c := cfg.Clone()
		c.NextProtos = protocols
		tc := tls.Client(conn, c)
		if err := tc.Handshake(); err != nil {
			t.Fatal(err)
		}
		return tc
	}
	one := func(conn net.Conn) func() (int, error) {
		br := bufio.NewReader(conn)
		return func() (int, error) {
			if _, err := fmt.Fprintf(conn, "GET / HTTP/1.1\r\nHost: %s\r\n\r\n", cfg.ServerName); err != nil {
				return 0, err
			}
			return drained(http.ReadResponse(br, nil))
		}
	}
	two := func(scheme string, conn net.Conn) func() (int, error) {
		used := false
		once := func(context.Context, string, string) (net.Conn, error) {
			if used {
				return nil, io.EOF // no second connection: the first is what is tested
			}
			used = true
			return conn, nil
		}
		tr := &http.Transport{DialContext: once, DialTLSContext: once, Protocols: new(http.Protocols)}
		tr.Protocols.SetHTTP2(scheme == "https")
		tr.Protocols.SetUnencryptedHTTP2(scheme == "http")
		t.Cleanup(tr.CloseIdleConnections)
		return func() (int, error) {
			req, err := http.NewRequest("GET", scheme+"://"+cfg.ServerName+"/", nil)
			if err != nil {
				return 0, err
			}
			return drained(tr.RoundTrip(req))
		}
	}
	return []openConn{
		{"HTTP/1", one(dial(false))},
		{"HTTP/2", two("http", dial(false))},
		{"HTTP/1 over TLS", one(dial(true))},
		{"HTTP/2 over TLS", two("https", dial(true, "h2"))},
	}
}

func drained(resp *http.Response, err error) (int, error) {
	if err != nil {
		return 0, err
	}
	defer resp.Body.Close()
	_, err = io.Copy(io.Discard, resp.Body)
	return resp.StatusCode, err
}

// TestGuardsOnOpenConnections states that a guard holds from the next request
// on, also on connections that were open before it came.
func TestGuardsOnOpenConnections(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	m, b, ca := newManifests(t, dir), newBackends(t), newAuthority(t)
	m.write("service.yaml", oneService+sliceOf(b, "s", "s"))
	m.write("users.yaml", "apiVersion: v1\nkind: Secret\nmetadata: {name: users}\nstringData: {auth: \"a:{SHA}piGucRdTwGb7+i3S1svNik60+fw=\"}\n")
	guard := func(annotations ...string) {
		t.Helper()
		var lines strings.Builder
		for _, a := range annotations {
			lines.WriteString("\n    nginx.ingress.kubernetes.io/" + a)
		}
		m.write("ingress.yaml", strings.Replace(fmt.Sprintf(oneIngress, "/"), "metadata: {name: i}", "metadata:\n  name: i\n  annotations:\n    example.com/x: z"+lines.String(), 1))
	}
	guard()
	g := startGateway(t, testOptions(dir))
	m.wait(g)
	conns := openConns(t, g, &tls.Config{ServerName: "x.test", RootCAs: ca.pool(), InsecureSkipVerify: true})
	f := func(want int) {
		t.Helper()
		m.wait(g)
		for _, c := range conns {
			if got, err := c.ask(); err != nil || got != want {
				t.Errorf("%s: %d %v, want %d", c.name, got, err, want)
			}
		}
	}
	f(200)
	guard("auth-type: basic", "auth-secret: users")
	f(401)
	guard("denylist-source-range: 127.0.0.0/8")
	f(403)
	guard("auth-url: http://a.test")
	f(503)
	guard("auth-type: basic", "auth-secret: missing")
	f(503)
	guard()
	f(200)
}

// TestClientAuthOnOpenConnections states that neither an open connection nor a
// session to resume outlives what is asked of client certificates: after a
// change they get nothing from the endpoint.
func TestClientAuthOnOpenConnections(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	m, b, ca := newManifests(t, dir), newBackends(t), newAuthority(t)
	ca.addClient("alice cn=alice")
	m.write("service.yaml", oneService+sliceOf(b, "s", "s"))
	_, secret := ca.secret("default/x hosts=x.test")
	m.write("x.yaml", secret)
	write := func(authority string) {
		t.Helper()
		_, secret := ca.secret("default/ca only-ca " + authority)
		m.write("ca.yaml", secret)
	}
	write("ca")
	ingress := strings.Replace(fmt.Sprintf(oneIngress, "/"), "spec: {", "spec: {tls: [{hosts: [x.test], secretName: x}], ", 1)
	annotated := strings.Replace(ingress, "metadata: {name: i}", "metadata: {name: i, annotations: {nginx.ingress.kubernetes.io/auth-tls-secret: default/ca}}", 1)
	m.write("ingress.yaml", annotated)
	g := startGateway(t, testOptions(dir))
	m.wait(g)
	alice := ca.clients["alice"]
	cfg := &tls.Config{
		ServerName: "x.test", RootCAs: ca.pool(), ClientSessionCache: tls.NewLRUClientSessionCache(8),
		GetClientCertificate: func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return &alice, nil },
	}
	// f opens connections, makes the change, and expects that they are of no use
	// any more: an error, or an answer made here.
	f := func(what string, change func(), fresh ...int) {
		t.Helper()
		conns := openConns(t, g, cfg)[2:]
		for _, c := range conns {
			if got, err := c.ask(); err != nil || got != 200 {
				t.Errorf("%s: %s before: %d %v", what, c.name, got, err)
			}
		}
		change()
		m.wait(g)
		for _, c := range conns {
			if got, err := c.ask(); err == nil && got != 400 && got != 421 {
				t.Errorf("%s: %s goes on after it: %d", what, c.name, got)
			}
		}
		for i, c := range openConns(t, g, cfg)[2:] {
			if got, err := c.ask(); err != nil || got != fresh[0] {
				t.Errorf("%s: new connection %d: %d %v, want %d", what, i, got, err, fresh[0])
			}
		}
	}
	f("revocation", func() { write("ca revokes=alice") }, 400)
	write("ca")
	m.wait(g)
	f("another CA", func() { write("ca=other") }, 400)
	write("ca")
	m.wait(g)
	f("a broken CA", func() {
		m.write("ca.yaml", "apiVersion: v1\nkind: Secret\nmetadata: {name: ca}\nstringData: {ca.crt: nonsense}\n")
	}, 503)
}

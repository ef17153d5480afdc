package conformance

import (
	"bufio"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net/http"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// load sends requests from many clients, each request on a connection of its
// own, and none is ever sent again.
type load struct {
	sent, failed atomic.Int64
	stop         chan struct{}
	clients      sync.WaitGroup
}

// startLoad runs one until the test ends, or finish is called.
func startLoad(t *testing.T, clients int, request func() error) *load {
	l := &load{stop: make(chan struct{})}
	for range clients {
		l.clients.Go(func() {
			for {
				select {
				case <-l.stop:
					return
				default:
				}
				if err := request(); err != nil && l.failed.Add(1) <= 5 {
					t.Errorf("request %d: %v", l.sent.Load(), err)
				}
				l.sent.Add(1)
			}
		})
	}
	return l
}

func (l *load) finish(t *testing.T) {
	close(l.stop)
	l.clients.Wait()
	t.Logf("%d requests", l.sent.Load())
	if sent, failed := l.sent.Load(), l.failed.Load(); sent < 100 || failed > 0 {
		t.Errorf("%d of %d requests failed", failed, sent)
	}
}

// more waits until that many further requests were sent.
func (l *load) more(t *testing.T, n int64) {
	t.Helper()
	until := l.sent.Load() + n
	await(t, "requests", func() error {
		if l.sent.Load() < until {
			return errors.New("too few")
		}
		return nil
	})
}

// rawRequest makes one connection and sends requests on it.
func rawRequest(addr string, tc *tls.Config, head string, requests int) (*tls.ConnectionState, error) {
	c, err := tls.Dial("tcp", addr, tc)
	if err != nil {
		return nil, err
	}
	defer c.Close()
	c.SetDeadline(time.Now().Add(10 * time.Second))
	rd := bufio.NewReader(c)
	for range requests {
		if _, err := io.WriteString(c, head); err != nil {
			return nil, err
		}
		resp, err := http.ReadResponse(rd, nil)
		if err != nil {
			return nil, err
		}
		body, err := io.ReadAll(resp.Body)
		if err != nil {
			return nil, err
		}
		if resp.StatusCode != 200 {
			return nil, fmt.Errorf("%s: %s", resp.Status, body)
		}
	}
	s := c.ConnectionState()
	return &s, nil
}

func TestCertificateRotatedUnderLoad(t *testing.T) {
	judge(t, "tls-clients", "Certificates replaced under load fail no request")
	ca := newAuthority(t, "judge")
	e := startEdge(t, documents(
		service("mirror", "", startMirror(t, nil)), ingress("host", "host.test", "mirror", "front"),
		tlsSecret("other", ca.issue(time.Hour, "other.test")),
	))
	e.write("secret", documents(tlsSecret("front", ca.issue(time.Hour, "host.test"))))
	tc := &tls.Config{RootCAs: ca.pool(), ServerName: "host.test", ClientSessionCache: tls.NewLRUClientSessionCache(0)}
	const head = "GET / HTTP/1.1\r\nHost: host.test\r\n\r\n"
	shown := func() (string, error) {
		fresh := tc.Clone()
		fresh.ClientSessionCache = nil
		s, err := rawRequest(e.https, fresh, head, 1)
		if err != nil {
			return "", err
		}
		return pemText("CERTIFICATE", s.PeerCertificates[0].Raw), nil
	}
	await(t, "the first certificate", func() error { _, err := shown(); return err })
	l := startLoad(t, 6, func() error { _, err := rawRequest(e.https, tc, head, 3); return err })
	for range 8 {
		p := ca.issue(time.Hour, "host.test")
		e.write("secret", documents(tlsSecret("front", p)))
		await(t, "the new certificate", func() error {
			cert, err := shown()
			if err != nil {
				t.Error(err)
			}
			if cert != p.cert {
				return errors.New("another one")
			}
			return nil
		})
		l.more(t, 20)
	}
	l.finish(t)
}

func TestPasswordsRotatedUnderLoad(t *testing.T) {
	judge(t, "tls-clients", "Passwords replaced under load fail no request")
	openssl := tool(t, "openssl", "openssl")
	users := func(names ...string) string {
		text := ""
		for _, n := range names {
			out, err := output(t, "", openssl, "passwd", "-apr1", "secret")
			if err != nil {
				t.Fatal(err)
			}
			text += n + ":" + out
		}
		return documents(secret("users", "Opaque", "auth", text))
	}
	ca := newAuthority(t, "judge")
	e := startEdge(t, documents(
		tlsSecret("front", ca.issue(time.Hour, "host.test")), service("mirror", "", startMirror(t, nil)),
		ingress("host", "host.test", "mirror", "front", "auth-type", "basic", "auth-secret", "users"),
	))
	e.write("users", users("stays", "goes"))
	tc := &tls.Config{RootCAs: ca.pool(), ServerName: "host.test"}
	client := clientTo(e.https, tc)
	login := func(user string, want int) {
		t.Helper()
		await(t, fmt.Sprintf("%d for %s", want, user), func() error {
			req, _ := http.NewRequest("GET", "https://host.test/", nil)
			req.SetBasicAuth(user, "secret")
			resp, err := client.Do(req)
			if err != nil {
				t.Fatal(err)
			}
			resp.Body.Close()
			if resp.StatusCode != want {
				return errors.New(resp.Status)
			}
			return nil
		})
	}
	login("stays", 200)
	const head = "GET / HTTP/1.1\r\nHost: host.test\r\nAuthorization: Basic c3RheXM6c2VjcmV0\r\n\r\n"
	l := startLoad(t, 6, func() error { _, err := rawRequest(e.https, tc, head, 3); return err })
	for range 4 {
		e.write("users", users("stays"))
		login("goes", 401)
		l.more(t, 20)
		e.write("users", users("comes", "stays", "goes"))
		login("goes", 200)
		l.more(t, 20)
	}
	l.finish(t)
}

// TestAuthorityRotatedUnderLoad changes the authority of the backends as it is
// done in practice: first both are trusted, then the backend gets a certificate
// of the new one, then only that is trusted.
func TestAuthorityRotatedUnderLoad(t *testing.T) {
	judge(t, "tls-clients", "Authorities of backends replaced under load fail no request")
	ca, first, second := newAuthority(t, "judge"), newAuthority(t, "first"), newAuthority(t, "second")
	certificates := map[*authority]*tls.Certificate{}
	for _, a := range []*authority{first, second} {
		p := a.issue(time.Hour, "backend.test")
		certificates[a] = &p.tls
	}
	var moving atomic.Pointer[tls.Certificate]
	moving.Store(certificates[first])
	movingConfig := &tls.Config{GetConfigForClient: func(*tls.ClientHelloInfo) (*tls.Config, error) {
		return &tls.Config{Certificates: []tls.Certificate{*moving.Load()}}, nil
	}}
	bridged := func(name string) []object {
		return ingress(name, name+".test", name, "front", "backend-protocol", "HTTPS",
			"proxy-ssl-secret", namespace+"/authorities", "proxy-ssl-verify", "on", "proxy-ssl-name", "backend.test")
	}
	e := startEdge(t, documents(
		tlsSecret("front", ca.issue(time.Hour, "moving.test", "first.test", "second.test")),
		service("moving", "", startMirror(t, movingConfig)),
		service("first", "", startMirror(t, &tls.Config{Certificates: []tls.Certificate{*certificates[first]}})),
		service("second", "", startMirror(t, &tls.Config{Certificates: []tls.Certificate{*certificates[second]}})),
		bridged("moving"), bridged("first"), bridged("second"),
	))
	trust := func(pem string) { e.write("authorities", documents(secret("authorities", "Opaque", "ca.crt", pem))) }
	client := clientTo(e.https, &tls.Config{RootCAs: ca.pool()})
	status := func(host string, want int) {
		t.Helper()
		await(t, fmt.Sprintf("%d of %s", want, host), func() error {
			if s := ask(t, client, "https://"+host+".test/"); s.Status != want {
				return fmt.Errorf("%d %s", s.Status, s.Body)
			}
			return nil
		})
	}
	trust(first.pem())
	status("first", 200)
	status("second", 502)
	tc := &tls.Config{RootCAs: ca.pool(), ServerName: "moving.test"}
	const head = "GET / HTTP/1.1\r\nHost: moving.test\r\n\r\n"
	l := startLoad(t, 6, func() error { _, err := rawRequest(e.https, tc, head, 3); return err })
	for _, a := range [][2]*authority{{first, second}, {second, first}, {first, second}} {
		from, to := a[0], a[1]
		trust(from.pem() + to.pem())
		status(to.cert.Subject.CommonName, 200)
		l.more(t, 20)
		moving.Store(certificates[to])
		l.more(t, 20)
		trust(to.pem())
		gone := from.cert.Subject.CommonName
		status(gone, 502)
		// Connections that were made before are no way around it.
		for range 10 {
			if s := ask(t, client, "https://"+gone+".test/"); s.Status != 502 {
				t.Errorf("%s: %d after its authority is gone", gone, s.Status)
			}
		}
		l.more(t, 20)
	}
	l.finish(t)
}

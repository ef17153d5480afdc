package conformance

import (
	"bufio"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func offloadingEdge(t *testing.T) (*edge, *authority) {
	ca := newAuthority(t, "judge")
	mirror := startMirror(t, nil)
	return startEdge(t, documents(
		tlsSecret("front", ca.issue(time.Hour, "off.test", "more.test")),
		service("mirror", "", mirror),
		ingress("off", "off.test", "mirror", "front"),
		ingress("ciphers", "more.test", "mirror", "front", "ssl-ciphers", "ECDHE-ECDSA-CHACHA20-POLY1305"),
		ingress("rest", "", "mirror", ""),
	)), ca
}

func TestOffloadingGo(t *testing.T) {
	judge(t, "tls-clients", "Go: TLS 1.2 and 1.3, ALPN, resumption, cipher suites")
	e, ca := offloadingEdge(t)
	f := func(name string, base *tls.Config, version uint16, alpn string) {
		t.Run(name, func(t *testing.T) {
			tc := base.Clone()
			tc.RootCAs, tc.ServerName = ca.pool(), "off.test"
			tc.ClientSessionCache = tls.NewLRUClientSessionCache(0)
			for i, resumed := range []bool{false, true} {
				c, err := tls.Dial("tcp", e.https, tc)
				if err != nil {
					t.Fatal(err)
				}
				defer c.Close()
				s := c.ConnectionState()
				if s.Version != version || s.NegotiatedProtocol != alpn || s.DidResume != resumed {
					t.Errorf("connection %d: %x, %q, resumed %v; want %x, %q, %v", i, s.Version, s.NegotiatedProtocol, s.DidResume, version, alpn, resumed)
				}
				if alpn == "h2" {
					continue // see below
				}
				io.WriteString(c, "GET / HTTP/1.1\r\nHost: off.test\r\nConnection: close\r\n\r\n")
				resp, err := http.ReadResponse(bufio.NewReader(c), nil)
				if err != nil {
					t.Fatal(err)
				}
				io.Copy(io.Discard, resp.Body) // and the tickets
				if resp.StatusCode != 200 {
					t.Errorf("status %d", resp.StatusCode)
				}
			}
		})
	}
	v12 := &tls.Config{MaxVersion: tls.VersionTLS12}
	v13 := &tls.Config{MinVersion: tls.VersionTLS13}
	f("1.2", v12, tls.VersionTLS12, "")
	f("1.3", v13, tls.VersionTLS13, "")
	v12.NextProtos, v13.NextProtos = []string{"http/1.1"}, []string{"http/1.1"}
	f("1.2 http/1.1", v12, tls.VersionTLS12, "http/1.1")
	f("1.3 http/1.1", v13, tls.VersionTLS13, "http/1.1")
	v12.NextProtos = []string{"h2", "http/1.1"}
	f("1.2 h2", v12, tls.VersionTLS12, "h2")

	refused := func(name string, tc *tls.Config) {
		t.Helper()
		tc.RootCAs = ca.pool()
		if c, err := tls.Dial("tcp", e.https, tc); err == nil {
			t.Errorf("%s: %x", name, c.ConnectionState().Version)
			c.Close()
		}
	}
	refused("TLS 1.1", &tls.Config{ServerName: "off.test", MinVersion: tls.VersionTLS10, MaxVersion: tls.VersionTLS11})
	refused("another ALPN", &tls.Config{ServerName: "off.test", NextProtos: []string{"smtp"}})
	refused("another cipher", &tls.Config{ServerName: "more.test", MaxVersion: tls.VersionTLS12,
		CipherSuites: []uint16{tls.TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256}})
	c, err := tls.Dial("tcp", e.https, &tls.Config{RootCAs: ca.pool(), ServerName: "more.test", MaxVersion: tls.VersionTLS12})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if s := c.ConnectionState().CipherSuite; s != tls.TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256 {
		t.Errorf("cipher %s", tls.CipherSuiteName(s))
	}
}

func TestOffloadingHTTP(t *testing.T) {
	judge(t, "tls-clients", "Go: requests over HTTP/1 and HTTP/2, redirects to https, strict transport security, unknown names")
	e, ca := offloadingEdge(t)
	for _, h2 := range []bool{false, true} {
		client := clientTo(e.https, &tls.Config{RootCAs: ca.pool()})
		client.Transport.(*http.Transport).ForceAttemptHTTP2 = h2
		s := ask(t, client, "https://off.test/a?b=c")
		_, port, _ := net.SplitHostPort(e.https)
		if s.Status != 200 || s.answer.ProtoMajor == 2 != h2 || s.Target != "/a?b=c" || s.Host != "off.test" {
			t.Errorf("%d over %s, backend saw %+v", s.Status, s.answer.Proto, s)
		}
		if s.Header.Get("X-Forwarded-Proto") != "https" || s.Header.Get("X-Forwarded-Port") != port {
			t.Errorf("X-Forwarded-Proto %q, -Port %q", s.Header.Get("X-Forwarded-Proto"), s.Header.Get("X-Forwarded-Port"))
		}
		if got := s.answer.Header["Strict-Transport-Security"]; fmt.Sprint(got) != "[max-age=31536000; includeSubDomains]" {
			t.Errorf("HSTS %q", got)
		}
	}
	plain := clientTo(e.http, nil)
	s := ask(t, plain, "http://off.test/a%20b/?c=d")
	if want := "https://off.test:" + port(e.https) + "/a%20b/?c=d"; s.Status != 308 || s.answer.Header.Get("Location") != want {
		t.Errorf("%d to %q, want 308 to %q", s.Status, s.answer.Header.Get("Location"), want)
	}
	if got := s.answer.Header["Strict-Transport-Security"]; got != nil {
		t.Errorf("HSTS in cleartext: %q", got)
	}

	// A name that nobody serves gets the default certificate, which nobody trusts.
	c, err := tls.Dial("tcp", e.https, &tls.Config{InsecureSkipVerify: true, ServerName: "unknown.test"})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if leaf := c.ConnectionState().PeerCertificates[0]; leaf.VerifyHostname("off.test") == nil || leaf.CheckSignatureFrom(ca.cert) == nil {
		t.Errorf("an unknown name gets the certificate of %v", leaf.DNSNames)
	}
}

func port(addr string) string {
	_, p, _ := net.SplitHostPort(addr)
	return p
}

func TestOffloadingCurl(t *testing.T) {
	judge(t, "tls-clients", "curl: HTTP/1.1, HTTP/2 and large bodies")
	e, ca := offloadingEdge(t)
	curl := tool(t, "curl", "curl")
	f := func(want string, args ...string) {
		t.Helper()
		args = append([]string{"-sS", "--max-time", "10", "--cacert", file(t, ca.pem()), "-o", "/dev/null",
			"--resolve", "off.test:" + port(e.https) + ":127.0.0.1", "--resolve", "off.test:" + port(e.http) + ":127.0.0.1",
			"-w", "%{http_version} %{http_code} %{ssl_verify_result} %{num_connects}"}, args...)
		if out, err := output(t, "", curl, args...); err != nil || out != want {
			t.Errorf("curl %s: %q, %v, want %q", strings.Join(args[12:], " "), out, err, want)
		}
	}
	secure, plain := "https://off.test:"+port(e.https)+"/x", "http://off.test:"+port(e.http)+"/x"
	f("2 200 0 1", "--http2", secure)
	f("2 200 0 1", "--http2", "--tlsv1.2", "--tls-max", "1.2", secure)
	f("1.1 200 0 1", "--http1.1", secure)
	f("1.1 200 0 1", "--no-alpn", secure)
	f("1.1 308 0 1", plain)
	f("2 200 0 2", "-L", plain) // two connections
	f("2 308 0 1", "--http2-prior-knowledge", plain)
	big := strings.Repeat("0123456789abcdef", 1<<16)
	f("2 200 0 1", "--http2", "-H", "Expect:", "--data-binary", "@"+file(t, big), secure)
	f("1.1 200 0 1", "--http1.1", "-H", "Expect: 100-continue", "--data-binary", "@"+file(t, big), secure)
}

func TestOffloadingOpenSSL(t *testing.T) {
	judge(t, "tls-clients", "OpenSSL: versions, ALPN, server names")
	e, ca := offloadingEdge(t)
	openssl := tool(t, "openssl", "openssl")
	cafile := file(t, ca.pem())
	s := func(args ...string) string {
		t.Helper()
		args = append([]string{"s_client", "-connect", e.https, "-CAfile", cafile, "-verify_return_error", "-ign_eof"}, args...)
		out, err := output(t, "GET /y HTTP/1.1\r\nHost: off.test\r\nConnection: close\r\n\r\n", openssl, args...)
		if err != nil {
			t.Errorf("openssl %s: %v\n%s", strings.Join(args, " "), err, out)
		}
		return out
	}
	has := func(out string, wants ...string) {
		t.Helper()
		for _, w := range wants {
			if !strings.Contains(out, w) {
				t.Errorf("no %q in\n%s", w, out)
			}
		}
	}
	for _, v := range []struct{ flag, name string }{{"-tls1_2", "TLSv1.2"}, {"-tls1_3", "TLSv1.3"}} {
		session := filepath.Join(t.TempDir(), "session")
		has(s(v.flag, "-servername", "off.test", "-verify_hostname", "off.test", "-alpn", "http/1.1", "-sess_out", session),
			"Verify return code: 0 (ok)", "ALPN protocol: http/1.1", "New, "+v.name, "HTTP/1.1 200 OK", "Verified peername: off.test")
		has(s(v.flag, "-servername", "off.test", "-sess_in", session), "Reused, "+v.name, "HTTP/1.1 200 OK")
	}
	if out, err := output(t, "", openssl, "s_client", "-connect", e.https, "-servername", "off.test", "-tls1_1", "-cipher", "ALL@SECLEVEL=0"); err == nil {
		t.Errorf("TLS 1.1:\n%s", out)
	}
	out, _ := output(t, "", openssl, "s_client", "-connect", e.https, "-noservername")
	has(out, "verify error:num=")
}

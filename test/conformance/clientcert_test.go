package conformance

import (
	"crypto/tls"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"
)

// clients are certificates to come with.
type clients struct {
	alice, bob, revoked, expired, stranger keyPair
}

func clientCertEdge(t *testing.T) (*edge, *authority, clients) {
	ca, theirs, other := newAuthority(t, "judge"), newAuthority(t, "clients"), newAuthority(t, "clients")
	c := clients{
		alice: theirs.issue(time.Hour, "alice"), bob: theirs.issue(time.Hour, "bob"),
		revoked: theirs.issue(time.Hour, "alice"), expired: theirs.issue(-time.Hour, "alice"),
		stranger: other.issue(time.Hour, "alice"),
	}
	mirror := startMirror(t, nil)
	guarded := func(name string, more ...string) []object {
		return ingress(name, name+".test", "mirror", "front", append([]string{"auth-tls-secret", namespace + "/clients"}, more...)...)
	}
	return startEdge(t, documents(
		tlsSecret("front", ca.issue(time.Hour, "*.test", "must.test", "maybe.test", "named.test", "told.test", "sent.test", "any.test", "open.test", "broken.test")),
		secret("clients", "Opaque", "ca.crt", theirs.pem(), "ca.crl", theirs.revoke(c.revoked)),
		service("mirror", "", mirror),
		guarded("must"),
		guarded("maybe", "auth-tls-verify-client", "optional"),
		guarded("named", "auth-tls-match-cn", "CN=(alice|carol)"),
		guarded("told", "auth-tls-pass-certificate-to-upstream", "true"),
		guarded("sent", "auth-tls-error-page", "https://login.test/please"),
		guarded("any", "auth-tls-verify-client", "optional_no_ca", "auth-tls-pass-certificate-to-upstream", "true"),
		ingress("broken", "broken.test", "mirror", "front", "auth-tls-secret", namespace+"/nothing"),
		ingress("open", "open.test", "mirror", "front"),
	)), ca, c
}

// as makes a client that shows the certificate, whatever authorities are asked
// for; none when it is nil.
func as(addr string, ca *authority, p *keyPair, h2 bool) *http.Client {
	tc := &tls.Config{RootCAs: ca.pool()}
	if p != nil {
		tc.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return &p.tls, nil }
	}
	client := clientTo(addr, tc)
	client.Transport.(*http.Transport).ForceAttemptHTTP2 = h2
	return client
}

func TestClientCertificates(t *testing.T) {
	judge(t, "tls-clients", "Go: client certificates required, optional or not verified, and what the backend is told of them")
	e, ca, c := clientCertEdge(t)
	for _, h2 := range []bool{false, true} {
		f := func(host string, p *keyPair, status int, reason, verify string) {
			t.Helper()
			s := ask(t, as(e.https, ca, p, h2), "https://"+host+".test/",
				"ssl-client-verify", "SUCCESS", "Ssl-Client-Verify", "SUCCESS", "ssl_client_verify", "SUCCESS", "Ssl-Client-Cert", "forged",
				"ssl-client-subject-dn", "CN=admin", "SSL_CLIENT_ISSUER_DN", "CN=admin")
			if s.Status != status || !strings.Contains(s.Body, reason) {
				t.Errorf("%s (h2 %v): %d %q, want %d %q", host, h2, s.Status, s.Body, status, reason)
				return
			}
			if status != 200 {
				return
			}
			subject, issuer, cert := "", "", ""
			if verify != "" && p != nil {
				subject, issuer = "CN="+p.tls.Leaf.Subject.CommonName, "CN=clients"
			}
			if host == "told" {
				cert = p.cert
			}
			check := func(field, want string) {
				t.Helper()
				var got []string
				for name, values := range s.Header {
					if strings.EqualFold(strings.ReplaceAll(name, "_", "-"), field) {
						got = append(got, values...)
					}
				}
				switch {
				case want == "" && got == nil:
				case want == "" || len(got) != 1:
					t.Errorf("%s (h2 %v): %s: %q, want %q", host, h2, field, got, want)
				case field == "ssl-client-cert":
					if plain, err := url.PathUnescape(got[0]); err != nil || plain != want {
						t.Errorf("%s: %q, %v", field, got[0], err)
					}
				case field == "ssl-client-verify" && got[0] != want, !strings.HasPrefix(got[0], want):
					t.Errorf("%s (h2 %v): %s: %q, want %q", host, h2, field, got, want)
				}
			}
			check("ssl-client-verify", verify)
			check("ssl-client-subject-dn", subject)
			check("ssl-client-issuer-dn", issuer)
			check("ssl-client-cert", cert)
		}
		f("must", nil, 400, "ClientCertMissing", "")
		f("must", &c.alice, 200, "", "SUCCESS")
		f("must", &c.bob, 200, "", "SUCCESS")
		f("must", &c.revoked, 400, "ClientCertInvalid", "")
		f("must", &c.expired, 400, "ClientCertInvalid", "")
		f("must", &c.stranger, 400, "ClientCertInvalid", "")
		f("maybe", nil, 200, "", "NONE")
		f("maybe", &c.alice, 200, "", "SUCCESS")
		f("maybe", &c.stranger, 400, "ClientCertInvalid", "")
		f("named", &c.alice, 200, "", "SUCCESS")
		f("named", &c.bob, 403, "ClientCertName", "")
		f("named", nil, 400, "ClientCertMissing", "")
		f("told", &c.alice, 200, "", "SUCCESS")
		f("open", nil, 200, "", "")
		f("open", &c.alice, 200, "", "")
		f("broken", nil, 503, "GuardInvalid", "")
		f("broken", &c.alice, 503, "GuardInvalid", "")

		s := ask(t, as(e.https, ca, nil, h2), "https://sent.test/")
		if s.Status != 302 || s.answer.Header.Get("Location") != "https://login.test/please" {
			t.Errorf("error page: %d to %q", s.Status, s.answer.Header.Get("Location"))
		}
	}
	s := ask(t, as(e.https, ca, &c.expired, false), "https://must.test/why-not")
	if line := e.logged("/why-not"); s.Status != 400 || !strings.Contains(line["detail"].(string), "expired") {
		t.Errorf("%d, and the log says %v", s.Status, line["detail"])
	}
}

// TestClientCertificatesOfAnybody: with optional_no_ca the issuer need not be
// known, and the backend is told whether it is.
func TestClientCertificatesOfAnybody(t *testing.T) {
	judge(t, "tls-clients", "curl, OpenSSL: client certificates of any authority (optional_no_ca)")
	e, ca, c := clientCertEdge(t)
	curl, openssl, cafile := tool(t, "curl", "curl"), tool(t, "openssl", "openssl"), file(t, ca.pem())
	at := "any.test:" + port(e.https)
	f := func(name string, p *keyPair, want string) {
		t.Helper()
		refused := strings.HasPrefix(want, "400")
		check := func(by string, s seen) {
			t.Helper()
			verify, subject, cert := s.Header.Get("Ssl-Client-Verify"), s.Header.Get("Ssl-Client-Subject-Dn"), s.Header.Get("Ssl-Client-Cert")
			if p == nil {
				if verify != want || subject != "" || cert != "" {
					t.Errorf("%s, %s: %q %q %q", by, name, verify, subject, cert)
				}
				return
			}
			plain, err := url.PathUnescape(cert)
			if verify != want || subject != "CN="+p.tls.Leaf.Subject.CommonName+",O=Judges" || plain != p.cert || err != nil {
				t.Errorf("%s, %s: %q %q %q", by, name, verify, subject, cert)
			}
		}
		for _, version := range []string{"1.2", "1.3"} {
			args := []string{"-sS", "--cacert", cafile, "--resolve", at + ":127.0.0.1", "--tlsv" + version, "--tls-max", version,
				"-H", "ssl-client-verify: SUCCESS", "-H", "ssl-client-cert: forged", "-w", "%{stderr}%{http_code}"}
			if p != nil {
				args = append(args, "--cert", file(t, p.cert), "--key", file(t, p.key))
			}
			out, err := output(t, "", curl, append(args, "https://"+at+"/")...)
			var s seen
			body, status := out, ""
			if i := strings.LastIndexByte(out, '}'); i >= 0 {
				body, status = out[:i+1], strings.TrimSpace(out[i+1:])
			}
			if refused {
				if err != nil || !strings.Contains(out, "ClientCertInvalid") || !strings.HasSuffix(out, "400") {
					t.Errorf("curl, TLS %s, %s: %q %v", version, name, out, err)
				}
			} else if jsonErr := json.Unmarshal([]byte(body), &s); err != nil || status != "200" || jsonErr != nil {
				t.Errorf("curl, TLS %s, %s: %q %v %v", version, name, out, err, jsonErr)
			} else {
				check("curl", s)
			}
			args = []string{"s_client", "-quiet", "-ign_eof", "-connect", e.https, "-servername", "any.test", "-CAfile", cafile, "-verify_return_error", "-tls" + strings.ReplaceAll(version, ".", "_")}
			if p != nil {
				args = append(args, "-cert", file(t, p.cert), "-key", file(t, p.key))
			}
			out, err = output(t, "GET / HTTP/1.1\r\nHost: any.test\r\nConnection: close\r\n\r\n", openssl, args...)
			if refused {
				if err != nil || !strings.Contains(out, "HTTP/1.1 400 ") || !strings.Contains(out, "ClientCertInvalid") {
					t.Errorf("openssl, TLS %s, %s: %v\n%s", version, name, err, out)
				}
				continue
			}
			from, to := strings.IndexByte(out, '{'), strings.LastIndexByte(out, '}')
			if s = (seen{}); err != nil || !strings.Contains(out, "HTTP/1.1 200 OK") || from < 0 || json.Unmarshal([]byte(out[from:to+1]), &s) != nil {
				t.Errorf("openssl, TLS %s, %s: %v\n%s", version, name, err, out)
			} else {
				check("openssl", s)
			}
		}
	}
	f("none", nil, "NONE")
	f("known", &c.alice, "SUCCESS")
	f("of another authority", &c.stranger, "FAILED:unable to verify the first certificate")
	f("expired", &c.expired, "400")
	f("revoked", &c.revoked, "400")
}

// TestDomainFronting: the name of the handshake decides on client certificates,
// so no other may be asked for behind it.
func TestDomainFronting(t *testing.T) {
	judge(t, "tls-clients", "Another host behind a handshake is no way around client certificates")
	e, ca, c := clientCertEdge(t)
	for _, h2 := range []bool{false, true} {
		f := func(name, host string, p *keyPair, status int) {
			t.Helper()
			if s := ask(t, as(e.https, ca, p, h2), "https://"+name+".test/", "Host", host+".test"); s.Status != status {
				t.Errorf("%s behind %s (h2 %v): %d, want %d", host, name, h2, s.Status, status)
			}
		}
		f("open", "must", nil, 421)
		f("open", "must", &c.alice, 421)
		f("open", "maybe", nil, 421)
		f("must", "open", &c.alice, 421)
		f("must", "told", &c.alice, 200) // the same settings
		f("open", "OPEN", nil, 200)
	}
	// Without a name the default certificate is shown.
	tc := &tls.Config{InsecureSkipVerify: true, ServerName: "127.0.0.1"} // an address is not sent
	if s := ask(t, clientTo(e.https, tc), "https://127.0.0.1/", "Host", "must.test"); s.Status != 421 {
		t.Errorf("without a server name: %d, want 421", s.Status)
	}
	// And cleartext is no way around it either.
	if s := ask(t, clientTo(e.http, nil), "http://must.test/"); s.Status != 308 {
		t.Errorf("cleartext: %d, want 308", s.Status)
	}
}

func TestClientCertificatesOfOthers(t *testing.T) {
	judge(t, "tls-clients", "curl and OpenSSL: client certificates in TLS 1.2 and 1.3, known, unknown, revoked")
	e, ca, c := clientCertEdge(t)
	curl, openssl := tool(t, "curl", "curl"), tool(t, "openssl", "openssl")
	cafile := file(t, ca.pem())
	f := func(p *keyPair, version, want string) {
		t.Helper()
		args := []string{"-sS", "--max-time", "10", "--cacert", cafile, "-o", "/dev/null", "-w", "%{http_code}",
			"--resolve", "must.test:" + port(e.https) + ":127.0.0.1", "--tlsv" + version, "--tls-max", version}
		if p != nil {
			args = append(args, "--cert", file(t, p.cert), "--key", file(t, p.key))
		}
		if out, err := output(t, "", curl, append(args, "https://must.test:"+port(e.https)+"/")...); err != nil || out != want {
			t.Errorf("curl, TLS %s: %q, %v, want %s", version, out, err, want)
		}
		args = []string{"s_client", "-connect", e.https, "-servername", "must.test", "-CAfile", cafile, "-ign_eof", "-tls" + strings.ReplaceAll(version, ".", "_")}
		if p != nil {
			args = append(args, "-cert", file(t, p.cert), "-key", file(t, p.key))
		}
		out, err := output(t, "GET / HTTP/1.1\r\nHost: must.test\r\nConnection: close\r\n\r\n", openssl, args...)
		if err != nil || !strings.Contains(out, "HTTP/1.1 "+want) {
			t.Errorf("openssl, TLS %s: %v, want %s in\n%s", version, err, want, out)
		}
		if !strings.Contains(out, "Acceptable client certificate CA names\nCN = clients") {
			t.Errorf("no names of authorities in\n%s", out)
		}
	}
	for _, version := range []string{"1.2", "1.3"} {
		f(nil, version, "400")
		f(&c.alice, version, "200")
		f(&c.stranger, version, "400")
		f(&c.revoked, version, "400")
	}
}

// TestClientCertificateResumed: a session ticket is no way around what has
// happened to the certificate since, nor around another name's settings.
func TestClientCertificateResumed(t *testing.T) {
	judge(t, "tls-clients", "Resumed sessions are no way around client certificates")
	ca, theirs, other := newAuthority(t, "judge"), newAuthority(t, "clients"), newAuthority(t, "others")
	alice, bob := theirs.issue(time.Hour, "alice"), theirs.issue(time.Hour, "bob")
	e := startEdge(t, documents(
		tlsSecret("front", ca.issue(time.Hour, "must.test", "open.test")),
		service("mirror", "", startMirror(t, nil)),
		ingress("must", "must.test", "mirror", "front", "auth-tls-secret", namespace+"/clients"),
		ingress("open", "open.test", "mirror", "front"),
	))
	accept := func(a *authority, crl string) {
		e.write("clients", documents(secret("clients", "Opaque", "ca.crt", a.pem(), "ca.crl", crl)))
	}
	for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
		accept(theirs, theirs.revoke(bob))
		get := func(name string, cache tls.ClientSessionCache, p *keyPair) (status int, resumed bool) {
			t.Helper()
			tc := &tls.Config{RootCAs: ca.pool(), ServerName: name + ".test", MaxVersion: version, ClientSessionCache: cache}
			tc.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return &p.tls, nil }
			client := clientTo(e.https, tc)
			defer client.CloseIdleConnections()
			s := ask(t, client, "https://"+name+".test/", "Connection", "close")
			return s.Status, s.answer.TLS.DidResume
		}
		await(t, "the authority", func() error {
			if status, _ := get("must", nil, &alice); status != 200 {
				return fmt.Errorf("status %d", status)
			}
			return nil
		})
		cache := tls.NewLRUClientSessionCache(0)
		for _, want := range []bool{false, true} {
			if status, resumed := get("must", cache, &alice); status != 200 || resumed != want {
				t.Errorf("%x: %d, resumed %v, want 200, %v", version, status, resumed, want)
			}
		}
		// crypto/tls keys sessions by name: show one name's to the other.
		session, ok := cache.Get("must.test")
		if !ok {
			t.Fatal("no session")
		}
		foreign := tls.NewLRUClientSessionCache(0)
		foreign.Put("open.test", session)
		if status, resumed := get("open", foreign, &alice); status != 200 || resumed {
			t.Errorf("%x: another name: %d, resumed %v, want a full handshake", version, status, resumed)
		}
		for _, change := range []func(){
			func() { accept(theirs, theirs.revoke(alice)) },
			func() { accept(other, other.revoke(bob)) },
		} {
			change()
			await(t, "the change", func() error {
				if status, _ := get("must", nil, &alice); status != 400 {
					return fmt.Errorf("status %d", status)
				}
				return nil
			})
			again := tls.NewLRUClientSessionCache(0)
			again.Put("must.test", session)
			if status, _ := get("must", again, &alice); status != 400 {
				t.Errorf("%x: with the old session: %d, want 400", version, status)
			}
		}
	}
}

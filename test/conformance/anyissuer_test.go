package conformance

import (
	"bytes"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"
)

// startNginx serves hosts over TLS, each with settings of its own, until the test
// ends. They answer as if a backend had seen what nginx would tell it.
func startNginx(t *testing.T, front keyPair, hosts map[string]string) (addr string) {
	t.Helper()
	nginx, dir := tool(t, "nginx", "nginx"), t.TempDir()
	addr = freePorts(t, 1)[0]
	var conf strings.Builder
	fmt.Fprintf(&conf, "daemon off; master_process off; error_log %s/error.log info; pid %[1]s/pid; events {}\nhttp { access_log off;\n", dir)
	for _, kind := range []string{"client_body", "proxy", "fastcgi", "uwsgi", "scgi"} {
		fmt.Fprintf(&conf, "%s_temp_path %s/%[1]s;\n", kind, dir)
	}
	fmt.Fprintf(&conf, "ssl_certificate %s; ssl_certificate_key %s;\n", file(t, front.cert), file(t, front.key))
	for name, settings := range hosts {
		fmt.Fprintf(&conf, "server { listen %s ssl; server_name %s; %s location / { return 200 '{\"Header\": {\"Ssl-Client-Verify\": [\"$ssl_client_verify\"]}}'; } }\n", addr, name, settings)
	}
	conf.WriteString("}\n")
	var said bytes.Buffer
	cmd := exec.Command(nginx, "-p", dir, "-c", file(t, conf.String()))
	cmd.Stderr = &said
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan struct{})
	go func() {
		cmd.Wait()
		close(ended)
	}()
	t.Cleanup(func() {
		cmd.Process.Signal(os.Interrupt)
		<-ended
		if t.Failed() {
			log, _ := os.ReadFile(filepath.Join(dir, "error.log"))
			t.Logf("nginx: %s", log)
		}
	})
	await(t, "nginx", func() error {
		select {
		case <-ended:
			t.Fatalf("nginx ended: %s", said.Bytes())
		default:
		}
		nc, err := net.DialTimeout("tcp", addr, time.Second)
		if err != nil {
			return err
		}
		return nc.Close()
	})
	return addr
}

// below makes an authority under another.
func (a *authority) below(name string) *authority {
	sub := newAuthority(a.t, name)
	tmpl := *sub.cert
	tmpl.RawSubject = nil
	der, err := x509.CreateCertificate(rand.Reader, &tmpl, a.cert, sub.key.Public(), a.key)
	if err != nil {
		a.t.Fatal(err)
	}
	if sub.cert, err = x509.ParseCertificate(der); err != nil {
		a.t.Fatal(err)
	}
	return sub
}

// selfIssued makes a certificate that has signed itself.
func selfIssued(t *testing.T, life time.Duration) keyPair {
	a := &authority{t: t, key: newKey(t)}
	a.cert = &x509.Certificate{Subject: pkix.Name{CommonName: "self", Organization: []string{"Judges"}}}
	return a.issueFor(a.key, life, "self")
}

// with is the certificate shown with others.
func (p keyPair) with(others ...*authority) keyPair {
	p.tls.Certificate = p.tls.Certificate[:1:1]
	for _, o := range others {
		p.tls.Certificate = append(p.tls.Certificate, o.cert.Raw)
	}
	return p
}

// TestAnyIssuerAsNginx: under optional_no_ca nginx tells, or refuses, the same,
// also when a session is resumed.
func TestAnyIssuerAsNginx(t *testing.T) {
	judge(t, "tls-clients", "nginx: the same of client certificates with optional_no_ca, in each resumed session too")
	ca, theirs, others := newAuthority(t, "judge"), newAuthority(t, "clients"), newAuthority(t, "others")
	twin, sub, otherSub := newAuthority(t, "clients"), theirs.below("sub"), others.below("other sub")
	sub2 := sub.below("sub 2")
	revoked := theirs.issue(time.Hour, "revoked")
	front := ca.issue(time.Hour, "any.test", "listed.test", "deep.test", "again.test")
	crl := theirs.revoke(revoked) + sub.revoke()
	settings := "ssl_verify_client optional_no_ca; ssl_client_certificate " + file(t, theirs.pem()) + "; "
	nginx := startNginx(t, front, map[string]string{
		"any.test": settings, "deep.test": settings + "ssl_verify_depth 2;", "listed.test": settings + "ssl_crl " + file(t, crl) + ";",
	})
	any := func(name, secret string, more ...string) []object {
		return ingress(name, name+".test", "mirror", "front", append([]string{"auth-tls-secret", namespace + "/" + secret, "auth-tls-verify-client", "optional_no_ca"}, more...)...)
	}
	e := startEdge(t, documents(
		tlsSecret("front", front), service("mirror", "", startMirror(t, nil)),
		secret("clients", "Opaque", "ca.crt", theirs.pem()), secret("listed", "Opaque", "ca.crt", theirs.pem(), "ca.crl", crl),
		any("any", "clients"), any("listed", "listed"), any("deep", "clients", "auth-tls-verify-depth", "2"), any("again", "again"),
	))
	var accepted []string
	told := func(addr, host string, version uint16, cache tls.ClientSessionCache, p *keyPair) (verdict string, resumed bool) {
		t.Helper()
		tc := &tls.Config{RootCAs: ca.pool(), MaxVersion: version, ClientSessionCache: cache}
		tc.GetClientCertificate = func(r *tls.CertificateRequestInfo) (*tls.Certificate, error) {
			accepted = append(accepted, fmt.Sprintf("%q", r.AcceptableCAs))
			if p == nil {
				return &tls.Certificate{}, nil
			}
			return &p.tls, nil
		}
		client := clientTo(addr, tc)
		defer client.CloseIdleConnections()
		s := ask(t, client, "https://"+host+".test/")
		if verdict = strconv.Itoa(s.Status); s.Status == http.StatusOK {
			verdict = s.Header.Get("Ssl-Client-Verify")
		}
		return verdict, s.answer.TLS.DidResume
	}
	f := func(name string, p *keyPair) {
		t.Helper()
		for _, host := range []string{"any", "listed", "deep"} {
			for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
				accepted = nil
				want, _ := told(nginx, host, version, nil, p)
				cache := tls.NewLRUClientSessionCache(0)
				for _, again := range []bool{false, true} {
					if got, resumed := told(e.https, host, version, cache, p); got != want || resumed != again && want != "400" {
						t.Errorf("%s, %s, %x: %q (resumed %v), nginx says %q", name, host, version, got, resumed, want)
					}
				}
				if len(accepted) < 2 || accepted[0] != accepted[1] {
					t.Errorf("%s, %s, %x: asked for certificates of %v", name, host, version, accepted)
				}
			}
		}
	}
	show := func(name string, p keyPair, with ...*authority) {
		t.Helper()
		p = p.with(with...)
		f(name, &p)
	}
	late := -time.Hour
	f("none", nil)
	show("known", theirs.issue(time.Hour, "a"))
	show("known, expired", theirs.issue(late, "a"))
	show("known, revoked", revoked)
	show("known by way of another", sub.issue(time.Hour, "a"), sub)
	show("known by way of another who is not shown", sub.issue(time.Hour, "a"))
	show("known by way of two", sub2.issue(time.Hour, "a"), sub2, sub)
	show("self-signed", selfIssued(t, time.Hour))
	show("self-signed, expired", selfIssued(t, late))
	show("unknown", others.issue(time.Hour, "a"))
	show("unknown, expired", others.issue(late, "a"))
	show("unknown root", others.issue(time.Hour, "a"), others)
	show("unknown root, expired", others.issue(late, "a"), others)
	show("unknown issuer", otherSub.issue(time.Hour, "a"), otherSub)
	show("unknown issuer, expired", otherSub.issue(late, "a"), otherSub)
	show("unknown issuer and root", otherSub.issue(time.Hour, "a"), otherSub, others)
	show("a name that is known, another key", twin.issue(time.Hour, "a"))
	show("a root whose name is known, another key", twin.issue(time.Hour, "a"), twin)
	show("an authority", keyPair{tls: tls.Certificate{Certificate: [][]byte{others.cert.Raw}, PrivateKey: others.key}})

	// With another CA it is judged anew, whatever session there was.
	for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
		e.write("again", documents(secret("again", "Opaque", "ca.crt", theirs.pem())))
		p, cache := theirs.issue(time.Hour, "a"), tls.NewLRUClientSessionCache(0)
		to := func(want string) {
			t.Helper()
			await(t, want, func() error {
				if got, _ := told(e.https, "again", version, nil, &p); got != want {
					return errors.New(got)
				}
				return nil
			})
			if got, resumed := told(e.https, "again", version, cache, &p); got != want || resumed {
				t.Errorf("%x: %q (resumed %v), want %q", version, got, resumed, want)
			}
		}
		to("SUCCESS")
		e.write("again", documents(secret("again", "Opaque", "ca.crt", others.pem())))
		to("FAILED:unable to verify the first certificate")
		e.write("again", documents(secret("again", "Opaque", "ca.crt", theirs.pem(), "ca.crl", theirs.revoke(p))))
		to("400")
	}
}

package proxy

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/pem"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"strings"
	"testing"
	"time"

	"gatehouse.dev/gatehouse/internal/ir"
)

// secure applies a config in which the Route of "/" has the Security.
func (e *edge) secure(s ir.Security) {
	e.t.Helper()
	e.configure(func(c *ir.Config) { c.Listeners[0].Hosts.At(0).Routes[1].Security = s })
}

// configure applies the usual config after an edit.
func (e *edge) configure(edit func(*ir.Config)) {
	e.t.Helper()
	cfg := e.config()
	edit(cfg)
	e.apply(cfg)
}

// status2 is the status of a request over HTTP/2 with the fields.
func (e *edge) status2(fields ...string) int {
	e.t.Helper()
	req, err := http.NewRequest("GET", e.url(false, "/"), nil)
	if err != nil {
		e.t.Fatal(err)
	}
	for i := 0; i < len(fields); i += 2 {
		req.Header[fields[i]] = append(req.Header[fields[i]], fields[i+1])
	}
	res, err := e.client2(false).Do(req)
	if err != nil {
		e.t.Fatal(err)
	}
	defer res.Body.Close()
	io.Copy(io.Discard, res.Body)
	return res.StatusCode
}

func credentials(user, password string) string {
	return "Basic " + base64.StdEncoding.EncodeToString([]byte(user+":"+password))
}

var (
	here      = []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}
	elsewhere = []netip.Prefix{netip.MustParsePrefix("192.0.2.0/24")}
	basic     = &ir.BasicAuth{Realm: "r", Users: ir.Secret("me:{PLAIN}secret\n")}
)

// Addresses and credentials, all or any of them, over HTTP/1 and HTTP/2.
func TestGuardCombinations(t *testing.T) {
	e := newEdge(t, nil, echo(t))
	right, wrong := credentials("me", "secret"), credentials("me", "Secret")
	f := func(s ir.Security, none, bad, good int) {
		t.Helper()
		e.secure(s)
		for _, c := range []struct {
			authorization string
			want          int
		}{{"", none}, {wrong, bad}, {right, good}} {
			fields := ""
			var fields2 []string
			if c.authorization != "" {
				fields = "Authorization: " + c.authorization + "\r\n"
				fields2 = []string{"Authorization", c.authorization}
			}
			res, body := e.ask("GET / HTTP/1.1\r\nHost: example.com\r\n" + fields + "\r\n")
			if res.StatusCode != c.want || strings.Contains(body, "host=example.com") != (c.want == 200) {
				t.Errorf("%+v with %q: %d %q, want %d", s, c.authorization, res.StatusCode, body, c.want)
			}
			if got := res.Header.Get("WWW-Authenticate"); (got == `Basic realm="r", charset="UTF-8"`) != (c.want == 401) {
				t.Errorf("%d with the challenge %q", c.want, got)
			}
			if got := e.status2(fields2...); got != c.want {
				t.Errorf("%+v with %q over HTTP/2: %d, want %d", s, c.authorization, got, c.want)
			}
		}
	}
	allowed, notAllowed := &ir.IPAccess{Allow: here}, &ir.IPAccess{Allow: elsewhere}
	denied, notDenied := &ir.IPAccess{Deny: here}, &ir.IPAccess{Deny: elsewhere}
	both := &ir.IPAccess{Allow: here, Deny: here}
	broken := &ir.BasicAuth{Users: ir.Secret("no users")}
	for _, satisfyAny := range []bool{false, true} {
		f(ir.Security{SatisfyAny: satisfyAny}, 200, 200, 200)
		f(ir.Security{SatisfyAny: satisfyAny, IPs: allowed}, 200, 200, 200)
		f(ir.Security{SatisfyAny: satisfyAny, IPs: notDenied}, 200, 200, 200)
		f(ir.Security{SatisfyAny: satisfyAny, IPs: notAllowed}, 403, 403, 403)
		f(ir.Security{SatisfyAny: satisfyAny, IPs: denied}, 403, 403, 403)
		f(ir.Security{SatisfyAny: satisfyAny, IPs: both}, 403, 403, 403)
		f(ir.Security{SatisfyAny: satisfyAny, Basic: basic}, 401, 401, 200)
		f(ir.Security{SatisfyAny: satisfyAny, Basic: broken}, 503, 503, 503)
		f(ir.Security{SatisfyAny: satisfyAny, Basic: broken, IPs: allowed}, 503, 503, 503)
	}
	f(ir.Security{IPs: allowed, Basic: basic}, 401, 401, 200)
	f(ir.Security{IPs: notAllowed, Basic: basic}, 403, 403, 403)
	f(ir.Security{IPs: denied, Basic: basic}, 403, 403, 403)
	f(ir.Security{SatisfyAny: true, IPs: allowed, Basic: basic}, 200, 200, 200)
	f(ir.Security{SatisfyAny: true, IPs: notAllowed, Basic: basic}, 401, 401, 200)
	f(ir.Security{SatisfyAny: true, IPs: denied, Basic: basic}, 401, 401, 200)
}

// Addresses are the real client's, if its proxy is trusted and only then.
func TestGuardAsksForTheRealClient(t *testing.T) {
	f := func(trusted []netip.Prefix, forwarded string, want int) {
		t.Helper()
		e := newEdge(t, func(o *Options) { o.TrustedProxies = trusted }, echo(t))
		e.secure(ir.Security{IPs: &ir.IPAccess{Allow: elsewhere}})
		if res, _ := e.ask("GET / HTTP/1.1\r\nHost: example.com\r\nX-Forwarded-For: " + forwarded + "\r\n\r\n"); res.StatusCode != want {
			t.Errorf("%s: %d, want %d", forwarded, res.StatusCode, want)
		}
	}
	f(nil, "192.0.2.1", 403)
	f(here, "192.0.2.1", 200)
	f(here, "::ffff:192.0.2.1", 200)
	f(here, "192.0.2.1, 198.51.100.1", 403)
	f(here, "198.51.100.1", 403)
}

// Whoever shows two sets of credentials is asked neither: the endpoint could
// take the other one.
func TestTwoAuthorizations(t *testing.T) {
	e := newEdge(t, nil, echo(t))
	e.secure(ir.Security{Basic: basic})
	right, wrong := credentials("me", "secret"), "Bearer x"
	for _, pair := range [][2]string{{right, wrong}, {wrong, right}, {right, right}} {
		res, body := e.ask("GET / HTTP/1.1\r\nHost: example.com\r\nAuthorization: " + pair[0] + "\r\nauthorization: " + pair[1] + "\r\n\r\n")
		if res.StatusCode != 400 || !strings.Contains(body, "Malformed") {
			t.Errorf("%v: %d %q", pair, res.StatusCode, body)
		}
		if got := e.status2("Authorization", pair[0], "Authorization", pair[1]); got != 400 {
			t.Errorf("%v over HTTP/2: %d", pair, got)
		}
	}
}

// The password was for us: it does not reach the endpoint. The user's name
// reaches the log.
func TestAuthorizationEndsHere(t *testing.T) {
	e := newEdge(t, nil, echo(t))
	e.secure(ir.Security{Basic: basic})
	_, body := e.ask("GET / HTTP/1.1\r\nHost: example.com\r\nAuthorization: " + credentials("me", "secret") + "\r\n\r\n")
	if strings.Contains(body, "Authorization") {
		t.Errorf("the endpoint got %q", body)
	}
	if l := e.lastLog(); l["user"] != "me" {
		t.Errorf("logged %v", l)
	}
}

// Compiling again must not make every password cost its hash again.
func TestVerifiedCredentialsOutliveSnapshots(t *testing.T) {
	const (
		secret  = "me:$2a$10$0gd9yzbEjyNNetZjPRjDMek/VdFqfeOOajsGcg0IYpnr1RtGhAhLW" // cost 10
		changed = "me:$2a$04$aHGduUvyezKFk.Bxr3AV/.cqjhyx7Dp4d1YbdI8WMTzYO4fl.JeY."
	)
	s := ir.Security{Basic: &ir.BasicAuth{Users: ir.Secret(secret)}}
	e := newEdge(t, nil, echo(t))
	c := e.dial()
	ask := func(password string) (int, time.Duration) {
		begun := time.Now()
		res, _ := c.roundTrip("GET / HTTP/1.1\r\nHost: example.com\r\nAuthorization: " + credentials("me", password) + "\r\n\r\n")
		return res.StatusCode, time.Since(begun)
	}
	e.secure(s)
	status, first := ask("secret")
	if status != 200 {
		t.Fatal(status)
	}
	const times = 20
	var later time.Duration
	for range times {
		e.secure(ir.Security{Basic: &ir.BasicAuth{Realm: "other", Users: s.Basic.Users}})
		status, d := ask("secret")
		if later += d; status != 200 {
			t.Fatal(status)
		}
	}
	if later > times/2*first {
		t.Errorf("%d requests took %v, the first one %v", times, later, first)
	}
	// But another hash of another password ends what was known.
	e.secure(ir.Security{Basic: &ir.BasicAuth{Users: ir.Secret(changed)}})
	if status, _ := ask("secret"); status != 401 {
		t.Errorf("%d with the old password", status)
	}
}

// A thousand Routes that share a file parse it once.
func TestUsersAreCompiledOnce(t *testing.T) {
	e := newEdge(t, nil)
	users := ir.Secret(strings.Repeat("x", 1<<10) + ":{PLAIN}x\nme:{PLAIN}secret\n")
	e.configure(func(c *ir.Config) {
		h := c.Listeners[0].Hosts.At(0)
		for i := range 1000 {
			r := *h.Routes[1]
			r.ID = ir.RouteID(fmt.Sprint(i))
			r.Match.Path.Value = fmt.Sprintf("/%d", i)
			r.Security.Basic = &ir.BasicAuth{Realm: fmt.Sprint(i), Users: append(ir.Secret(nil), users...)}
			h.Routes = append(h.Routes, &r)
		}
	})
	if n := len(e.compiler.users.known); n != 1 {
		t.Errorf("%d files are kept", n)
	}
	hosts := e.srv.snapshot.Load().byBind["http"].hosts
	h, _, _ := hosts.Lookup([]byte("example.com"))
	if a, b := h.routes[2].guards, h.routes[3].guards; a.basic.Challenge() == b.basic.Challenge() {
		t.Error("realms were mixed up")
	}
	e.apply(e.config())
	e.apply(e.config())
	if n := len(e.compiler.users.known); n != 0 {
		t.Errorf("%d files are kept for nobody", n)
	}
}

// A guard that cannot be compiled closes its Route, not the edge.
func TestUnusableGuardCloses(t *testing.T) {
	f := func(s ir.Security) {
		t.Helper()
		e := newEdge(t, nil, echo(t))
		e.secure(s)
		if res, body := e.ask(get); res.StatusCode != 503 || !strings.Contains(body, "GuardInvalid") {
			t.Errorf("%+v: %d %q", s, res.StatusCode, body)
		}
	}
	f(ir.Security{ClientCert: &ir.ClientCert{MatchCN: "("}})
	f(ir.Security{ClientCert: &ir.ClientCert{ErrorPage: "https://a/\r\nSet-Cookie: x=y"}})
	f(ir.Security{Basic: &ir.BasicAuth{}})
}

// TestMatchCN: auth-tls-match-cn reads the text that ssl-client-subject-dn has, as
// in nginx, where it is a search in $ssl_client_s_dn for "CN=" and the expression.
// Here it begins at the most specific common name, and goes beyond it only when the
// expression does.
func TestMatchCN(t *testing.T) {
	cn := func(value string) pkix.AttributeTypeAndValue {
		return pkix.AttributeTypeAndValue{Type: []int{2, 5, 4, 3}, Value: value}
	}
	o := func(value string) pkix.AttributeTypeAndValue {
		return pkix.AttributeTypeAndValue{Type: []int{2, 5, 4, 10}, Value: value}
	}
	ca := newIssuer(t)
	e := newEdge(t, nil, echo(t))
	f := func(expr string, want bool, subject ...pkix.AttributeTypeAndValue) {
		t.Helper()
		cert := ca.client(t, pkix.Name{ExtraNames: subject})
		leaf, err := x509.ParseCertificate(cert.Certificate[0])
		if err != nil {
			t.Fatal(err)
		}
		e.configure(func(c *ir.Config) {
			c.Listeners[1].ServerNames.At(0).Terminate.ClientAuth = &ir.ClientAuth{ID: "a", CAs: encodePEM(ca.cert.Raw), Depth: 1}
			c.Listeners[0].Hosts.At(0).Routes[1].Security.ClientCert = &ir.ClientCert{Required: true, MatchCN: "^(?:" + expr + ")"}
		})
		res, body := e.dialCert(cert).roundTrip(get)
		if want && res.StatusCode != 200 || !want && (res.StatusCode != 403 || !strings.Contains(body, "ClientCertName")) {
			t.Errorf("CN=%s on %v: %d, want %v", expr, leaf.Subject, res.StatusCode, want)
		}
	}
	f("alice", true, cn("alice"))
	f("alice", true, cn("alice"), o("x"))
	f("alice", true, o("x"), cn("alice"))
	f("alice$", true, o("x"), cn("alice"))
	f("alice$", false, cn("alice2"))
	f("al", true, cn("alice"))
	f("lice", false, cn("alice"))
	f("(alice|bob)", true, cn("bob"))
	// The whole of it, as migrants from ingress-nginx write it.
	f("alice,O=x$", true, o("x"), cn("alice"))
	f("alice,O=x$", false, o("xy"), cn("alice"))
	f("alice,O=x", false, o("y"), cn("alice"))
	f("alice,O=x", false, cn("alice,O=x"))
	f("alice,O=x", false, o("x"), cn("alice,O=x"), o("y"))
	// What is no common name is none, whatever it says.
	f("alice", false, o("CN=alice"))
	f("alice", false, o("CN=alice"), cn("mallory"))
	f("alice", false, cn("mallory,CN=alice"))
	f("alice", false, cn("mallory"), o("a,CN=alice"))
	f(".*admin", false, o("admin"), cn("mallory"))
	f(".{1,50}admin", false, o("admin"), cn("mallory"))
	f(".*", false, o("x"))
	// Of two the most specific counts, which is the last in the certificate.
	f("alice", true, cn("Users"), cn("alice"))
	f("alice", false, cn("alice"), cn("mallory"))
	f("alice,CN=Users", true, cn("Users"), cn("alice"))
	// Letters are letters; what separates is escaped.
	f("José$", true, cn("José"))
	f("J.*é", true, cn("José"))
	f(`Doe\\, John$`, false, o("x"), cn("Doe, John"))
	f(`Doe\\, John$`, true, cn("Doe, John"))
	f("Doe", true, cn("Doe, John"))
	f(`a\\0D\\0Ab$`, true, cn("a\r\nb"))
}

// issuer signs client certificates.
type issuer struct {
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

func newIssuer(t *testing.T) issuer {
	t.Helper()
	var i issuer
	i.key, i.cert = makeCert(t, issuer{}, &x509.Certificate{
		Subject: pkix.Name{CommonName: "Test CA"}, IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	})
	return i
}

func (i issuer) client(t *testing.T, name pkix.Name) *tls.Certificate {
	t.Helper()
	key, cert := makeCert(t, i, &x509.Certificate{Subject: name, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}})
	return &tls.Certificate{Certificate: [][]byte{cert.Raw}, PrivateKey: key, Leaf: cert}
}

func makeCert(t *testing.T, by issuer, c *x509.Certificate) (*ecdsa.PrivateKey, *x509.Certificate) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	if by.cert == nil {
		by = issuer{c, key}
	}
	c.SerialNumber, c.NotBefore, c.NotAfter = big.NewInt(1), time.Now().Add(-time.Hour), time.Now().Add(time.Hour)
	der, err := x509.CreateCertificate(rand.Reader, c, by.cert, key.Public(), by.key)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return key, cert
}

// dialCert opens a connection with TLS that shows the certificate, if any.
func (e *edge) dialCert(cert *tls.Certificate) *client {
	e.t.Helper()
	c := e.dialTLS(tls.VersionTLS13)
	c.Conn = tls.Client(c.tcp, clientConfig(cert))
	c.r.Reset(c.Conn)
	return c
}

func clientConfig(cert *tls.Certificate) *tls.Config {
	cfg := &tls.Config{ServerName: "example.com", InsecureSkipVerify: true}
	if cert != nil {
		cfg.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return cert, nil }
	}
	return cfg
}

// status2Cert is the status over HTTP/2 with the certificate.
func (e *edge) status2Cert(cert *tls.Certificate) int {
	e.t.Helper()
	c := e.client2(true)
	tr := c.Transport.(*http.Transport)
	tr.TLSClientConfig = clientConfig(cert)
	tr.DialContext = func(ctx context.Context, network, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, network, e.srv.Addr("https").String())
	}
	c.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	res, err := c.Get(e.url(true, "/"))
	if err != nil {
		e.t.Fatal(err)
	}
	defer res.Body.Close()
	return res.StatusCode
}

func TestClientCertificates(t *testing.T) {
	ca, other := newIssuer(t), newIssuer(t)
	good := ca.client(t, pkix.Name{CommonName: "alice", Organization: []string{"Ö \"x\""}})
	bob := ca.client(t, pkix.Name{CommonName: "bob"})
	foreign := other.client(t, pkix.Name{CommonName: "alice"})
	cas := encodePEM(ca.cert.Raw)
	e := newEdge(t, nil, echo(t))
	set := func(auth *ir.ClientAuth, cert ir.ClientCert) {
		e.configure(func(c *ir.Config) {
			c.Listeners[1].ServerNames.At(0).Terminate.ClientAuth = auth
			c.Listeners[0].Hosts.At(0).Routes[1].Security.ClientCert = &cert
		})
	}
	f := func(name string, cert *tls.Certificate, want int, reason, verify string) {
		t.Helper()
		res, body := e.dialCert(cert).roundTrip("GET / HTTP/1.1\r\nHost: example.com\r\n" +
			"SSL-Client-Verify: SUCCESS\r\nssl_client_verify: SUCCESS\r\nSsl.Client.Subject.DN: CN=root\r\nssl-client-cert: x\r\nssl-client-anything: x\r\n\r\n")
		if res.StatusCode != want || !strings.Contains(body, reason) {
			t.Errorf("%s: %d %q, want %d", name, res.StatusCode, body, want)
		}
		if got := e.status2Cert(cert); got != want {
			t.Errorf("%s over HTTP/2: %d, want %d", name, got, want)
		}
		if want != 200 {
			return
		}
		wantFields(t, body, map[string]string{"Ssl-Client-Verify": verify, "ssl_client_verify": "", "Ssl_client_verify": "", "Ssl.Client.Subject.DN": "", "Ssl-Client-Anything": ""})
		if cert == nil {
			wantFields(t, body, map[string]string{"Ssl-Client-Subject-Dn": "", "Ssl-Client-Issuer-Dn": "", "Ssl-Client-Cert": ""})
			return
		}
		// As nginx 1.22 has them in $ssl_client_s_dn and $ssl_client_i_dn.
		subject := map[*tls.Certificate]string{good: `CN=alice,O=\C3\96 \"x\"`, bob: "CN=bob", foreign: "CN=alice"}[cert]
		wantFields(t, body, map[string]string{"Ssl-Client-Subject-Dn": subject, "Ssl-Client-Issuer-Dn": "CN=Test CA"})
	}
	checked := &ir.ClientAuth{ID: "a", CAs: cas, Depth: 1}

	set(checked, ir.ClientCert{Required: true})
	f("required, none", nil, 400, "ClientCertMissing", "")
	f("required, foreign", foreign, 400, "ClientCertInvalid", "")
	f("required, good", good, 200, "", "SUCCESS")
	if res, body := e.ask(get); res.StatusCode != 400 || !strings.Contains(body, "ClientCertMissing") {
		t.Errorf("plain HTTP: %d %q", res.StatusCode, body)
	}

	set(checked, ir.ClientCert{})
	f("optional, none", nil, 200, "", "NONE")
	f("optional, foreign", foreign, 400, "ClientCertInvalid", "")
	f("optional, good", good, 200, "", "SUCCESS")
	if _, body := e.ask("GET / HTTP/1.1\r\nHost: example.com\r\nSSL-Client-Verify: SUCCESS\r\n\r\n"); !strings.Contains(body, "Ssl-Client-Verify: NONE\r\n") {
		t.Errorf("plain HTTP: %q", body)
	}

	set(checked, ir.ClientCert{Required: true, MatchCN: "^(?:alice)"})
	f("name, none", nil, 400, "ClientCertMissing", "")
	f("name, another's", bob, 403, "ClientCertName", "")
	f("name, mine", good, 200, "", "SUCCESS")

	set(checked, ir.ClientCert{MatchCN: "^(?:alice)"})
	f("optional name, none", nil, 403, "ClientCertName", "")
	f("optional name, another's", bob, 403, "ClientCertName", "")

	// Of any issuer: the endpoint is told that nobody here knows it.
	set(&ir.ClientAuth{ID: "b", CAs: cas, Depth: 1, AnyIssuer: true}, ir.ClientCert{})
	f("any issuer, none", nil, 200, "", "NONE")
	f("any issuer, known", good, 200, "", "SUCCESS")
	f("any issuer, unknown", foreign, 200, "", "FAILED:unable to verify the first certificate")
	set(&ir.ClientAuth{ID: "b", CAs: cas, Depth: 1, AnyIssuer: true}, ir.ClientCert{MatchCN: "^(?:alice)"})
	f("any issuer and a name, none", nil, 403, "ClientCertName", "")
	f("any issuer and a name, unknown", foreign, 200, "", "FAILED:unable to verify the first certificate")
	f("any issuer and a name, another's", bob, 403, "ClientCertName", "")
	set(&ir.ClientAuth{ID: "c", Depth: 1, AnyIssuer: true}, ir.ClientCert{})
	f("any issuer, no CA", good, 200, "", "FAILED:unable to verify the first certificate")
	set(&ir.ClientAuth{ID: "d", Depth: 1}, ir.ClientCert{})
	f("no CA", good, 400, "ClientCertInvalid", "")

	set(checked, ir.ClientCert{Required: true, ErrorPage: "https://example.com/help?a=b"})
	for _, c := range []*tls.Certificate{nil, foreign} {
		if res, _ := e.dialCert(c).roundTrip(get); res.StatusCode != 302 || res.Header.Get("Location") != "https://example.com/help?a=b" {
			t.Errorf("error page: %v", res)
		}
		if got := e.status2Cert(c); got != 302 {
			t.Errorf("error page over HTTP/2: %d", got)
		}
	}
	set(checked, ir.ClientCert{Required: true, ErrorPage: "https://example.com/help", MatchCN: "x"})
	f("a name has no error page", good, 403, "ClientCertName", "")

	set(checked, ir.ClientCert{PassToUpstream: true})
	_, body := e.dialCert(good).roundTrip(get)
	passed := field(body, "Ssl-Client-Cert")
	if len(passed) != 1 || strings.ContainsAny(passed[0], "+ /=") {
		t.Fatalf("passed on: %q", passed)
	}
	text, err := url.PathUnescape(passed[0])
	if block, _ := pem.Decode([]byte(text)); err != nil || block == nil || string(block.Bytes) != string(good.Certificate[0]) {
		t.Errorf("passed on: %q", text)
	}
}

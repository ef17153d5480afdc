package conformance

import (
	"crypto/tls"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"
)

func TestBridging(t *testing.T) {
	judge(t, "tls-clients", "Bridging: TLS to the backend, verified or not, with SNI and client certificate")
	ca, theirs, other := newAuthority(t, "judge"), newAuthority(t, "backends"), newAuthority(t, "others")
	mutual := &tls.Config{
		Certificates: []tls.Certificate{theirs.issue(time.Hour, "backend.test").tls},
		ClientAuth:   tls.RequireAndVerifyClientCert, ClientCAs: theirs.pool(),
	}
	us := theirs.issue(time.Hour, "gatehouse")
	backend := func(p keyPair) string { return startMirror(t, &tls.Config{Certificates: []tls.Certificate{p.tls}}) }
	const on, name = "proxy-ssl-verify", "proxy-ssl-name"
	bridged := func(name, svc, caSecret string, more ...string) []object {
		return ingress(name, name+".test", svc, "front",
			append([]string{"backend-protocol", "HTTPS", "proxy-ssl-secret", namespace + "/" + caSecret, "proxy-ssl-server-name", "on"}, more...)...)
	}
	e := startEdge(t, documents(
		tlsSecret("front", ca.issue(time.Hour, "*.test", "good.test", "mutual.test", "bare.test", "wrong.test", "stranger.test",
			"expired.test", "careless.test", "revoked.test", "plain.test", "named.test", "nothing.test", "old.test")),
		secret("theirs", "Opaque", "ca.crt", theirs.pem()),
		secret("others", "Opaque", "ca.crt", other.pem()),
		secret("both", "kubernetes.io/tls", "ca.crt", theirs.pem(), "tls.crt", us.cert, "tls.key", us.key),
		service("good", "", backend(theirs.issue(time.Hour, "backend.test"))),
		service("expired", "", backend(theirs.issue(-time.Hour, "backend.test"))),
		service("mutual", "", startMirror(t, mutual)),
		service("named", "https", backend(theirs.issue(time.Hour, "named."+namespace+".svc"))),
		service("plain", "", startMirror(t, nil)),
		service("old", "", startMirror(t, &tls.Config{Certificates: mutual.Certificates, MaxVersion: tls.VersionTLS12})),
		bridged("good", "good", "theirs", on, "on", name, "backend.test"),
		bridged("mutual", "mutual", "both", on, "on", name, "backend.test"),
		bridged("bare", "mutual", "theirs", on, "on", name, "backend.test"),
		bridged("wrong", "good", "theirs", on, "on", name, "another.test"),
		bridged("stranger", "good", "others", on, "on", name, "backend.test"),
		bridged("expired", "expired", "theirs", on, "on", name, "backend.test"),
		bridged("careless", "expired", "others", name, "another.test"),
		bridged("plain", "plain", "theirs", on, "on", name, "backend.test"),
		bridged("nothing", "good", "missing", on, "on", name, "backend.test"),
		bridged("old", "old", "theirs", on, "on", name, "backend.test", "proxy-ssl-protocols", "TLSv1.3"),
		ingress("named", "named.test", "named", "front", "proxy-ssl-secret", namespace+"/theirs", "proxy-ssl-verify", "on", "proxy-ssl-server-name", "on"),
	))
	client := clientTo(e.https, &tls.Config{RootCAs: ca.pool()})
	good := func(host, server, certificate string) {
		t.Helper()
		for range 3 { // the second on a kept connection
			s := ask(t, client, "https://"+host+".test/")
			if s.Status != 200 || s.ServerName != server || s.ClientName != certificate {
				t.Errorf("%s: %d %s: the backend saw the name %q and the certificate %q, want %q and %q",
					host, s.Status, s.Body, s.ServerName, s.ClientName, server, certificate)
			}
		}
	}
	bad := func(host, reason, detail string) {
		t.Helper()
		s := ask(t, client, "https://"+host+".test/"+host)
		if s.Status != 502 || !strings.Contains(s.Body, reason) {
			t.Errorf("%s: %d %q, want 502 %s", host, s.Status, s.Body, reason)
		}
		if line := e.logged("/" + host); line["reason"] != reason || !strings.Contains(fmt.Sprint(line["detail"]), detail) {
			t.Errorf("%s: the log says %v, %v; want %s with %q", host, line["reason"], line["detail"], reason, detail)
		}
	}
	good("good", "backend.test", "")
	good("mutual", "backend.test", "gatehouse")
	good("named", "named."+namespace+".svc", "")
	good("careless", "another.test", "")
	bad("wrong", "UpstreamTLSVerify", "valid for backend.test, not another.test")
	bad("stranger", "UpstreamTLSVerify", "unknown authority")
	bad("expired", "UpstreamTLSVerify", "expired")
	bad("plain", "UpstreamTLS", "")
	bad("old", "UpstreamTLS", "protocol version")
	if s := ask(t, client, "https://bare.test/"); s.Status != 502 {
		t.Errorf("without the certificate that the backend requires: %d, want 502", s.Status)
	}
	if s := ask(t, client, "https://nothing.test/"); s.Status != 503 {
		t.Errorf("without the Secret: %d, want 503", s.Status)
	}
}

func TestBasicAuth(t *testing.T) {
	judge(t, "tls-clients", "Passwords over TLS and cleartext")
	openssl, curl := tool(t, "openssl", "openssl"), tool(t, "curl", "curl")
	hash := func(flag, password string) string {
		out, err := output(t, "", openssl, "passwd", flag, password)
		if err != nil {
			t.Fatal(err)
		}
		return strings.TrimSpace(out)
	}
	// A vector of crypt_blowfish.
	const bcrypt, bcryptPassword = "$2a$05$CCCCCCCCCCCCCCCCCCCCC.E5YPO9kmyuRGyh0XouQYb4YMJKvyOeW", "U*U"
	users := map[string]string{"blow": bcryptPassword, "md": "one:two", "sha5": "drei", "sha6": "vier  pässe"}
	file := "blow:" + bcrypt + "\nmd:" + hash("-apr1", users["md"]) + "\nsha5:" + hash("-5", users["sha5"]) + "\nsha6:" + hash("-6", users["sha6"]) + "\n"
	guarded := func(name string, more ...string) []object {
		return ingress(name, name+".test", "mirror", "", append([]string{"auth-type", "basic", "auth-realm", "The Judges"}, more...)...)
	}
	e := startEdge(t, documents(
		service("mirror", "", startMirror(t, nil)),
		secret("file", "Opaque", "auth", file),
		secret("map", "Opaque", "blow", bcrypt, "md", hash("-apr1", users["md"])),
		guarded("file", "auth-secret", "file"),
		guarded("map", "auth-secret", "map", "auth-secret-type", "auth-map"),
		guarded("missing", "auth-secret", "nothing"),
		guarded("any", "auth-secret", "file", "satisfy", "any", "allowlist-source-range", "192.0.2.0/24"),
		guarded("all", "auth-secret", "file", "allowlist-source-range", "192.0.2.0/24"),
		ingress("digest", "digest.test", "mirror", "", "auth-type", "digest", "auth-secret", "file"),
	), "--trusted-proxies", "127.0.0.1/32")
	client := clientTo(e.http, nil)
	f := func(host, user, password, from string, status int) {
		t.Helper()
		target := "/" + host + "-" + user + "-" + fmt.Sprint(status)
		req, _ := http.NewRequest("GET", "http://"+host+".test"+target, nil)
		if user != "" {
			req.SetBasicAuth(user, password)
		}
		if from != "" {
			req.Header.Set("X-Forwarded-For", from)
		}
		resp, err := client.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		if resp.StatusCode != status {
			t.Errorf("%s as %s with %q: %d, want %d", host, user, password, resp.StatusCode, status)
		}
		challenge := resp.Header.Get("WWW-Authenticate")
		if status == 401 != strings.HasPrefix(challenge, `Basic realm="The Judges"`) {
			t.Errorf("%s: %d with the challenge %q", host, status, challenge)
		}
		if line := e.logged(target); status == 200 && user != "" && line["user"] != user {
			t.Errorf("%s: the log says user %v, want %s", host, line["user"], user)
		}
	}
	for user, password := range users {
		f("file", user, password, "", 200)
		f("file", user, password+"x", "", 401)
		f("file", user, "", "", 401)
	}
	f("file", "", "", "", 401)
	f("file", "nobody", "U*U", "", 401)
	f("map", "blow", "U*U", "", 200)
	f("map", "md", users["md"], "", 200)
	f("map", "md", "U*U", "", 401)
	f("map", "sha5", users["sha5"], "", 401)
	f("missing", "", "", "", 503)
	f("missing", "blow", "U*U", "", 503)
	f("digest", "blow", "U*U", "", 503)
	f("any", "", "", "192.0.2.1", 200)
	f("any", "", "", "198.51.100.1", 401)
	f("any", "blow", "U*U", "198.51.100.1", 200)
	f("all", "blow", "U*U", "192.0.2.1", 200)
	f("all", "", "", "192.0.2.1", 401)
	f("all", "blow", "U*U", "198.51.100.1", 403)

	for _, c := range []struct{ user, want string }{{"md:one:two", "200"}, {"md:one", "401"}, {"sha6:vier  pässe", "200"}} {
		out, err := output(t, "", curl, "-sS", "-o", "/dev/null", "-w", "%{http_code}", "-u", c.user, "-H", "Host: file.test", "http://"+e.http+"/")
		if err != nil || out != c.want {
			t.Errorf("curl -u %s: %q, %v, want %s", c.user, out, err, c.want)
		}
	}
}

// TestSourceRanges: rules hold for the real client, and only trusted proxies may
// say who that is.
func TestSourceRanges(t *testing.T) {
	judge(t, "tls-clients", "Address rules hold for the real client behind trusted proxies")
	for _, trusted := range []bool{true, false} {
		var args []string
		if trusted {
			args = []string{"--trusted-proxies", "127.0.0.1/32,203.0.113.0/24"}
		}
		e := startEdge(t, documents(
			service("mirror", "", startMirror(t, nil)),
			ingress("allow", "allow.test", "mirror", "", "allowlist-source-range", "192.0.2.0/24,2001:db8::/32"),
			ingress("old", "old.test", "mirror", "", "whitelist-source-range", "127.0.0.1"),
			ingress("deny", "deny.test", "mirror", "", "denylist-source-range", "192.0.2.7"),
			ingress("bad", "bad.test", "mirror", "", "allowlist-source-range", "192.0.2.0/99"),
		), args...)
		client := clientTo(e.http, nil)
		f := func(host, forwarded string, whenTrusted, whenNot int) {
			t.Helper()
			want := whenNot
			if trusted {
				want = whenTrusted
			}
			if s := ask(t, client, "http://"+host+".test/", "X-Forwarded-For", forwarded, "X-Real-Ip", "192.0.2.1"); s.Status != want {
				t.Errorf("%s from %q (trusted %v): %d, want %d", host, forwarded, trusted, s.Status, want)
			}
		}
		f("allow", "192.0.2.1", 200, 403)
		f("allow", "2001:db8::7", 200, 403)
		f("allow", "::ffff:192.0.2.1", 200, 403)
		f("allow", "198.51.100.1", 403, 403)
		f("allow", "192.0.2.1, 198.51.100.1", 403, 403) // what lies behind the untrusted is hearsay
		f("allow", "192.0.2.1, 203.0.113.9", 200, 403)  // a chain of trusted ones
		f("allow", "192.0.2.1, garbage", 403, 403)
		f("old", "198.51.100.1", 403, 200)
		f("deny", "192.0.2.7", 403, 200)
		f("deny", "192.0.2.8", 200, 200)
		f("bad", "192.0.2.1", 503, 503)
	}
}

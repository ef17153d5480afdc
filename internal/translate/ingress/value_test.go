package ingress

import (
	"crypto/tls"
	"fmt"
	"net/netip"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"
)

func TestParseSize(t *testing.T) {
	f := func(value string, want int64, ok bool) {
		t.Helper()
		got, gotOK := parseSize(value)
		if gotOK != ok || ok && got != want {
			t.Errorf("%q: %d %v, want %d %v", value, got, gotOK, want, ok)
		}
	}
	f("0", -1, true)
	f("0m", -1, true)
	f("1", 1, true)
	f("512b", 512, true)
	f("8k", 8<<10, true)
	f("8M", 8<<20, true)
	f("2g", 2<<30, true)
	f("4611686018427387903", 1<<62-1, true)
	f("4294967296g", 1<<62, true)
	f("4294967297g", 0, false)
	f("9999999999999999999999", 0, false)
	for _, s := range []string{"", "m", "8mb", "8 m", "-1", "+1", "1.5m", "0x10", "8t", "１"} {
		f(s, 0, false)
	}
}

func FuzzParseSize(f *testing.F) {
	f.Add("8m")
	f.Add("9999999999g")
	f.Fuzz(func(t *testing.T, value string) {
		if n, ok := parseSize(value); ok && n != -1 && n <= 0 {
			t.Errorf("%q is %d", value, n)
		}
	})
}

func TestParseSeconds(t *testing.T) {
	f := func(value string, want time.Duration, ok bool) {
		t.Helper()
		got, gotOK := parseSeconds(value)
		if gotOK != ok || ok && got != want {
			t.Errorf("%q: %v %v, want %v %v", value, got, gotOK, want, ok)
		}
	}
	f("60", time.Minute, true)
	f("60s", time.Minute, true)
	f("1m30s", 90*time.Second, true)
	f("100ms", 100*time.Millisecond, true)
	f("1000000000", 1e9*time.Second, true)
	f("0060", time.Minute, true)
	for _, s := range []string{"0", "0s", "-1", "-1s", "", "x", "1000000001", "9223372036854775807", "300000h", "1 s"} {
		f(s, 0, false)
	}
}

func FuzzParseSeconds(f *testing.F) {
	f.Add("60")
	f.Add("1h2m3.5s")
	f.Fuzz(func(t *testing.T, value string) {
		if d, ok := parseSeconds(value); ok && (d <= 0 || d > maxSeconds*time.Second) {
			t.Errorf("%q is %v", value, d)
		}
	})
}

func TestParseNetworks(t *testing.T) {
	f := func(value, want string) {
		t.Helper()
		list, wrong := parseNetworks(value)
		got := fmt.Sprint(list)
		if wrong != "" {
			got = "wrong"
		}
		if got != want {
			t.Errorf("%q: %s (%s), want %s", value, got, wrong, want)
		}
	}
	f("10.0.0.0/8", "[10.0.0.0/8]")
	f(" 10.1.2.3/8 , 192.0.2.1,2001:db8::1 ", "[10.0.0.0/8 192.0.2.1/32 2001:db8::1/128]")
	f("10.0.0.0/8,10.0.0.1/8", "[10.0.0.0/8]")
	f("::ffff:10.0.0.1", "[10.0.0.1/32]")
	f("::ffff:10.0.0.0/104", "[10.0.0.0/8]")
	f("0.0.0.0/0,::/0", "[0.0.0.0/0 ::/0]")
	for _, s := range []string{"", ",", "10.0.0.0/8,", "10.0.0.0/33", "10.0.0.0/-1", "10.0.0.0/08", "10.0.0", "010.0.0.1", "x", "fe80::1%eth0", "::ffff:0:0/95", "10.0.0.1 10.0.0.2", "10.0.0.0/8;::/0"} {
		f(s, "wrong")
	}
}

func FuzzParseNetworks(f *testing.F) {
	f.Add("10.0.0.0/8,::1")
	f.Add("::ffff:1.2.3.4/97")
	f.Fuzz(func(t *testing.T, value string) {
		list, wrong := parseNetworks(value)
		if wrong != "" {
			if list != nil {
				t.Errorf("%q is wrong (%s) and gives %v", value, wrong, list)
			}
			return
		}
		if len(list) == 0 {
			t.Errorf("%q gives nothing, which would let everybody in", value)
		}
		for _, p := range list {
			if !p.IsValid() || p != p.Masked() || p.Addr().Is4In6() || p.Addr().Zone() != "" {
				t.Errorf("%q gives %v", value, p)
			}
		}
	})
}

func TestEveryone(t *testing.T) {
	f := func(want bool, list ...string) {
		t.Helper()
		var p []netip.Prefix
		for _, s := range list {
			p = append(p, netip.MustParsePrefix(s))
		}
		if got := everyone(p); got != want {
			t.Errorf("%v: %v", list, got)
		}
	}
	f(true, "0.0.0.0/0", "::/0")
	f(false, "0.0.0.0/0")
	f(false, "::/0", "0.0.0.0/1", "128.0.0.0/1")
	f(false)
}

func TestIsRewriteTarget(t *testing.T) {
	f := func(value string, want bool) {
		t.Helper()
		if got := isRewriteTarget(value); got != want {
			t.Errorf("%q: %v, want %v", value, got, want)
		}
	}
	for _, s := range []string{"/", "/$1", "/a/$2/b", "$1", "/$1$2", "/a~b._-:c", "/$10"} {
		f(s, true)
	}
	for _, s := range []string{"", "a", "/$", "/$0", "/$x", "/${1}", "/$$1", "/a?b", "/a b", "/a\n", "/%20", "/a#b", "/(.*)", "http://x/", "/a;b", "/ü"} {
		f(s, false)
	}
}

func FuzzIsRewriteTarget(f *testing.F) {
	f.Add("/a/$1")
	f.Fuzz(func(t *testing.T, value string) {
		if !isRewriteTarget(value) {
			return
		}
		if strings.ContainsAny(value, " \r\n\x00?#%\"'\\") || value[0] != '/' && value[0] != '$' {
			t.Errorf("%q", value)
		}
	})
}

func TestIsLocation(t *testing.T) {
	f := func(value string, want bool) {
		t.Helper()
		if got := isLocation(value); got != want {
			t.Errorf("%q: %v, want %v", value, got, want)
		}
	}
	for _, s := range []string{
		"https://example.com", "http://example.com/a?b=c#d", "https://example.com$request_uri", "https://a.com:8443/x?rd=$request_uri", "https://[2001:db8::1]/",
		// Relative ones, as ingress-nginx 1.15.1 takes them (RFC 3986, section 4.2).
		"/x", "//x", "/x?a=b:c", "/new$request_uri", "example.com", "t.test/x",
	} {
		f(s, true)
	}
	for _, s := range []string{
		"", "?x", "#x", "x:y/z", "$request_uri:x", "/$host", "/a b", "ftp://x/", "javascript:alert(1)", "https://", "https:///x", "https://x/$host", "https://$host/", "https://x/$request_uri_x$y",
		"https://x/ y", "https://x/\r\nSet-Cookie:a", "https://x/\"", "https://x/{a}", "https://x/<a>", "https://x/ü", "https://x:y/", "HTTPS:",
	} {
		f(s, false)
	}
}

func FuzzIsLocation(f *testing.F) {
	f.Add("https://example.com$request_uri")
	f.Add("http://a:1/?b")
	f.Fuzz(func(t *testing.T, value string) {
		if !isLocation(value) {
			return
		}
		u, err := url.Parse(strings.ReplaceAll(value, requestURI, "/"))
		if err != nil || u.Scheme != "" && u.Scheme != "http" && u.Scheme != "https" || u.Scheme != "" && u.Host == "" || strings.ContainsAny(value, " \r\n\t\x00\"<>\\") {
			t.Errorf("%q: %v", value, err)
		}
	})
}

func TestIsHostField(t *testing.T) {
	f := func(value string, want bool) {
		t.Helper()
		if got := isHostField(value); got != want {
			t.Errorf("%q: %v, want %v", value, got, want)
		}
	}
	for _, s := range []string{"example.com", "a", "a_b.svc", "example.com:8080", "10.0.0.1", "[2001:db8::1]:80"} {
		f(s, true)
	}
	for _, s := range []string{"", "a b", "a/b", "a:b", "a:b:c", ":80", "$host", "a\r\nb", "a@b", "[x", strings.Repeat("a", 256)} {
		f(s, false)
	}
}

func TestIsAppRoot(t *testing.T) {
	f := func(value string, want bool) {
		t.Helper()
		if got := isAppRoot(value); got != want {
			t.Errorf("%q: %v, want %v", value, got, want)
		}
	}
	for _, s := range []string{"/app", "/app/", "/app?x=1", "/%C3%BC"} {
		f(s, true)
	}
	for _, s := range []string{"", "/", "app", "//evil.com", `/\evil.com`, "/a b", "/$1", "/a\r\nb", "/%zz", "https://x/"} {
		f(s, false)
	}
}

func TestIsSecretName(t *testing.T) {
	f := func(value string, want bool) {
		t.Helper()
		if got := isSecretName(value); got != want {
			t.Errorf("%q: %v, want %v", value, got, want)
		}
	}
	for _, s := range []string{"a", "ns/a", "a.b-c", "ns/a.b"} {
		f(s, true)
	}
	for _, s := range []string{"", "/", "/a", "a/", "a/b/c", "A", "a b", "../a", "n.s/a"} {
		f(s, false)
	}
}

func TestParseCiphers(t *testing.T) {
	f := func(value, want string) {
		t.Helper()
		ids, unknown, groups := parseCiphers(value)
		var names []string
		for _, id := range ids {
			names = append(names, strings.TrimPrefix(tls.CipherSuiteName(id), "TLS_ECDHE_"))
		}
		if got := fmt.Sprint(names, unknown, groups); got != want {
			t.Errorf("%q: %s, want %s", value, got, want)
		}
	}
	f("ECDHE-RSA-AES128-GCM-SHA256", "[RSA_WITH_AES_128_GCM_SHA256] [] false")
	f("ECDHE-RSA-CHACHA20-POLY1305:ECDHE-ECDSA-AES256-SHA ECDHE-RSA-CHACHA20-POLY1305", "[ECDSA_WITH_AES_256_CBC_SHA RSA_WITH_CHACHA20_POLY1305_SHA256] [] false")
	f("TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384,AES128-SHA", "[RSA_WITH_AES_256_GCM_SHA384] [AES128-SHA] false")
	f("ECDHE-RSA-AES128-GCM-SHA256:DHE-RSA-AES128-GCM-SHA256:!aNULL:!MD5:!RC4", "[RSA_WITH_AES_128_GCM_SHA256] [DHE-RSA-AES128-GCM-SHA256] false")
	f("ECDHE-RSA-AES128-SHA:ECDHE-RSA-AES256-SHA:!ECDHE-RSA-AES128-SHA", "[RSA_WITH_AES_256_CBC_SHA] [] false")
	f("HIGH:!aNULL:!MD5", "[] [HIGH] true")
	f("ECDHE+AESGCM:!SHA1", "[] [ECDHE+AESGCM !SHA1] true")
	f("DEFAULT:@SECLEVEL=2", "[] [DEFAULT @SECLEVEL=2] true")
	f("TLS_AES_128_GCM_SHA256", "[] [TLS_AES_128_GCM_SHA256] false")
	f("ECDHE-RSA-AES128-SHA:!ECDHE-RSA-AES128-SHA", "[] [] false")
	f("RC4-SHA:foo:!", "[] [RC4-SHA foo !] false")
	f("", "[] [] false")
	// A group without some: all that are left.
	ids, _, groups := parseCiphers("HIGH:!ECDHE-RSA-AES128-SHA")
	if len(ids) != len(cipherNames)-1 || groups {
		t.Errorf("a group without one gives %v", ids)
	}
}

// TestCipherNames: the names are all that Go holds secure, and no others.
func TestCipherNames(t *testing.T) {
	var want, got []uint16
	for _, s := range tls.CipherSuites() {
		if slices.Contains(s.SupportedVersions, tls.VersionTLS12) {
			want = append(want, s.ID)
		}
	}
	for i, c := range cipherNames {
		got = append(got, c.id)
		if i > 0 && cipherNames[i-1].openssl >= c.openssl {
			t.Errorf("%s is out of order", c.openssl)
		}
	}
	slices.Sort(want)
	slices.Sort(got)
	if !slices.Equal(got, want) {
		t.Errorf("suites %x, want %x", got, want)
	}
}

func FuzzParseCiphers(f *testing.F) {
	f.Add("ECDHE-RSA-AES128-GCM-SHA256:!aNULL:HIGH")
	f.Add("@SECLEVEL=2:-ALL:+RC4")
	f.Fuzz(func(t *testing.T, value string) {
		ids, _, _ := parseCiphers(value)
		for i, id := range ids {
			known := slices.ContainsFunc(cipherNames, func(c struct {
				openssl string
				id      uint16
			}) bool {
				return c.id == id
			})
			if !known || i > 0 && ids[i-1] >= id {
				t.Errorf("%q gives %v", value, ids)
			}
		}
	})
}

func TestParseVersions(t *testing.T) {
	f := func(value, want string) {
		t.Helper()
		least, most, ignored, ok := parseVersions(value)
		got := "wrong"
		if ok {
			got = fmt.Sprintf("%s-%s %s", tls.VersionName(least)[4:], tls.VersionName(most)[4:], ignored)
		}
		if got != want {
			t.Errorf("%q: %s, want %s", value, got, want)
		}
	}
	f("TLSv1.2", "1.2-1.2 ")
	f("TLSv1.2 TLSv1.3", "1.2-1.3 ")
	f("TLSv1.3  TLSv1.2 TLSv1.1", "1.1-1.3 ")
	f("TLSv1 TLSv1.1", "1.0-1.1 ")
	f("TLSv1 TLSv1.2", "1.2-1.2 TLSv1")
	f("TLSv1 TLSv1.1 TLSv1.3 SSLv3", "1.3-1.3 SSLv3 TLSv1 TLSv1.1")
	f("SSLv2 SSLv3", "wrong")
	f("", "wrong")
	f("TLSv1.4", "wrong")
	f("TLSv1.2,TLSv1.3", "wrong")
}

// TestReaders states what values come to in the settings, and which parts of
// them have no effect.
func TestReaders(t *testing.T) {
	f := func(name, value, want string) {
		t.Helper()
		s := settings{}
		got := lookup(name).value.read(&s, value)
		text := "wrong"
		if got.wrong == "" {
			text = strings.TrimSpace(fmt.Sprint(readBack(name, &s), " ", len(got.ignored)))
		}
		if text != want {
			t.Errorf("%s: %q gives %s, want %s", name, value, text, want)
		}
		if (got.wrong != "" || len(got.ignored) > 0) && got.remedy == "" {
			t.Errorf("%s: %q has no remedy", name, value)
		}
	}
	f("proxy-next-upstream", "error timeout", "false 0")
	f("proxy-next-upstream", "error", "false 0")
	f("proxy-next-upstream", "off", "true 0")
	f("proxy-next-upstream", "error off", "true 0")
	f("proxy-next-upstream", "error timeout http_502 non_idempotent", "false 1")
	f("proxy-next-upstream", "http_502", "true 1")
	f("proxy-next-upstream", "off x", "wrong")
	f("proxy-next-upstream-tries", "5", "5 0")
	f("proxy-next-upstream-tries", "0", "1000 0")
	f("proxy-next-upstream-tries", "1001", "wrong")
	f("proxy-next-upstream-timeout", "0", "0s 0")
	f("proxy-next-upstream-timeout", "5", "5s 0")
	f("server-alias", "A.com, b.com,", "[a.com b.com] 0")
	f("server-alias", "a.com,*.b.com,~^x$,c d", "[a.com] 3")
	f("server-alias", strings.Repeat("a.com,", maxAliases-1)+"b.com,c.com,d.com", fmt.Sprint(append(slices.Repeat([]string{"a.com"}, maxAliases-1), "b.com"))+" 1")
	f("custom-http-errors", "503, 404,503", "[404 503] 0")
	f("custom-http-errors", "299", "wrong")
	f("custom-http-errors", "404,", "wrong")
	f("permanent-redirect-code", "308", "308 0")
	f("permanent-redirect-code", "304", "wrong")
	f("auth-tls-match-cn", "CN=(a|b)", "(a|b) 0")
	f("auth-tls-match-cn", "CN=", "wrong")
	f("auth-tls-match-cn", "a", "wrong")
	f("auth-tls-match-cn", "CN=(?=a)", "wrong")
	f("backend-protocol", "grpcs", "GRPCS 0")
	f("satisfy", "any", "true 0")
	f("auth-tls-verify-client", "optional_no_ca", "optional_no_ca 0")
	f("auth-tls-verify-client", "optional_no", "wrong")
	f("ssl-prefer-server-ciphers", "true", " 1"[1:])
	f("proxy-ssl-protocols", "TLSv1 TLSv1.2", "771 1")
}

func readBack(name string, s *settings) any {
	switch name {
	case "proxy-next-upstream":
		return s.retry.Off
	case "proxy-next-upstream-tries":
		return s.retry.Tries
	case "proxy-next-upstream-timeout":
		return s.retry.Timeout
	case "server-alias":
		return s.aliases
	case "custom-http-errors":
		return s.customHTTPErrors
	case "permanent-redirect-code":
		return s.redirect[permanent].code
	case "auth-tls-match-cn":
		return s.clientCert.matchCN
	case "auth-tls-verify-client":
		return s.clientCert.verify
	case "backend-protocol":
		return s.protocol
	case "satisfy":
		return s.satisfyAny
	case "proxy-ssl-protocols":
		return s.bridge.minVersion
	}
	return ""
}

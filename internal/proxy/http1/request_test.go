package http1

import (
	"bytes"
	"errors"
	"strings"
	"testing"
)

var testLimits = Limits{HeadBytes: 64 << 10, Fields: 100, Target: 8 << 10}

func TestRequestParse(t *testing.T) {
	f := func(in string, wantErr error) {
		t.Helper()
		var r Request
		err := r.Parse([]byte(in), testLimits)
		if !errors.Is(err, wantErr) {
			t.Errorf("Parse(%q) = %v, want %v", in, err, wantErr)
		}
	}
	ok := func(in string) { t.Helper(); f(in, nil) }
	ok("GET / HTTP/1.1\r\nHost: a\r\n\r\n")
	ok("GET / HTTP/1.0\r\n\r\n")
	ok("OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n")
	ok("GET http://a/x?y HTTP/1.1\r\nHost: a\r\n\r\n")
	ok("GET http://a?y HTTP/1.1\r\nHost: a\r\n\r\n")
	ok("GET / HTTP/1.1\r\nHost: a\r\nX-Empty:\r\nX-8bit: \xff\xfe\r\n\r\n")
	ok("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\n")
	ok("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: Chunked\r\n\r\n")
	f("GET / HTTP/1.1\r\n\r\n", errHost)
	f("GET / HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n", errHost)
	f("GET http://a/ HTTP/1.1\r\nHost: b\r\n\r\n", errHost)
	f("GET / HTTP/1.1\nHost: a\r\n\r\n", errBareLF)
	f("GET / HTTP/1.1\r\nHost: a\n\r\n", errBareLF)
	f("GET  / HTTP/1.1\r\nHost: a\r\n\r\n", errStartLine)
	f("GET / HTTP/2.0\r\nHost: a\r\n\r\n", ErrVersion)
	f("GET / HTTP/1.1\r\nHost: a\r\n folded\r\n\r\n", errObsFold)
	f("GET / HTTP/1.1\r\nHost : a\r\n\r\n", errFieldName)
	f("GET / HTTP/1.1\r\nHost: a\r\nX: a\rb\r\n\r\n", errFieldValue)
	f("GET / HTTP/1.1\r\nHost: a\r\nX: a\x00b\r\n\r\n", errFieldValue)
	f("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n", errTransfer)
	f("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nContent-Length: 5\r\n\r\n", errLength)
	f("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: +5\r\n\r\n", errLength)
	f("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked, x\r\n\r\n", errTransfer)
	f("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip\r\n\r\n", ErrCoding)
	f("GET / HTTP/1.1\r\nHost: a\r\nConnection: Host\r\n\r\n", errConnection)
}

// TestTransferCodings states which codings are unknown (501: RFC 9112, section
// 6.1, "a server that receives a request message with a transfer coding it does
// not understand SHOULD respond with 501") and which make the framing unsure (400:
// section 6.3 where chunked is not last, section 6.1 where it is there twice, and
// what is no list of codings at all).
func TestTransferCodings(t *testing.T) {
	f := func(value string, want error) {
		t.Helper()
		var r Request
		err := r.Parse([]byte("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding:"+value+"\r\n\r\n"), testLimits)
		if !errors.Is(err, want) {
			t.Errorf("Transfer-Encoding:%q: %v, want %v", value, err, want)
		}
	}
	for _, v := range []string{" chunked", "chunked", "\tCHUNKED\t", " \t Chunked "} {
		f(v, nil)
	}
	for _, v := range []string{" gzip", " GZIP", " br", " identity", " xchunked", " cow", " gzip, chunked", " gzip ,\tchunked", " x;a=b, chunked",
		" x; a = \"b\";c, chunked", " gzip, deflate, chunked"} {
		f(v, ErrCoding)
	}
	for _, v := range []string{"", " ", " ,", " ,chunked", " chunked,", " chunked, gzip", " chunked, chunked", " chunked;q=1", " gzip,, chunked", " \"chunked\"",
		" gzip chunked", " chunked\xa0", " (chunked)", " gzip;=, chunked", " gzip, chunked;a", " gzip;a=\"b, chunked"} {
		f(v, errTransfer)
	}
	f(" gzip\r\nTransfer-Encoding: chunked", ErrCoding)
	f(" chunked\r\nTransfer-Encoding: gzip", errTransfer)
	f(" chunked\r\nTransfer-Encoding: chunked", errTransfer)
}

// TestHeadsAreRepaired states that the head that is passed on says what was
// understood, to the byte: white space around values is one space before them
// (RFC 9110, section 5.6.3: a sender generates optional white space as a single
// space), and a number has no leading zeros, which C's strtol with base 0 and its
// kin read as octal.
func TestHeadsAreRepaired(t *testing.T) {
	f := func(fields, want string) {
		t.Helper()
		var r Request
		if err := r.Parse([]byte("POST / HTTP/1.1\r\n"+fields+"\r\n"), testLimits); err != nil {
			t.Errorf("%q: %v", fields, err)
		} else if got := string(r.AppendFields(nil)); got != want {
			t.Errorf("%q is passed on as %q, want %q", fields, got, want)
		}
	}
	f("Host: a\r\nContent-Length:\t0\t\r\n", "Host: a\r\nContent-Length: 0\r\n")
	f("Host: a\r\nContent-Length: 007\r\nX: 1\r\n", "Host: a\r\nContent-Length: 7\r\nX: 1\r\n")
	f("Host: a\r\nContent-Length:000\r\n", "Host: a\r\nContent-Length: 0\r\n")
	f("Host:\ta\t \r\n", "Host: a\r\n")
	f("Host:a\r\nX:y\r\n", "Host: a\r\nX: y\r\n")
	f("A: 1\r\nHost:  a\r\nB: 2\r\nC: 3\r\n", "A: 1\r\nHost: a\r\nB: 2\r\nC: 3\r\n")
	f("Host: a\r\nA: 1\r\nTE: trailers\r\nB:\t2\r\nC: 3\r\n", "Host: a\r\nA: 1\r\nB: 2\r\nC: 3\r\n")
	f("Host: a\r\nAuthorization:\tBasic x\r\n", "Host: a\r\nAuthorization: Basic x\r\n")
	f("Host: a\r\nX: a\t b \r\n", "Host: a\r\nX: a\t b\r\n") // within a value it is part of it
	f("Host: a\r\nX:\r\nY: \r\nZ:\t \r\n", "Host: a\r\nX:\r\nY: \r\nZ: \r\n")

	var res Response
	in := "HTTP/1.1 200 OK\r\nContent-Length:\t05 \r\nX:y\r\n\r\n"
	if err := res.Parse([]byte(in), 10, false); err != nil {
		t.Fatal(err)
	}
	if got, want := string(res.AppendFields(nil)), "Content-Length: 5\r\nX: y\r\n"; got != want {
		t.Errorf("%q is passed on as %q, want %q", in, got, want)
	}
}

// TestHostOfAbsoluteForm states when a target in absolute form and Host name the
// same authority: the default port of the scheme may be left out (RFC 9110,
// sections 4.2.1 to 4.2.3; RFC 3986, section 6.2.3, for an empty port), letter case
// means nothing. What goes on is the target's (RFC 9112, section 3.2.2).
func TestHostOfAbsoluteForm(t *testing.T) {
	f := func(target, host, passed string) {
		t.Helper()
		var r Request
		err := r.Parse([]byte("GET "+target+" HTTP/1.1\r\nHost: "+host+"\r\n\r\n"), testLimits)
		if passed == "" {
			if err != errHost {
				t.Errorf("%s with Host %q: %v, want %v", target, host, err, errHost)
			}
			return
		}
		if err != nil {
			t.Errorf("%s with Host %q: %v", target, host, err)
			return
		}
		got := string(r.AppendFields(nil))
		if !r.HasHost {
			got = "Host: " + string(r.Authority) + "\r\n" + got
		}
		if want := "Host: " + passed + "\r\n"; got != want || string(r.Authority) != passed {
			t.Errorf("%s with Host %q is passed on as %q, want %q", target, host, got, want)
		}
	}
	f("http://a/", "a", "a")
	f("http://a:80/x", "a", "a:80")
	f("http://a/x", "a:80", "a")
	f("http://a:/x", "a", "a:")
	f("http://A:80/x", "a:", "A:80")
	f("https://a:443/x", "a", "a:443")
	f("https://a/x", "a:443", "a")
	f("http://[::1]:80/", "[::1]", "[::1]:80")
	f("http://[::1]/", "[::1]:80", "[::1]")
	f("http://a/", "b", "")
	f("http://a:80/", "a:8080", "")
	f("http://a:8080/", "a", "")
	f("http://a:443/", "a", "") // the default of another scheme
	f("https://a:80/", "a", "")
	f("https://a/", "a:80", "")
	f("http://a./", "a", "")
	f("http://a/", "", "")
	f("http://[::80]/", "[:", "")

	build := func(scheme, authority, host, passed string) {
		t.Helper()
		var r Request
		r.BeginBuild(GetBuffer(SmallBuffer))
		if err := r.AddField("host", host); err != nil {
			t.Fatal(err)
		}
		err := r.FinishBuild(Control{Method: "GET", Target: "/", Authority: authority, Scheme: scheme}, testLimits)
		if passed == "" {
			if err != errHost {
				t.Errorf("%s, :authority %s, host %s: %v, want %v", scheme, authority, host, err, errHost)
			}
		} else if err != nil || string(r.Authority) != passed {
			t.Errorf("%s, :authority %s, host %s: %v, %q, want %q", scheme, authority, host, err, r.Authority, passed)
		}
	}
	// RFC 9113, section 8.3.1: Host and :authority must not differ, and are
	// compared after scheme-based normalization.
	build("https", "a", "a", "a")
	build("https", "a", "a:443", "a")
	build("https", "a:443", "A", "a:443")
	build("http", "a:80", "a", "a:80")
	build("http", "a:443", "a", "")
	build("https", "a:443", "a:80", "")
	build("https", "a", "b", "")
}

// TestConnectionScheme states which credentials log a connection in: the scheme is
// a token (RFC 9110, section 11.1) in any case, and what ends it is whatever is no
// part of one, since servers differ in what they take for white space.
func TestConnectionScheme(t *testing.T) {
	f := func(value string, want bool) {
		t.Helper()
		var r Request
		if err := r.Parse([]byte("GET / HTTP/1.1\r\nHost: a\r\nAuthorization:"+value+"\r\n\r\n"), testLimits); err != nil {
			t.Errorf("%q: %v", value, err)
		} else if r.ConnectionAuth != want {
			t.Errorf("Authorization:%q: logs the connection in: %v, want %v", value, r.ConnectionAuth, want)
		}
	}
	for _, v := range []string{" NTLM TlRM", "NTLM TlRM", " NTLM\tTlRM", "\tntlm\t", " NTLM", " Ntlm,", " NTLM\xa0TlRM", "\xc2\xa0NTLM x",
		" Negotiate YII", " NEGOTIATE\tYII", " negotiate", " Negotiate=", " Basic x\r\nAuthorization: NTLM x", " NTLM x\r\nAuthorization: Basic x"} {
		f(v, true)
	}
	for _, v := range []string{"", " Basic TlRM", " Bearer NTLM", " NTLMv2 x", " X-NTLM x", " Negotiate2 x"} {
		f(v, false)
	}
}

// TestConnectionChallenge states the same of what endpoints ask for; of a list of
// challenges each counts (RFC 9110, section 11.6.1).
func TestConnectionChallenge(t *testing.T) {
	f := func(value string, want bool) {
		t.Helper()
		var r Response
		if err := r.Parse([]byte("HTTP/1.1 401 Unauthorized\r\nContent-Length: 0\r\nWWW-Authenticate:"+value+"\r\n\r\n"), 10, false); err != nil {
			t.Errorf("%q: %v", value, err)
		} else if r.ConnectionAuth != want {
			t.Errorf("WWW-Authenticate:%q: logs the connection in: %v, want %v", value, r.ConnectionAuth, want)
		}
	}
	for _, v := range []string{" NTLM", "NTLM TlRM", "\tNegotiate\tYII", " Basic realm=\"a\", NTLM", " Negotiate,NTLM", " negotiate", " Basic realm=a\r\nWWW-Authenticate: NTLM\t"} {
		f(v, true)
	}
	for _, v := range []string{"", " Basic realm=\"NTLM\"", " Bearer", " NTLMv2"} {
		f(v, false)
	}
}

// TestNames states which fields are passed on by their names. nginx (1.22,
// ngx_http_parse_header_line) calls a name with another character than letters,
// digits and hyphens invalid, underscores unless underscores_in_headers is on, and
// drops such fields unless ignore_invalid_headers is off. What CGI could take for
// one of our own stays dropped in every setting.
func TestNames(t *testing.T) {
	const plain = "Host: a\r\nX-1a: 1\r\n"
	const under, odd = "my_field: 2\r\n", "My.Field: 3\r\nx!y: 4\r\na_b.c: 5\r\n"
	const aliases = "X_Real_IP: 1\r\nX.Real.IP: 1\r\nX!Real~IP: 1\r\nX-Forwarded_For: 1\r\nX|Forwarded|Proto: 1\r\nTransfer_Encoding: chunked\r\n" +
		"Content.Length: 5\r\nssl_client_verify: SUCCESS\r\nX_Rewrite_URL: /\r\nTrue*Client*IP: 1\r\nX+Original+URL: /\r\nHost_: a\r\n"
	f := func(names Names, want string) {
		t.Helper()
		limits := testLimits
		limits.Names = names
		var r Request
		if err := r.Parse([]byte("GET / HTTP/1.1\r\n"+plain+under+odd+aliases+"\r\n"), limits); err != nil {
			t.Fatal(err)
		}
		r.Believe() // not even a trusted proxy spells them so
		got := string(r.AppendFields(nil))
		want += map[bool]string{true: "Host_: a\r\n"}[names > NamesHyphen] // one character more is no alias
		if got != want {
			t.Errorf("names %d: passed on %q, want %q", names, got, want)
		}
		var c Chunks
		c.Fields, c.Names = 10, names
		if _, _, done, err := c.Next([]byte("0\r\nmy_field: 2\r\nX: 1\r\nX_Real_IP: 1\r\n\r\n")); !done || err != nil {
			t.Fatal(done, err)
		}
		want = map[bool]string{true: "my_field: 2\r\n"}[names > NamesHyphen] + "X: 1\r\n"
		if got := string(c.Trailer.AppendFields(nil)); got != want {
			t.Errorf("names %d: trailer %q, want %q", names, got, want)
		}
	}
	f(NamesHyphen, plain)
	f(NamesUnderscore, plain+under)
	f(NamesAny, plain+under+odd)
}

// TestProxiedFields states what only a proxy may say: fields by which servers and
// frameworks learn the client's address, its certificate, its user, and which host,
// scheme or path was asked for. They are dropped, and passed on from a trusted
// proxy, unless they are Gatehouse's own or Connection names them.
func TestProxiedFields(t *testing.T) {
	proxied := []string{
		"Forwarded", "Forwarded-For", "X-Forwarded", "X-Forwarded-Server", "X-Forwarded-Prefix", "X-Forwarded-Uri", "X-Forwarded-User", "X-Forwarded-Ssl",
		"Client-IP", "X-Client-IP", "X-Cluster-Client-IP", "True-Client-IP", "CF-Connecting-IP", "CF-Connecting-IPv6", "Fastly-Client-IP",
		"Fly-Client-IP", "X-Azure-ClientIP", "X-Azure-SocketIP", "X-AppEngine-User-IP", "X-Envoy-External-Address", "X-Originating-IP",
		"X-Remote-IP", "X-Remote-Addr", "Remote-Addr", "X-ProxyUser-Ip", "Proxy-Client-IP", "WL-Proxy-Client-IP", "Front-End-Https", "X-URL-Scheme",
		"X-Host", "X-HTTP-Host-Override", "X-Original-Host", "X-Original-URI", "X-Original-Method",
		"X-SSL-Client-Verify", "X-SSL-Client-S-DN", "X-TLS-Client-Cert", "Client-Cert", "Client-Cert-Chain", "X-Client-Cert",
		"Remote-User", "X-Remote-User", "X-Remote-Group",
	}
	ours := []string{
		"Proxy", "TE", "Keep-Alive", "Proxy-Connection", "Proxy-Authorization", "HTTP2-Settings",
		"X-Forwarded-For", "X-Forwarded-Host", "X-Forwarded-Port", "X-Forwarded-Proto", "X-Forwarded-Scheme", "X-Scheme", "X-Real-IP", "X-Request-ID",
		// By these frameworks replace the path that was guarded (IIS, Symfony, Zend), and
		// balancers pass them on from clients.
		"X-Original-URL", "X-Rewrite-URL",
		"X-Original-Forwarded-For", "X-Original-Forwarded-Host", "ssl-client-verify", "ssl-client-cert", "ssl-client-subject-dn",
	}
	others := []string{"X-Forward", "Original-URL", "X-Original", "Client", "SSL-Client", "Remote", "Proxy-Foo", "X-Clientele", "Via", "Cookie", "Referer"}
	head := func(lines ...string) []byte {
		return []byte("GET / HTTP/1.1\r\nHost: a\r\n" + strings.Join(lines, "\r\n") + "\r\n\r\n")
	}
	f := func(name string, line string, untrusted, trusted bool) {
		t.Helper()
		var r Request
		if err := r.Parse(head(line, name+": 1"), testLimits); err != nil {
			t.Fatal(name, err)
		}
		passed := func() bool { return bytes.Contains(r.AppendFields(nil), []byte("\r\n"+name+": 1")) }
		if got := passed(); got != untrusted {
			t.Errorf("%s of a client (%s): passed on: %v, want %v", name, line, got, untrusted)
		}
		r.Believe()
		if got := passed(); got != trusted {
			t.Errorf("%s of a trusted proxy (%s): passed on: %v, want %v", name, line, got, trusted)
		}
	}
	for _, n := range proxied {
		f(n, "A: b", false, true)
		f(strings.ToUpper(n), "A: b", false, true)
		f(n, "Connection: "+n, false, false)
	}
	for _, n := range ours {
		f(n, "A: b", false, false)
		f(strings.ToLower(n), "A: b", false, false)
	}
	for _, n := range others {
		f(n, "A: b", true, true)
	}
}

// TestKnownNames states that each name stands where its length says.
func TestKnownNames(t *testing.T) {
	for n := range known {
		for _, k := range known[n] {
			if len(k.name) != n || strings.ToLower(k.name) != k.name {
				t.Errorf("%q stands under %d", k.name, n)
			}
		}
	}
}

func BenchmarkRequestParse(b *testing.B) {
	in := []byte("GET /login?next=%2Fcart HTTP/1.1\r\nHost: example.com\r\nUser-Agent: Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0\r\nAccept: text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8\r\nAccept-Language: en-US,en;q=0.5\r\nAccept-Encoding: gzip, deflate, br, zstd\r\nConnection: keep-alive\r\nCookie: session=0123456789abcdef0123456789abcdef; theme=dark\r\nUpgrade-Insecure-Requests: 1\r\nSec-Fetch-Dest: document\r\n\r\n")
	var r Request
	b.ReportAllocs()
	b.SetBytes(int64(len(in)))
	for b.Loop() {
		if err := r.Parse(in, testLimits); err != nil {
			b.Fatal(err)
		}
	}
}

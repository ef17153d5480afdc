package accesslog

import (
	"encoding/json"
	"net/netip"
	"reflect"
	"regexp"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"gatehouse.dev/gatehouse/internal/ir"
)

func fullEntry() *Entry {
	return &Entry{
		Start:            time.Date(2026, 11, 23, 5, 42, 7, 12_345_678, time.FixedZone("", 3600)),
		Duration:         1234567 * time.Nanosecond,
		UpstreamDuration: 2*time.Second + 5*time.Microsecond,
		RequestID:        []byte("0af7651916cd43dd8448eb211c80319c"),
		Client:           netip.MustParseAddrPort("203.0.113.9:40000"),
		Peer:             netip.MustParseAddrPort("10.0.0.1:5555"),
		User:             []byte("ann"),
		Method:           []byte("GET"), Scheme: "https", Host: []byte("example.com"),
		Target: []byte("/a?b=c"), Protocol: []byte("HTTP/1.1"),
		Referer: []byte("https://example.com/"), UserAgent: []byte("curl/8.0"),
		Status: 200, Reason: ir.ReasonUpstreamCut,
		Route: "shop/web/0", Namespace: "shop", Ingress: "web", Service: "login", ServicePort: 80,
		Endpoint: netip.MustParseAddrPort("[2001:db8::1]:8080"), UpstreamStatus: 201, Attempts: 2,
		BytesIn: 10, BytesOut: 2048,
		TLSVersion: 0x0304, TLSCipher: 0x1301, ServerName: "example.com",
	}
}

func line(f Format, e *Entry) string {
	var s scratch
	s.render(f, e)
	return string(s.line)
}

func TestJSONShowsEveryFieldInOrder(t *testing.T) {
	want := `{"time":"2026-11-23T04:42:07.012345Z","request_id":"0af7651916cd43dd8448eb211c80319c",` +
		`"client":"203.0.113.9","client_port":40000,"peer":"10.0.0.1","peer_port":5555,"user":"ann",` +
		`"method":"GET","scheme":"https","host":"example.com","target":"/a?b=c","protocol":"HTTP/1.1",` +
		`"status":200,"reason":"UpstreamCut","duration_seconds":0.001234,"bytes_in":10,"bytes_out":2048,` +
		`"referer":"https://example.com/","user_agent":"curl/8.0","route":"shop/web/0","namespace":"shop",` +
		`"ingress":"web","service":"login","service_port":80,"endpoint":"[2001:db8::1]:8080",` +
		`"upstream_status":201,"upstream_duration_seconds":2.000005,"attempts":2,"tls_version":"TLSv1.3",` +
		`"tls_cipher":"TLS_AES_128_GCM_SHA256","server_name":"example.com"}` + "\n"
	if got := line(JSON, fullEntry()); got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
}

func TestJSONLeavesOutWhatIsNotKnown(t *testing.T) {
	want := `{"time":"2026-01-02T03:04:05.000000Z","status":400,"reason":"Malformed",` +
		`"duration_seconds":0.000000,"bytes_in":0,"bytes_out":0}` + "\n"
	e := &Entry{Start: time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC), Duration: -1, Status: 400, Reason: ir.ReasonMalformed}
	if got := line(JSON, e); got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
}

func TestCombined(t *testing.T) {
	f := func(name string, edit func(*Entry), want string) {
		t.Helper()
		e := fullEntry()
		edit(e)
		if got := line(Combined, e); got != want+"\n" {
			t.Errorf("%s:\ngot  %swant %s", name, got, want)
		}
	}
	f("plain", func(*Entry) {},
		`203.0.113.9 - ann [23/Nov/2026:04:42:07 +0000] "GET /a?b=c HTTP/1.1" 200 2048 "https://example.com/" "curl/8.0"`)
	f("nothing known", func(e *Entry) { *e = Entry{Start: e.Start, Status: 400} },
		`- - - [23/Nov/2026:04:42:07 +0000] "-" 400 0 "-" "-"`)
	f("escapes as nginx does", func(e *Entry) {
		e.User = []byte("a b\" ")
		e.Referer = []byte("x\"\\\n\x7f\xff")
		e.UserAgent = []byte("\" 200 1 \"forged")
	}, `203.0.113.9 - a\x20b\x22\x20 [23/Nov/2026:04:42:07 +0000] "GET /a?b=c HTTP/1.1" 200 2048 "x\x22\x5C\x0A\x7F\xFF" "\x22 200 1 \x22forged"`)
	f("HTTP/0.9", func(e *Entry) { e.Protocol = nil },
		`203.0.113.9 - ann [23/Nov/2026:04:42:07 +0000] "GET /a?b=c" 200 2048 "https://example.com/" "curl/8.0"`)
}

func TestAddressZonesAreDropped(t *testing.T) {
	hostile := netip.MustParseAddr(`fe80::1%","status":999,"x":"`)
	e := fullEntry()
	e.Client = netip.AddrPortFrom(hostile, 0)
	e.Endpoint = netip.AddrPortFrom(hostile, 80)
	e.Peer = netip.MustParseAddrPort("[::ffff:10.0.0.1]:1")
	got := line(JSON, e)
	for _, want := range []string{`"client":"fe80::1","peer":"10.0.0.1","peer_port":1,`, `"endpoint":"[fe80::1]:80",`} {
		if !strings.Contains(got, want) {
			t.Errorf("%s lacks %s", got, want)
		}
	}
	if strings.Contains(got, "999") {
		t.Errorf("zone reached the log: %s", got)
	}
}

func TestPeerIsLeftOutWhenItIsTheClient(t *testing.T) {
	e := fullEntry()
	e.Peer = e.Client
	if got := line(JSON, e); strings.Contains(got, "peer") {
		t.Errorf("got %s", got)
	}
}

func TestTimestampCacheFollowsTheSecond(t *testing.T) {
	var s scratch
	e := fullEntry()
	for _, d := range []time.Duration{0, 900 * time.Millisecond, time.Millisecond, -time.Hour} {
		e.Start = e.Start.Add(d)
		s.render(JSON, e)
		if want := `{"time":"` + e.Start.UTC().Format("2006-01-02T15:04:05.000000Z") + `"`; !strings.HasPrefix(string(s.line), want) {
			t.Errorf("got %s, want %s", s.line, want)
		}
	}
	e.Start = time.Unix(0, 0) // the zero of the cached second
	if got := line(JSON, e); !strings.HasPrefix(got, `{"time":"1970-01-01T00:00:00.000000Z"`) {
		t.Errorf("got %s", got)
	}
}

func TestTLSNames(t *testing.T) {
	f := func(version, cipher uint16, want string) {
		t.Helper()
		e := &Entry{TLSVersion: version, TLSCipher: cipher}
		if got := line(JSON, e); !strings.Contains(got, want) {
			t.Errorf("got %s, want %s in it", got, want)
		}
	}
	f(0x0303, 0xc02b, `"tls_version":"TLSv1.2","tls_cipher":"TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256"}`)
	f(0x0303, 0xcca8, `"tls_cipher":"TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256"}`)
	f(0x0399, 0x0abc, `"tls_version":"0x0399","tls_cipher":"0x0abc"}`)
}

func TestJSONEscapesWhatIsInvisible(t *testing.T) {
	f := func(in, want string) {
		t.Helper()
		if got := string(appendEscapedJSON(nil, in)); got != want {
			t.Errorf("%q: got %s, want %s", in, got, want)
		}
		if got := string(appendEscapedJSON(nil, []byte(in))); got != want {
			t.Errorf("%q as bytes: got %s, want %s", in, got, want)
		}
	}
	f("plain", "plain")
	f("a\"b\\c", `a\"b\\c`)
	f("\r\n\t\x00\x1b\x7f", `\r\n\t\u0000\u001b\u007f`)
	f("é€😀\ufffd", "é€😀\ufffd")
	f("a\xffb\xc3", `a\ufffdb\ufffd`)
	f("\xed\xa0\x80", `\ufffd\ufffd\ufffd`) // a lone surrogate
	f("\u009b\u2028\u2029\u202e\u2066\u200f\ufeff", `\u009b\u2028\u2029\u202e\u2066\u200f\ufeff`)
}

func FuzzLines(f *testing.F) {
	f.Add([]byte("GET"), []byte("/\"\\\x00\n"), "a\xff\u2028", int64(1), int64(1))
	f.Add([]byte(""), []byte("\xed\xa0\x80"), "%\r\n", int64(-1), int64(1<<62))
	f.Fuzz(func(t *testing.T, a, b []byte, c string, d, n int64) {
		e := &Entry{
			Start: time.Unix(d%(1<<33), n), Duration: time.Duration(d), UpstreamDuration: time.Duration(n),
			RequestID: a, User: b, Method: a, Scheme: c, Host: b, Target: b, Protocol: a, Referer: b, UserAgent: a,
			Status: int(d), Reason: ir.Reason(c), Route: ir.RouteID(c), Namespace: c, Ingress: c, Service: c,
			ServicePort: uint16(n), UpstreamStatus: int(n), Attempts: int(d), BytesIn: d, BytesOut: n,
			TLSVersion: uint16(d), TLSCipher: uint16(n), ServerName: c,
			Client: netip.AddrPortFrom(netip.IPv6LinkLocalAllNodes().WithZone(c), 1),
		}
		checkJSON(t, line(JSON, e), e)
		checkCombined(t, line(Combined, e))
	})
}

// checkJSON reads the line with encoding/json: one object, every key once, and
// the same text as encoding/json itself would have kept.
func checkJSON(t *testing.T, got string, e *Entry) {
	t.Helper()
	if !utf8.ValidString(got) || strings.Count(got, "\n") != 1 || !strings.HasSuffix(got, "\n") {
		t.Fatalf("not one line of UTF-8: %q", got)
	}
	dec := json.NewDecoder(strings.NewReader(got))
	seen := map[string]any{}
	if tok, err := dec.Token(); tok != json.Delim('{') || err != nil {
		t.Fatalf("%q: %v", got, err)
	}
	for dec.More() {
		k, err := dec.Token()
		if err != nil {
			t.Fatalf("%q: %v", got, err)
		}
		v, err := dec.Token()
		if err != nil {
			t.Fatalf("%q: %v", got, err)
		}
		if _, twice := seen[k.(string)]; twice {
			t.Fatalf("key %v twice in %q", k, got)
		}
		seen[k.(string)] = v
	}
	if !json.Valid([]byte(got)) {
		t.Fatalf("invalid JSON: %q", got)
	}
	for key, in := range map[string]string{
		"target": string(e.Target), "user_agent": string(e.UserAgent), "service": e.Service,
	} {
		var want any
		if in != "" {
			b, _ := json.Marshal(in)
			_ = json.Unmarshal(b, &want)
		}
		if !reflect.DeepEqual(seen[key], want) {
			t.Fatalf("%s: got %q, want %q", key, seen[key], want)
		}
	}
}

var combinedLine = regexp.MustCompile(
	`^[0-9a-f.:-]+ - [!-~]+ \[\d+/\w+/-?\d+:\d+:\d+:\d+ \+0000\] "[ -!#-~]+" -?\d+ -?\d+ "[ -!#-~]+" "[ -!#-~]+"\n$`)

func checkCombined(t *testing.T, got string) {
	t.Helper()
	if !combinedLine.MatchString(got) {
		t.Fatalf("fields shifted, or unprintable: %q", got)
	}
}

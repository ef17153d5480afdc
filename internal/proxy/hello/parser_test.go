package hello

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/binary"
	"errors"
	"math/big"
	"net"
	"slices"
	"strings"
	"testing"
	"time"
)

// read is a hello: its name and how many bytes it has.
type read struct {
	name string
	size int
}

// parse gives the bytes to one Parser in steps, checking what it says on the
// way. The buffer moves between the calls, as a growing one does.
func parse(t testing.TB, raw []byte, step int) (read, bool, error) {
	t.Helper()
	var p Parser
	for end := 0; ; end += step {
		end = min(end, len(raw))
		name, need, err := p.Parse(bytes.Clone(raw[:end]))
		switch {
		case err != nil && (need || name != ""):
			t.Fatalf("at %d: %q, need %v with %v", end, name, need, err)
		case err == nil && !need && (p.off > end || p.off <= end-step):
			t.Fatalf("at %d: %d bytes in steps of %d", end, p.off, step)
		case need && end >= MaxRaw:
			t.Fatalf("%d bytes are not enough", end)
		}
		if !need || end == len(raw) {
			return read{name, p.off}, need, err
		}
	}
}

// message builds a ClientHello from its extensions.
func message(extensions ...[]byte) []byte {
	list := bytes.Join(extensions, nil)
	body := append([]byte{3, 3}, make([]byte, 32)...)
	body = append(body, 0, 0, 4, 0x0a, 0x0a, 0x13, 0x01, 1, 0)
	body = binary.BigEndian.AppendUint16(body, uint16(len(list)))
	body = append(body, list...)
	return append([]byte{1, byte(len(body) >> 16), byte(len(body) >> 8), byte(len(body))}, body...)
}

func ext(typ uint16, data []byte) []byte {
	b := binary.BigEndian.AppendUint16(nil, typ)
	return append(binary.BigEndian.AppendUint16(b, uint16(len(data))), data...)
}

func vec16(data ...[]byte) []byte {
	all := bytes.Join(data, nil)
	return append(binary.BigEndian.AppendUint16(nil, uint16(len(all))), all...)
}

// sni is a server_name extension with these names.
func sni(names ...string) []byte {
	var list []byte
	for _, n := range names {
		list = append(append(list, 0), vec16([]byte(n))...)
	}
	return ext(extServerName, vec16(list))
}

// records cuts a message into records of at most n bytes.
func records(message []byte, n int) []byte {
	var raw []byte
	for part := range slices.Chunk(message, n) {
		raw = append(raw, recordHandshake, 3, 1, byte(len(part)>>8), byte(len(part)))
		raw = append(raw, part...)
	}
	return raw
}

func payload(t testing.TB, raw []byte) (message []byte) {
	t.Helper()
	for len(raw) > 0 {
		n := recordHeader + int(binary.BigEndian.Uint16(raw[3:]))
		message, raw = append(message, raw[recordHeader:n]...), raw[n:]
	}
	return message
}

// same compares with what crypto/tls read.
func same(t testing.TB, h read, info *tls.ClientHelloInfo) {
	t.Helper()
	if h.name != strings.ToLower(info.ServerName) {
		t.Errorf("name %q, crypto/tls reads %q", h.name, info.ServerName)
	}
}

// allWays reads the hello byte by byte, in several sizes of record, with early
// data behind it, and compares each with crypto/tls.
func allWays(t *testing.T, raw []byte) (name string) {
	t.Helper()
	info := readTLS(raw)
	if info == nil {
		t.Fatal("crypto/tls refuses the hello")
	}
	for _, size := range []int{maxFragment, 1, 3, 4, 5, 100, 1000} {
		cut := records(payload(t, raw), size)
		for _, step := range []int{1, 7, len(cut)} {
			h, need, err := parse(t, append(cut, 23, 3, 3, 0, 1, 0), step)
			if err != nil || need {
				t.Fatalf("records of %d in steps of %d: need %v, %v", size, step, need, err)
			}
			if h.size != len(cut) {
				t.Fatalf("records of %d: %d bytes, want %d", size, h.size, len(cut))
			}
			same(t, h, info)
			name = h.name
		}
	}
	return name
}

func TestCaptured(t *testing.T) {
	want := map[string]string{"no name": "", "ech": "public.example"}
	for kind, raw := range captured(t) {
		t.Run(kind, func(t *testing.T) {
			name, ok := want[kind]
			if !ok {
				name = "shop.example"
			}
			if got := allWays(t, raw); got != name {
				t.Errorf("name %q, want %q", got, name)
			}
		})
	}
	if n := len(captured(t)["1.3"]); n < 1200 {
		t.Errorf("the hello of TLS 1.3 has %d bytes: no post-quantum key share", n)
	}
}

func TestResumed(t *testing.T) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.CreateCertificate(rand.Reader, &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour)}, &x509.Certificate{}, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	cert := tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
	f := func(version, ticketExtension uint16) {
		t.Helper()
		raw := resumed(t, cert, version)
		if name := allWays(t, raw); name != "shop.example" {
			t.Errorf("name %q", name)
		}
		fresh := clientHello(&tls.Config{ServerName: "shop.example", MaxVersion: version})
		if !slices.Contains(readTLS(raw).Extensions, ticketExtension) || len(raw) < len(fresh)+80 {
			t.Errorf("version %#x: no ticket in the hello", version)
		}
	}
	f(tls.VersionTLS12, 35)
	f(tls.VersionTLS13, 41)
}

func TestOpenSSL(t *testing.T) {
	f := func(name string, args ...string) {
		t.Helper()
		if got := allWays(t, openssl(t, args...)); got != name {
			t.Errorf("%v: name %q, want %q", args, got, name)
		}
	}
	f("shop.example", "-servername", "Shop.Example", "-alpn", "h2,http/1.1")
	f("shop.example", "-servername", "shop.example", "-tls1_2")
	f("", "-noservername")
}

func TestNames(t *testing.T) {
	f := func(name, want string, err error) {
		t.Helper()
		h, need, got := parse(t, records(message(sni(name)), maxFragment), 1)
		if need || !errors.Is(got, err) || h.name != want {
			t.Errorf("%q: %q, need %v, %v, want %q, %v", name, h.name, need, got, want, err)
		}
	}
	label := strings.Repeat("a", 63)
	long := label + "." + label + "." + label + "." + label[:61]
	f("a", "a", nil)
	f("Shop.EXAMPLE", "shop.example", nil)
	f("a_b.x-y.xn--bcher-kva.example", "a_b.x-y.xn--bcher-kva.example", nil)
	f("192.0.2.1", "192.0.2.1", nil)
	f(label+".example", label+".example", nil)
	f(long, long, nil)
	// As nginx 1.22 takes it for the host without the dot (Python 3 sends it).
	f("Shop.example.", "shop.example", nil)
	f(long+".", long, nil)
	for _, bad := range []string{
		"", ".", "..", "shop.example..", ".shop.example", "shop..example", "*.example", "shop.example:443",
		"shop.example\x00", "shop.example\x00.evil", "shop example", "shop.example/", "büch.er", "\xff",
		"::1", "[::1]", "a\r\nb", "a" + label + ".example", long + "a", strings.Repeat("a.", 127) + "a",
	} {
		f(bad, "", ErrName)
	}
}

func TestExtensions(t *testing.T) {
	f := func(want error, extensions ...[]byte) (name string) {
		t.Helper()
		raw := records(message(extensions...), maxFragment)
		h, need, err := parse(t, raw, 1)
		if need || !errors.Is(err, want) {
			t.Errorf("%x: need %v, %v, want %v", extensions, need, err, want)
		}
		info := readTLS(raw)
		if err == nil && info != nil {
			same(t, h, info)
		}
		return h.name
	}
	grease := func(n int) []byte { return ext(uint16(n*0x1010+0x0a0a), nil) }
	alpn := ext(16, vec16([]byte("\x02h2\x02\n\n\x08http/1.1")))
	versions := ext(43, []byte("\x06\x6a\x6a\x03\x03\x03\x04"))

	if name := f(nil); name != "" {
		t.Errorf("no extensions: name %q", name)
	}
	if name := f(nil, grease(0), sni("a.example"), ext(23, nil), ext(35, nil), alpn, versions, ext(21, make([]byte, 500)),
		ext(0xfe0d, []byte{0, 1, 2}), ext(0x1234, []byte("x")), grease(15)); name != "a.example" {
		t.Errorf("GREASE: name %q", name)
	}

	f(ErrMalformed, sni("a.example"), sni("a.example"))
	f(ErrMalformed, grease(1), grease(1))
	f(ErrMalformed, alpn, grease(1), alpn)
	f(ErrName, sni("a.example", "b.example"))
	f(ErrName, sni("a.example", "a.example"))
	f(ErrName, ext(extServerName, vec16([]byte{7}, vec16([]byte("x")))))
	f(ErrName, ext(extServerName, vec16([]byte{7}, vec16([]byte("x")), []byte{0}, vec16([]byte("a.example")))))
	f(ErrMalformed, sni())
	f(ErrMalformed, ext(extServerName, nil))
	f(ErrMalformed, ext(extServerName, append(vec16([]byte{0}, vec16([]byte("a"))), 0)))
	f(ErrMalformed, ext(extServerName, vec16([]byte{0, 0, 9, 'a'})))
	f(ErrMalformed, ext(extServerName, []byte{0, 9, 0, 0, 1, 'a'}))
	f(ErrMalformed, []byte{0})
	f(ErrMalformed, []byte{0, 1, 0, 1})

	var many [][]byte
	for i := range MaxExtensions {
		many = append(many, ext(uint16(0x4000+i), nil))
	}
	f(nil, many...)
	f(ErrTooLarge, append(many, ext(0x3000, nil))...)
}

func TestRefused(t *testing.T) {
	// at is the number of bytes after which it must be told.
	f := func(raw []byte, want error, at int) {
		t.Helper()
		for _, step := range []int{1, len(raw)} {
			if _, need, err := parse(t, raw, step); need || !errors.Is(err, want) {
				t.Errorf("%.40q: need %v, %v, want %v", raw, need, err, want)
			}
		}
		if _, need, err := parse(t, raw[:at-1], 1); !need || err != nil {
			t.Errorf("%.40q: need %v, %v after %d bytes", raw, need, err, at-1)
		}
		if _, need, err := parse(t, raw[:at], 1); need || !errors.Is(err, want) {
			t.Errorf("%.40q: need %v, %v after %d bytes, want %v", raw, need, err, at, want)
		}
	}
	f([]byte("GET / HTTP/1.1\r\n"), ErrHTTP, 1)
	f([]byte("PRI * HTTP/2.0\r\n"), ErrHTTP, 1)
	f([]byte("SSH-2.0-x\r\n"), ErrHTTP, 1) // not told apart: it begins like a method
	f([]byte("\r\n\r\n\x00"), ErrNotTLS, 1)
	f([]byte("\x00\x01"), ErrNotTLS, 1)
	f([]byte("{}"), ErrNotTLS, 1)
	f([]byte("\x80\x2e\x01\x03\x01"), ErrSSLv2, 1)
	f([]byte("\x15\x03\x01\x00\x02\x01\x00"), ErrUnexpected, 1)
	f([]byte("\x14\x03\x01\x00\x01\x01"), ErrUnexpected, 1)
	f([]byte("\x17\x03\x03\x00\x01\x01"), ErrUnexpected, 1)
	f([]byte("\x18\x03\x03\x00\x01\x01"), ErrUnexpected, 1)
	f([]byte("\x16\x02\x00\x00\x01\x01"), ErrNotTLS, 2)
	f([]byte("\x16\xfe\xff\x00\x01\x01"), ErrNotTLS, 2) // DTLS
	f([]byte("\x16\x03\x01\x00\x00"), ErrUnexpected, 5)
	f([]byte("\x16\x03\x01\x40\x01"), ErrTooLarge, 5)
	f([]byte("\x16\x03\x01\xff\xff"), ErrTooLarge, 5)
	f([]byte("\x16\x03\x01\x00\x05\x02"), ErrUnexpected, 6)             // a ServerHello
	f([]byte("\x16\x03\x01\x00\x04\x01\x01\x00\x01"), ErrTooLarge, 9)   // 65537 bytes
	f([]byte("\x16\x03\x01\x00\x05\x01\x00\x00\x00"), ErrUnexpected, 9) // more than the message

	good := message(sni("a.example"))
	// Another type of record in the middle of the hello.
	cut := records(good, 10)
	for _, typ := range []byte{20, 21, 23} {
		mixed := bytes.Clone(cut)
		mixed[15] = typ
		f(mixed, ErrUnexpected, 16)
	}
	mixed := bytes.Clone(cut)
	mixed[16] = 4
	f(mixed, ErrNotTLS, 17)
	// A second message in the last record.
	f(records(append(bytes.Clone(good), 1), maxFragment), ErrUnexpected, 9)
	f(records(append(bytes.Clone(good), 1), len(good)-3), ErrUnexpected, recordHeader+len(good)-3+recordHeader)

	// Every cut of the message, its length made to fit.
	for n := range len(good) - messageHeader {
		short := bytes.Clone(good[:messageHeader+n])
		short[2], short[3] = byte(n>>8), byte(n)
		_, need, err := parse(t, records(short, maxFragment), 1)
		bare := n == len(good)-messageHeader-len(sni("a.example"))-2 // without extensions
		if need || bare != (err == nil) || !bare && !errors.Is(err, ErrMalformed) {
			t.Errorf("cut after %d bytes: need %v, %v", n, need, err)
		}
	}
	f(append([]byte{22, 3, 1, 0, byte(len(good) + 1), 1, 0, 0, byte(len(good) - 3)}, append(good[4:], 0)...), ErrMalformed, recordHeader+len(good)+1)
}

func TestRecordVersions(t *testing.T) {
	raw := records(message(sni("a.example")), 20)
	for i := range 6 {
		raw[2] = byte(i)
		if h, _, err := parse(t, raw, 1); err != nil || h.name != "a.example" {
			t.Errorf("record version 3.%d: %+v, %v", i, h, err)
		}
	}
}

func TestBounds(t *testing.T) {
	fill := func(n int) []byte { // a message of n bytes behind its header
		a := ext(0x4001, make([]byte, 40000))
		rest := n - len(message(sni("a.example"), a)) + messageHeader - 4
		return message(sni("a.example"), a, ext(0x4002, make([]byte, rest)))
	}
	big := fill(MaxMessage)
	if len(big) != messageHeader+MaxMessage {
		t.Fatalf("the message has %d bytes", len(big))
	}
	for _, size := range []int{maxFragment, 1400, 17} {
		raw := records(big, size)
		if h, need, err := parse(t, raw, 1000); err != nil || need || h.name != "a.example" || h.size != len(raw) || len(raw) > MaxRaw {
			t.Errorf("records of %d: %d bytes, %+v, need %v, %v", size, len(raw), h, need, err)
		}
	}
	if _, need, err := parse(t, records(big, 15), 1000); need || !errors.Is(err, ErrTooLarge) {
		t.Errorf("more than %d records: need %v, %v", MaxRecords, need, err)
	}
	if _, need, err := parse(t, records(fill(MaxMessage+1), maxFragment), 1000); need || !errors.Is(err, ErrTooLarge) {
		t.Errorf("%d bytes: need %v, %v", MaxMessage+1, need, err)
	}
	// What is announced and does not come costs nothing.
	var p Parser
	if _, need, err := p.Parse(records(big, 1)[:60]); !need || err != nil || cap(p.message) > 100 {
		t.Errorf("need %v, %v, %d bytes kept for 10 that came", need, err, cap(p.message))
	}
}

func TestAlerts(t *testing.T) {
	f := func(err error, want Alert, ok bool) {
		t.Helper()
		if a, got := AlertFor(err); a != want || got != ok {
			t.Errorf("%v: %d, %v", err, a, got)
		}
	}
	f(ErrHTTP, 0, false)
	f(ErrNotTLS, 0, false)
	f(errors.New("other"), 0, false)
	f(ErrSSLv2, AlertProtocolVersion, true)
	f(ErrUnexpected, AlertUnexpectedMessage, true)
	f(ErrTooLarge, AlertRecordOverflow, true)
	f(ErrMalformed, AlertDecodeError, true)
	f(ErrName, AlertIllegalParameter, true)

	// What a client makes of it.
	for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
		c := tls.Client(recorded{r: bytes.NewReader(AppendAlert(nil, AlertInternalError))}, &tls.Config{ServerName: "a.example", MaxVersion: version})
		var alert *net.OpError
		if err := c.Handshake(); !errors.As(err, &alert) || !strings.Contains(err.Error(), "internal error") {
			t.Errorf("version %#x: the client says %v", version, err)
		}
	}
}

func TestAllocations(t *testing.T) {
	raw := captured(t)["1.3"]
	p := new(Parser)
	if n := testing.AllocsPerRun(100, func() {
		*p = Parser{}
		if _, need, err := p.Parse(raw); need || err != nil {
			t.Fatal(need, err)
		}
	}); n > 1 {
		t.Errorf("%v allocations, want the name only", n)
	}
}

func FuzzParse(f *testing.F) {
	for _, raw := range captured(f) {
		f.Add(raw, uint16(1), uint16(0))
		f.Add(raw, uint16(100), uint16(7))
	}
	f.Add(records(message(sni("a.example"), sni("b.example")), 3), uint16(1), uint16(1))
	f.Add(records(message(sni("a.example", "b")), 300), uint16(1), uint16(1))
	f.Add([]byte("\x16\x03\x01\x00\x05\x01\x00\x00\x00"), uint16(1), uint16(3))
	f.Fuzz(func(t *testing.T, raw []byte, step, size uint16) {
		raw = raw[:min(len(raw), 8192)]
		h, need, err := parse(t, raw, int(step)+1)
		var p Parser
		if name, need1, err1 := p.Parse(raw); name != h.name || need1 != need || err1 != err || err == nil && !need && p.off != h.size {
			t.Fatalf("at once: %q, %d, %v, %v; in steps of %d: %+v, %v, %v", name, p.off, need1, err1, step, h, need, err)
		}
		info := readTLS(raw)
		switch {
		case need:
			if info != nil {
				t.Fatalf("crypto/tls has read a hello of which more is wanted here: %+v", info)
			}
		case err == nil:
			if info != nil {
				same(t, h, info)
			}
			// Cut otherwise, the hello is the same.
			cut := records(payload(t, raw[:h.size]), int(size)%maxFragment+1)
			if h1, need1, err1 := parse(t, cut, 1000); err1 != nil || need1 || h1.name != h.name {
				if !errors.Is(err1, ErrTooLarge) {
					t.Fatalf("cut into %d: %+v, need %v, %v, want %+v", size, h1, need1, err1, h)
				}
			}
		case info != nil && errors.Is(err, ErrMalformed):
			t.Fatalf("crypto/tls accepts what is malformed here: %+v", info)
		}
	})
}

// FuzzExtensions builds hellos whose outer lengths are right from pairs of a
// kind and content, so that the fuzzer's changes reach the lists inside.
func FuzzExtensions(f *testing.F) {
	f.Add([]byte("\x00\x09a.example\x0a\x03\x02h2\x0b\x00"))
	f.Add([]byte("\x01\x06\x00\x04\x00\x00\x01a"))
	f.Add([]byte("\x00\x01a\x00\x01a"))
	f.Add([]byte("\x02\x01a\x0a\x02xx\x0b\x02xx"))
	f.Add([]byte("\x03\x0b\x01a\x00\x00\x01b\x00\x00\x02"))
	f.Fuzz(func(t *testing.T, b []byte) {
		var list [][]byte
		for len(b) >= 2 {
			kind, n := b[0], min(int(b[1]), len(b)-2)
			data := b[2 : 2+n]
			b = b[2+n:]
			switch kind {
			case 0:
				list = append(list, sni(string(data)))
			case 1:
				list = append(list, ext(extServerName, data))
			case 2:
				list = append(list, sni(string(data), string(data)))
			case 3:
				list = append(list, ext(extServerName, vec16([]byte{0}, data)))
			case 4:
				list = append(list, data)
			default:
				list = append(list, ext(uint16(kind)<<8, data))
			}
		}
		raw := records(message(list...), maxFragment)
		h, need, err := parse(t, raw, len(raw))
		info := readTLS(raw)
		switch {
		case need:
			t.Fatal("more is wanted of a whole hello")
		case err == nil && info != nil:
			same(t, h, info)
		case err != nil && info != nil && errors.Is(err, ErrMalformed):
			t.Fatalf("crypto/tls accepts what is malformed here: %+v", info)
		}
	})
}

func BenchmarkParse(b *testing.B) {
	for _, kind := range []string{"1.3", "1.2"} {
		raw := captured(b)[kind]
		b.Run(kind, func(b *testing.B) {
			p := new(Parser)
			b.ReportAllocs()
			for b.Loop() {
				*p = Parser{}
				if _, _, err := p.Parse(raw); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// A byte per call and per record: the time must grow with the bytes.
func BenchmarkByteByByte(b *testing.B) {
	for _, n := range []int{1000, 4000} {
		raw := records(message(sni("a.example"), ext(0x4001, make([]byte, n-100))), 1)
		b.Run(string(rune('0'+n/1000))+"k", func(b *testing.B) {
			for b.Loop() {
				var p Parser
				for i := range raw {
					if _, need, err := p.Parse(raw[:i+1]); err != nil || need != (i+1 < len(raw)) {
						b.Fatal(i, need, err)
					}
				}
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*len(raw)), "ns/byte")
		})
	}
}

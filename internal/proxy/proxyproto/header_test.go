package proxyproto

import (
	"bytes"
	"encoding/binary"
	"errors"
	"hash/crc32"
	"net/netip"
	"strings"
	"testing"
)

func addrs(src, dst string) Header {
	return Header{Command: Proxy, Source: netip.MustParseAddrPort(src), Destination: netip.MustParseAddrPort(dst)}
}

// feed gives buf byte by byte, as a caller must be able to, and reports what
// the whole of it and each beginning said.
func feed(t *testing.T, buf []byte) (Header, int, bool, error) {
	t.Helper()
	h, n, need, err := Parse(buf)
	for i := range buf {
		h1, n1, need1, err1 := Parse(buf[:i])
		switch {
		case need1:
			if n1 != 0 || err1 != nil {
				t.Fatalf("first %d bytes of %q: need with n %d and %v", i, buf, n1, err1)
			}
		case err1 != nil:
			if !errors.Is(err, err1) {
				t.Fatalf("first %d bytes of %q: %v, the whole: %v", i, buf, err1, err)
			}
		default:
			if n1 > i || n1 != n || h1.Source != h.Source || h1.Destination != h.Destination {
				t.Fatalf("first %d bytes of %q: %+v and %d, the whole: %+v and %d", i, buf, h1, n1, h, n)
			}
		}
	}
	return h, n, need, err
}

func TestV1(t *testing.T) {
	f := func(line, src, dst string) {
		t.Helper()
		h, n, need, err := feed(t, []byte(line+"GET / HTTP/1.1\r\n"))
		if err != nil || need || n != len(line) {
			t.Fatalf("%q: n %d, need %v, %v", line, n, need, err)
		}
		if h.Version != 1 || h.Command != Proxy {
			t.Errorf("%q: version %d, command %d", line, h.Version, h.Command)
		}
		if src == "" {
			if h.Source.IsValid() || h.Destination.IsValid() {
				t.Errorf("%q: addresses %v and %v, want none", line, h.Source, h.Destination)
			}
			return
		}
		if h.Source != netip.MustParseAddrPort(src) || h.Destination != netip.MustParseAddrPort(dst) {
			t.Errorf("%q: %v and %v", line, h.Source, h.Destination)
		}
	}
	// The examples and the longest lines of section 2.1.
	f("PROXY TCP4 192.168.0.1 192.168.0.11 56324 443\r\n", "192.168.0.1:56324", "192.168.0.11:443")
	f("PROXY TCP4 255.255.255.255 255.255.255.255 65535 65535\r\n", "255.255.255.255:65535", "255.255.255.255:65535")
	ff := strings.TrimSuffix(strings.Repeat("ffff:", 8), ":")
	f("PROXY TCP6 "+ff+" "+ff+" 65535 65535\r\n", "["+ff+"]:65535", "["+ff+"]:65535")
	f("PROXY UNKNOWN\r\n", "", "")
	f("PROXY UNKNOWN "+ff+" "+ff+" 65535 65535\r\n", "", "")
	f("PROXY UNKNOWN anything at all\r\n", "", "")
	f("PROXY TCP4 0.0.0.0 1.2.3.4 0 0\r\n", "0.0.0.0:0", "1.2.3.4:0")
	f("PROXY TCP6 2001:DB8::1 2001:0db8:0:0:0:0:0:2 1 2\r\n", "[2001:db8::1]:1", "[2001:db8::2]:2")
	f("PROXY TCP6 ::ffff:192.0.2.1 ::ffff:c000:202 1 2\r\n", "192.0.2.1:1", "192.0.2.2:2")
}

func TestV1Refused(t *testing.T) {
	f := func(buf string, want error) {
		t.Helper()
		h, n, need, err := feed(t, []byte(buf))
		if !errors.Is(err, want) || need || n != 0 || h.Source.IsValid() {
			t.Errorf("%q: %+v, n %d, need %v, error %v, want %v", buf, h, n, need, err, want)
		}
	}
	f("GET / HTTP/1.1\r\n", ErrMissing)
	f(" PROXY TCP4 1.1.1.1 2.2.2.2 1 2\r\n", ErrMissing) // nothing before the header
	f("\nPROXY TCP4 1.1.1.1 2.2.2.2 1 2\r\n", ErrMissing)
	f("\x16\x03\x01", ErrMissing)
	f("proxy TCP4 1.1.1.1 2.2.2.2 1 2\r\n", ErrMissing)
	f("PROXY\tTCP4 1.1.1.1 2.2.2.2 1 2\r\n", ErrMissing)
	for _, line := range []string{
		"PROXY  TCP4 1.1.1.1 2.2.2.2 1 2\r\n",
		"PROXY TCP4  1.1.1.1 2.2.2.2 1 2\r\n",
		"PROXY TCP4 1.1.1.1 2.2.2.2 1 2 \r\n",
		"PROXY TCP4 1.1.1.1 2.2.2.2 1 2 3\r\n",
		"PROXY TCP4 1.1.1.1 2.2.2.2 1\r\n",
		"PROXY TCP4\r\n",
		"PROXY TCP5 1.1.1.1 2.2.2.2 1 2\r\n",
		"PROXY tcp4 1.1.1.1 2.2.2.2 1 2\r\n",
		"PROXY UNKNOWNX\r\n",
		"PROXY \r\n",
		"PROXY TCP4 01.1.1.1 2.2.2.2 1 2\r\n",
		"PROXY TCP4 1.1.1 2.2.2.2 1 2\r\n",
		"PROXY TCP4 1.1.1.256 2.2.2.2 1 2\r\n",
		"PROXY TCP4 0x1.1.1.1 2.2.2.2 1 2\r\n",
		"PROXY TCP4 ::1 ::2 1 2\r\n",
		"PROXY TCP4 ::ffff:1.1.1.1 2.2.2.2 1 2\r\n",
		"PROXY TCP6 1.1.1.1 2.2.2.2 1 2\r\n",
		"PROXY TCP6 fe80::1%eth0 ::2 1 2\r\n",
		"PROXY TCP6 [::1] ::2 1 2\r\n",
		"PROXY TCP4 1.1.1.1 2.2.2.2 01 2\r\n",
		"PROXY TCP4 1.1.1.1 2.2.2.2 1 00\r\n",
		"PROXY TCP4 1.1.1.1 2.2.2.2 +1 2\r\n",
		"PROXY TCP4 1.1.1.1 2.2.2.2 1 65536\r\n",
		"PROXY TCP4 1.1.1.1 2.2.2.2 1 99999\r\n",
		"PROXY TCP4 1.1.1.1 2.2.2.2 1 -2\r\n",
		"PROXY TCP4 1.1.1.1 2.2.2.2  2\r\n",
		"PROXY TCP4 1.1.1.1 2.2.2.2 1 2\n",
		"PROXY TCP4 1.1.1.1 2.2.2.2 1 2\r2\r\n",
		"PROXY TCP4 1.1.1.1\r\n 2.2.2.2 1 2\r\n",
		"PROXY UNKNOWN a\x00b\r\n",
		"PROXY UNKNOWN a\nb\r\n",
		"PROXY UNKNOWN \x80\r\n",
	} {
		f(line, ErrMalformed)
	}
	long := "PROXY UNKNOWN " + strings.Repeat("x", MaxV1-len("PROXY UNKNOWN \r\n"))
	if _, n, _, err := feed(t, []byte(long+"\r\n")); err != nil || n != MaxV1 {
		t.Errorf("a line of %d bytes: n %d, %v", MaxV1, n, err)
	}
	f(long+"x\r\n", ErrTooLong)
	f(long+"xxx", ErrTooLong)
}

// v2 builds a header from its parts, right or wrong.
func v2(verCmd, family byte, block ...[]byte) []byte {
	b := append([]byte(signature), verCmd, family)
	body := bytes.Join(block, nil)
	b = binary.BigEndian.AppendUint16(b, uint16(len(body)))
	return append(b, body...)
}

func tlv(typ byte, value string) []byte {
	b := binary.BigEndian.AppendUint16([]byte{typ}, uint16(len(value)))
	return append(b, value...)
}

var (
	block4 = []byte{192, 0, 2, 1, 198, 51, 100, 2, 0xdb, 0xfc, 0x01, 0xbb}
	block6 = append(append(netip.MustParseAddr("2001:db8::1").AsSlice(), netip.MustParseAddr("2001:db8::2").AsSlice()...), 0xdb, 0xfc, 0x01, 0xbb)
)

func TestV2(t *testing.T) {
	f := func(buf []byte, command Command, src, dst string) {
		t.Helper()
		h, n, need, err := feed(t, append(bytes.Clone(buf), "GET /"...))
		if err != nil || need || n != len(buf) {
			t.Fatalf("%x: n %d, need %v, %v", buf, n, need, err)
		}
		if h.Version != 2 || h.Command != command {
			t.Errorf("%x: version %d, command %d", buf, h.Version, h.Command)
		}
		var want Header
		if src != "" {
			want = addrs(src, dst)
		}
		if h.Source != want.Source || h.Destination != want.Destination {
			t.Errorf("%x: %v and %v, want %v and %v", buf, h.Source, h.Destination, want.Source, want.Destination)
		}
	}
	f(v2(0x21, tcp4, block4), Proxy, "192.0.2.1:56316", "198.51.100.2:443")
	f(v2(0x21, tcp6, block6), Proxy, "[2001:db8::1]:56316", "[2001:db8::2]:443")
	mapped := append(append(netip.MustParseAddr("::ffff:192.0.2.1").AsSlice(), netip.MustParseAddr("2001:db8::2").AsSlice()...), 0, 1, 0, 2)
	f(v2(0x21, tcp6, mapped), Proxy, "192.0.2.1:1", "[2001:db8::2]:2")

	// What has no addresses for us: whatever the block holds is not looked at.
	f(v2(0x20, 0), Local, "", "")
	f(v2(0x20, tcp4, block4), Local, "", "")
	f(v2(0x20, 0xff, []byte("junk")), Local, "", "")
	f(v2(0x21, 0), Proxy, "", "")
	f(v2(0x21, 0, []byte("junk")), Proxy, "", "")
	f(v2(0x21, 0x10, block4), Proxy, "", "")
	f(v2(0x21, 0x12, block4), Proxy, "", "")
	f(v2(0x21, 0x22, block6), Proxy, "", "")
	f(v2(0x21, 0x31, make([]byte, 216), tlv(typeAuthority, "name")), Proxy, "", "")

	f(v2(0x21, tcp4, block4, tlv(0xea, "\x01vpce-1"), tlv(0xea, "again"), tlv(4, ""), tlv(typeAuthority, "shop.example"),
		tlv(typeUniqueID, "id"), tlv(typeSSL, "\x01\x00\x00\x00\x00"+string(tlv(0x21, "TLSv1.3")))), Proxy, "192.0.2.1:56316", "198.51.100.2:443")
}

func TestV2Checksum(t *testing.T) {
	b := v2(0x21, tcp4, block4, tlv(typeAuthority, "shop.example"), tlv(typeCRC32C, "\x00\x00\x00\x00"), tlv(typeUniqueID, "id"))
	at := bytes.Index(b, []byte{typeCRC32C, 0, 4, 0, 0, 0, 0}) + 3
	binary.BigEndian.PutUint32(b[at:], crc32.Checksum(b, crc32.MakeTable(crc32.Castagnoli)))
	kept := bytes.Clone(b)
	if _, n, _, err := feed(t, b); err != nil || n != len(b) {
		t.Fatalf("right checksum: n %d, %v", n, err)
	}
	if !bytes.Equal(b, kept) {
		t.Fatal("Parse has written into the caller's buffer")
	}
	for i := fixedV2; i < len(b); i++ {
		b[i] ^= 1
		if _, _, need, err := Parse(b); err == nil || need {
			t.Errorf("byte %d changed: need %v, no error", i, need)
		}
		b[i] ^= 1
	}
	b[fixedV2] ^= 1
	if _, _, _, err := Parse(b); !errors.Is(err, ErrChecksum) {
		t.Errorf("address changed: %v", err)
	}
}

func TestV2Refused(t *testing.T) {
	f := func(buf []byte, want error) {
		t.Helper()
		h, n, need, err := feed(t, buf)
		if !errors.Is(err, want) || need || n != 0 || h.Source.IsValid() {
			t.Errorf("%x: %+v, n %d, need %v, error %v, want %v", buf, h, n, need, err, want)
		}
	}
	good := v2(0x21, tcp4, block4)
	f(append([]byte{0}, good...), ErrMissing)
	f(bytes.Replace(good, []byte("QUIT"), []byte("quit"), 1), ErrMissing)
	f([]byte("\r\n\r\nPROXY TCP4 1.1.1.1 2.2.2.2 1 2\r\n"), ErrMissing)
	f(v2(0x11, tcp4, block4), ErrMalformed)
	f(v2(0x31, tcp4, block4), ErrMalformed)
	f(v2(0x22, tcp4, block4), ErrMalformed)
	f(v2(0x2f, tcp4, block4), ErrMalformed)
	f(v2(0x21, 0x41, block4), ErrMalformed)
	f(v2(0x21, 0x13, block4), ErrMalformed)
	f(v2(0x21, tcp4, block4[:11]), ErrMalformed)
	f(v2(0x21, tcp6, block6[:35]), ErrMalformed)
	f(v2(0x21, 0x31, make([]byte, 215)), ErrMalformed)
	f(v2(0x21, tcp4), ErrMalformed)
	// TLVs that spill beyond the header, whatever follows it.
	f(v2(0x21, tcp4, block4, []byte{0xea}), ErrMalformed)
	f(v2(0x21, tcp4, block4, []byte{0xea, 0}), ErrMalformed)
	f(append(v2(0x21, tcp4, block4, []byte{0xea, 0, 1}), "x"...), ErrMalformed)
	f(append(v2(0x21, tcp4, block4, tlv(typeAuthority, "a"), []byte{0xea, 0xff, 0xff}), make([]byte, 70000)...), ErrMalformed)
	f(v2(0x21, tcp4, block4, tlv(typeAuthority, "a"), tlv(typeAuthority, "b")), ErrMalformed)
	f(v2(0x21, tcp4, block4, tlv(typeCRC32C, "123")), ErrMalformed)
	f(v2(0x21, tcp4, block4, tlv(typeCRC32C, "1234")), ErrChecksum)
	f(v2(0x21, tcp4, block4, tlv(typeUniqueID, strings.Repeat("x", 129))), ErrMalformed)
	f(v2(0x21, tcp4, block4, tlv(typeSSL, "1234")), ErrMalformed)
	f(v2(0x21, tcp4, block4, make([]byte, MaxV2)), ErrTooLong)
	f(v2(0x20, 0, make([]byte, MaxV2)), ErrTooLong)
	if _, n, _, err := Parse(v2(0x20, 0, make([]byte, MaxV2-fixedV2))); err != nil || n != MaxV2 {
		t.Errorf("a header of %d bytes: n %d, %v", MaxV2, n, err)
	}
}

// A client behind the balancer writes a header of its own: it is the beginning
// of its bytes, never read as ours.
func TestSecondHeader(t *testing.T) {
	second := "PROXY TCP4 10.0.0.1 10.0.0.2 1 2\r\n"
	for _, first := range [][]byte{
		[]byte("PROXY TCP4 192.0.2.1 198.51.100.2 56316 443\r\n"),
		v2(0x21, tcp4, block4),
	} {
		buf := append(first, second...)
		h, n, _, err := Parse(buf)
		if err != nil || string(buf[n:]) != second || h.Source != netip.MustParseAddrPort("192.0.2.1:56316") {
			t.Errorf("%q: %v, rest %q, %v", buf, h.Source, buf[n:], err)
		}
	}
}

func TestAppend(t *testing.T) {
	f := func(h Header, one string, two []byte) {
		t.Helper()
		if got := AppendV1([]byte("x"), h); string(got) != "x"+one {
			t.Errorf("%v: version 1 %q, want %q", h, got, one)
		}
		if got := AppendV2([]byte("x"), h); !bytes.Equal(got[1:], two) {
			t.Errorf("%v: version 2 %x, want %x", h, got[1:], two)
		}
	}
	f(addrs("192.0.2.1:56316", "198.51.100.2:443"), "PROXY TCP4 192.0.2.1 198.51.100.2 56316 443\r\n", v2(0x21, tcp4, block4))
	f(addrs("[::ffff:192.0.2.1]:56316", "198.51.100.2:443"), "PROXY TCP4 192.0.2.1 198.51.100.2 56316 443\r\n", v2(0x21, tcp4, block4))
	f(addrs("[2001:db8::1]:56316", "[2001:db8::2%eth0]:443"), "PROXY TCP6 2001:db8::1 2001:db8::2 56316 443\r\n", v2(0x21, tcp6, block6))
	mixed := append(append(netip.MustParseAddr("::ffff:192.0.2.1").AsSlice(), netip.MustParseAddr("2001:db8::2").AsSlice()...), 0, 1, 0, 2)
	f(addrs("192.0.2.1:1", "[2001:db8::2]:2"), "PROXY TCP6 ::ffff:192.0.2.1 2001:db8::2 1 2\r\n", v2(0x21, tcp6, mixed))
	f(Header{Command: Proxy}, "PROXY UNKNOWN\r\n", v2(0x21, 0))
	f(Header{Command: Local}, "PROXY UNKNOWN\r\n", v2(0x20, 0))
	h := addrs("192.0.2.1:1", "192.0.2.2:2")
	h.Command = Local
	f(h, "PROXY UNKNOWN\r\n", v2(0x20, 0))
	h.Command, h.Destination = Proxy, netip.AddrPort{}
	f(h, "PROXY UNKNOWN\r\n", v2(0x21, 0))
	// TLVs of the hop before are not repeated.
	in, _, _, err := Parse(v2(0x21, tcp4, block4, tlv(typeAuthority, "a")))
	if err != nil {
		t.Fatal(err)
	}
	f(in, "PROXY TCP4 192.0.2.1 198.51.100.2 56316 443\r\n", v2(0x21, tcp4, block4))
}

func TestAllocations(t *testing.T) {
	one, two := []byte("PROXY TCP4 192.0.2.1 198.51.100.2 56316 443\r\n"), v2(0x21, tcp4, block4, tlv(typeAuthority, "a"))
	out := make([]byte, 0, 256)
	h := addrs("192.0.2.1:56316", "198.51.100.2:443")
	f := func(name string, max float64, run func()) {
		t.Helper()
		if n := testing.AllocsPerRun(100, run); n > max {
			t.Errorf("%s: %v allocations, want at most %v", name, n, max)
		}
	}
	f("Parse version 1", 1, func() { _, _, _, _ = Parse(one) })
	f("Parse version 2", 0, func() { _, _, _, _ = Parse(two) })
	f("AppendV1", 0, func() { AppendV1(out, h) })
	f("AppendV2", 0, func() { AppendV2(out, h) })
}

func FuzzParse(f *testing.F) {
	f.Add([]byte("PROXY TCP4 192.168.0.1 192.168.0.11 56324 443\r\nGET /"))
	f.Add([]byte("PROXY TCP6 2001:db8::1 ::ffff:1.2.3.4 1 2\r\n"))
	f.Add([]byte("PROXY UNKNOWN x\r\n"))
	f.Add(v2(0x21, tcp4, block4, tlv(typeAuthority, "a"), tlv(typeSSL, "12345")))
	f.Add(v2(0x21, tcp6, block6))
	f.Add(v2(0x20, 0))
	f.Add(v2(0x21, 0x31, make([]byte, 216)))
	f.Fuzz(func(t *testing.T, buf []byte) {
		h, n, need, err := feed(t, buf[:min(len(buf), 600)])
		if err != nil || need {
			if n != 0 || h.Source.IsValid() || h.Destination.IsValid() {
				t.Fatalf("%q: %+v and n %d with need %v, %v", buf, h, n, need, err)
			}
			if need && len(buf) >= MaxV2 {
				t.Fatalf("%d bytes are not enough", len(buf))
			}
			return
		}
		if n == 0 || n > len(buf) || n > MaxV2 || h.Source.IsValid() != h.Destination.IsValid() {
			t.Fatalf("%q: %+v, n %d", buf, h, n)
		}
		if a := h.Source.Addr(); a.Is4In6() || a.Zone() != "" {
			t.Fatalf("%q: source %v", buf, a)
		}
		for _, out := range [][]byte{AppendV1(nil, h), AppendV2(nil, h)} {
			g, m, _, err := Parse(append(bytes.Clone(out), "more"...))
			if err != nil || m != len(out) || g.Source != h.Source || g.Destination != h.Destination {
				t.Fatalf("%+v written as %q and read as %+v, %v", h, out, g, err)
			}
		}
	})
}

func FuzzAppend(f *testing.F) {
	f.Add([]byte{1, 2, 3, 4}, []byte{5, 6, 7, 8}, uint16(1), uint16(2))
	f.Fuzz(func(t *testing.T, src, dst []byte, sport, dport uint16) {
		a, ok1 := netip.AddrFromSlice(src)
		b, ok2 := netip.AddrFromSlice(dst)
		if !ok1 || !ok2 {
			return
		}
		h := Header{Command: Proxy, Source: netip.AddrPortFrom(a, sport), Destination: netip.AddrPortFrom(b, dport)}
		for _, out := range [][]byte{AppendV1(nil, h), AppendV2(nil, h)} {
			g, n, _, err := feed(t, out)
			if err != nil || n != len(out) || g.Source != netip.AddrPortFrom(a.Unmap(), sport) || g.Destination != netip.AddrPortFrom(b.Unmap(), dport) {
				t.Fatalf("%v, %v written as %q and read as %+v, %v", h.Source, h.Destination, out, g, err)
			}
		}
	})
}

func BenchmarkParseV1(b *testing.B) {
	buf := []byte("PROXY TCP4 192.168.0.1 192.168.0.11 56324 443\r\n")
	b.ReportAllocs()
	for b.Loop() {
		if _, _, _, err := Parse(buf); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkParseV2(b *testing.B) {
	buf := v2(0x21, tcp4, block4, tlv(typeAuthority, "shop.example"))
	b.ReportAllocs()
	for b.Loop() {
		if _, _, _, err := Parse(buf); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkAppendV2(b *testing.B) {
	h := addrs("192.0.2.1:56316", "198.51.100.2:443")
	out := make([]byte, 0, 64)
	b.ReportAllocs()
	for b.Loop() {
		AppendV2(out, h)
	}
}

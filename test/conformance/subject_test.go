package conformance

import (
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/asn1"
	"flag"
	"fmt"
	"io"
	"math/big"
	mrand "math/rand/v2"
	"net/http"
	"os"
	"strings"
	"testing"
	"time"
)

var subjectsTo = flag.String("subjects", "", "write what nginx says of subjects into this file, for internal/proxy/certs")

// rdn is a relative distinguished name, in DER.
func rdn(attributes ...string) string { return tlv(0x31, attributes...) }

func attribute(oid string, tag byte, value string) string {
	var id asn1.ObjectIdentifier
	for _, arc := range strings.Split(oid, ".") {
		n := 0
		fmt.Sscan(arc, &n)
		id = append(id, n)
	}
	der, err := asn1.Marshal(id)
	if err != nil {
		panic(err)
	}
	return tlv(0x30, string(der), tlv(tag, value))
}

func tlv(tag byte, parts ...string) string {
	content := strings.Join(parts, "")
	switch n := len(content); {
	case n < 0x80:
		return string([]byte{tag, byte(n)}) + content
	case n < 0x100:
		return string([]byte{tag, 0x81, byte(n)}) + content
	default:
		return string([]byte{tag, 0x82, byte(n >> 8), byte(n)}) + content
	}
}

// The types of strings (X.680, section 8.4).
const (
	utf8String, numeric, printable, t61, videotex, ia5        = 12, 18, 19, 20, 21, 22
	utcTime, generalTime, graphic, visible, general, wide4    = 23, 24, 25, 26, 27, 28
	wide2, octets, integer, boolean, bits, sequence, objectID = 30, 4, 2, 1, 3, 0x30, 6
)

const cn, org, unit, country = "2.5.4.3", "2.5.4.10", "2.5.4.11", "2.5.4.6"

// subjects are names to be written, in DER without the outermost sequence.
func subjects() (all []string) {
	add := func(rdns ...string) { all = append(all, strings.Join(rdns, "")) }
	one := func(oid string, tag byte, value string) string { return rdn(attribute(oid, tag, value)) }
	u := func(oid, value string) string { return one(oid, utf8String, value) }

	add()
	add(u(cn, "x"), u(org, "y"))
	add(u(org, "y"), u(cn, "x"))
	add(one(country, printable, "DE"), u("2.5.4.8", "Bayern"), u("2.5.4.7", "München"), u(org, "a"), u(unit, "b"), u(unit, "c"), u(cn, "x"))
	add(u(cn, "first"), u(cn, "second"))
	add(one("0.9.2342.19200300.100.1.25", ia5, "com"), one("0.9.2342.19200300.100.1.25", ia5, "example"), u(cn, "Users"), u(cn, "Doe, John"))
	add(rdn(attribute(cn, utf8String, "a"), attribute(org, utf8String, "b")))
	add(u(org, "z"), rdn(attribute(cn, utf8String, "a"), attribute(cn, utf8String, "b"), attribute("0.9.2342.19200300.100.1.1", utf8String, "c")), u(unit, "q"))
	add(u(org, "CN=alice"), u(cn, "mallory"))
	add(u(cn, "mallory,CN=alice"))
	add(u(cn, "mallory+CN=alice"))
	add(u(cn, "mallory\\,CN=alice"))
	// Every attribute that OpenSSL may know, and some that it does not.
	for n := range 110 {
		add(u(fmt.Sprintf("2.5.4.%d", n), "x"))
	}
	for n := range 62 {
		add(u(fmt.Sprintf("0.9.2342.19200300.100.1.%d", n), "x"))
	}
	for n := range 30 {
		add(u(fmt.Sprintf("1.2.840.113549.1.9.%d", n), "x"))
	}
	for _, oid := range []string{
		"1.3.6.1.4.1.311.60.2.1.1", "1.3.6.1.4.1.311.60.2.1.2", "1.3.6.1.4.1.311.60.2.1.3", "1.2.643.3.131.1.1", "1.2.643.100.1", "1.2.643.100.3",
		"1.2.643.100.5", "1.2.643.100.111", "1.2.643.100.112", "1.3.6.1.5.5.7.9.1", "1.3.6.1.5.5.7.9.2", "1.3.6.1.5.5.7.9.3", "1.3.6.1.5.5.7.9.4",
		"1.3.6.1.5.5.7.9.5", "1.2.3.4", "2.999.1", "1.3.6.1.4.1.99999.1.2.3", "2.5.4.3.1", "2.5.4.127", "2.5.4.128", "2.23.133.2.1",
	} {
		add(u(oid, "x"))
		add(one(oid, printable, "y"))
		add(u(oid, "#0c0178"))
	}
	// Every type of string, of a known and of an unknown attribute.
	for _, oid := range []string{cn, "1.2.3.4"} {
		for _, tag := range []byte{
			utf8String, numeric, printable, t61, videotex, ia5, utcTime, generalTime, graphic, visible, general, octets, integer, bits, sequence,
		} {
			add(one(oid, tag, "12"))
		}
		add(one(oid, boolean, "\xff"))
		add(one(oid, objectID, "\x55\x04\x03"))
		add(one(oid, wide2, "\x00a\x20\xac\x00,\x00\xe9"))
		add(one(oid, wide2, "\x00 \x00#\x00 "))
		add(one(oid, wide2, "\xd8\x3d\xde\x00"))
		add(one(oid, wide2, "\xd8\x3d"))
		add(one(oid, wide2, "a\x00b"))
		add(one(oid, wide4, "\x00\x00\x00a\x00\x01\xf6\x00"))
		add(one(oid, wide4, "\x00\x11\x00\x00"))
	}
	add(one(cn, t61, "J\xf6rg"))
	add(one(cn, ia5, "J\xf6rg"))
	add(one(cn, printable, "a@b*c"))
	add(one(cn, printable, "a&b"))
	add(one(cn, utf8String, "bad \xff"))
	// Every character alone, in front, in the middle and at the end.
	for c := range 128 {
		s := string(rune(c))
		add(u(cn, s))
		add(u(cn, s+"a"+s+"b"+s))
	}
	for _, v := range []string{
		"", " ", "  ", "   ", "#", "##", "# ", " #", "\\", "\\\\", "\"q\"", "a\r\nX-Admin: yes", "a\x00b", "é", "日本語", "😀", "a ", " a", " é ", "é#", "\u0080", "\u00a0",
		strings.Repeat("long ", 50), strings.Repeat("é", 300), "=", "a=b", "a/b", "\\,", "\\2C", "\\E9", "*(x)",
	} {
		add(u(cn, v))
		add(u(org, v), u(cn, v))
	}
	// And at random, the same in every run.
	r := mrand.New(mrand.NewPCG(1, 2))
	oids := []string{cn, cn, org, unit, country, "0.9.2342.19200300.100.1.1", "0.9.2342.19200300.100.1.25", "1.2.840.113549.1.9.1", "2.5.4.5", "1.2.3.4"}
	letters := []rune(`ab,+"\<>;=# ` + "\n\x7fé日😀")
	for range 150 {
		var rdns []string
		for range 1 + r.IntN(4) {
			var attributes []string
			for range 1 + max(0, r.IntN(5)-2) {
				var v []rune
				for range r.IntN(6) {
					v = append(v, letters[r.IntN(len(letters))])
				}
				attributes = append(attributes, attribute(oids[r.IntN(len(oids))], utf8String, string(v)))
			}
			rdns = append(rdns, rdn(attributes...))
		}
		add(rdns...)
	}
	return all
}

// TestSubjectsAsNginx: what the endpoint is told of a client's name is what nginx
// has in $ssl_client_s_dn. A certificate that Go cannot parse is refused in the
// handshake.
func TestSubjectsAsNginx(t *testing.T) {
	judge(t, "tls-clients", "nginx: the same text of the subjects and issuers of client certificates")
	ca := newAuthority(t, "judge")
	front, key := ca.issue(time.Hour, "any.test"), newKey(t)
	nginx := startNginx(t, front, map[string]string{"any.test": "ssl_verify_client optional_no_ca; ssl_client_certificate " + file(t, ca.pem()) +
		"; location = /names { return 200 '$ssl_client_s_dn\n$ssl_client_i_dn'; }"})
	e := startEdge(t, documents(
		tlsSecret("front", front), service("mirror", "", startMirror(t, nil)), secret("clients", "Opaque", "ca.crt", ca.pem()),
		ingress("any", "any.test", "mirror", "front", "auth-tls-secret", namespace+"/clients", "auth-tls-verify-client", "optional_no_ca"),
	))
	shows := func(der string) *tls.Config {
		tmpl := &x509.Certificate{
			SerialNumber: big.NewInt(1), RawSubject: []byte(tlv(0x30, der)), NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
			IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign,
		}
		raw, err := x509.CreateCertificate(rand.Reader, tmpl, tmpl, key.Public(), key)
		if err != nil {
			t.Fatal(err)
		}
		p := &tls.Certificate{Certificate: [][]byte{raw}, PrivateKey: key}
		return &tls.Config{RootCAs: ca.pool(), GetClientCertificate: func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return p, nil }}
	}
	var table strings.Builder
	of, refused := 0, 0
	for _, der := range subjects() {
		client := clientTo(nginx, shows(der))
		resp, err := client.Get("https://any.test/names")
		if err != nil || resp.StatusCode != http.StatusOK {
			client.CloseIdleConnections()
			fmt.Fprintf(&table, "%x -\n", der)
			continue // neither OpenSSL nor anybody else can read it
		}
		body, err := io.ReadAll(resp.Body)
		resp.Body.Close()
		client.CloseIdleConnections()
		want, issuer, _ := strings.Cut(string(body), "\n")
		if err != nil || issuer != want {
			t.Errorf("nginx on %x: %q, %v", der, body, err)
		}
		fmt.Fprintf(&table, "%x %s\n", der, want)
		tc := shows(der)
		raw, _ := tc.GetClientCertificate(nil)
		_, unreadable := x509.ParseCertificate(raw.Certificate[0])
		client = clientTo(e.https, tc)
		if unreadable != nil {
			if resp, err := client.Get("https://any.test/"); err == nil {
				t.Errorf("%x: %d, though the certificate cannot be read", der, resp.StatusCode)
			}
			refused++
		} else {
			want := strings.TrimRight(want, " ") // as every reader of a field does
			s := ask(t, client, "https://any.test/")
			if got := s.Header.Get("Ssl-Client-Subject-Dn"); got != want || s.Header.Get("Ssl-Client-Issuer-Dn") != want {
				t.Errorf("%x: %q, nginx says %q", der, got, want)
			}
		}
		client.CloseIdleConnections()
		of++
	}
	t.Logf("%d subjects compared, %d of them in certificates that Go does not read", of, refused)
	if *subjectsTo != "" {
		if err := os.WriteFile(*subjectsTo, []byte(table.String()), 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

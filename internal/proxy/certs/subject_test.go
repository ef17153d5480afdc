package certs

import (
	"encoding/asn1"
	"encoding/hex"
	"os"
	"strings"
	"testing"
)

// subjectTable is testdata/subjects.txt: names in DER, without their outermost
// sequence, and what nginx 1.22.1 with OpenSSL 3.0 has of them in
// $ssl_client_s_dn ("-": OpenSSL cannot read a certificate with this name). It is
// written by TestSubjectsAsNginx in test/conformance, with -subjects.
func subjectTable(t testing.TB) map[string]string {
	text, err := os.ReadFile("testdata/subjects.txt")
	if err != nil {
		t.Fatal(err)
	}
	table := map[string]string{}
	for line := range strings.Lines(string(text)) {
		in, want, ok := strings.Cut(strings.TrimSuffix(line, "\n"), " ")
		der, err := hex.DecodeString(in)
		if !ok || err != nil {
			t.Fatalf("%q: %v", line, err)
		}
		table[string(sequence(string(der)))] = want
	}
	if len(table) < 700 {
		t.Fatalf("%d subjects", len(table))
	}
	return table
}

func sequence(content string) []byte {
	der, err := asn1.Marshal(asn1.RawValue{Class: asn1.ClassUniversal, Tag: asn1.TagSequence, IsCompound: true, Bytes: []byte(content)})
	if err != nil {
		panic(err)
	}
	return der
}

func TestSubjectAsNginx(t *testing.T) {
	for der, want := range subjectTable(t) {
		got := readName([]byte(der)).text
		if want != "-" && got != want {
			t.Errorf("%x: %q, nginx says %q", der, got, want)
		}
		checkText(t, got)
	}
}

// checkText: whatever stands in a certificate, nothing in the field that tells of
// it ends a line, and no server reads it differently (RFC 9110, section 5.5).
func checkText(t testing.TB, text string) {
	t.Helper()
	if strings.ContainsFunc(text, func(r rune) bool { return r < 0x20 || r > 0x7e }) {
		t.Errorf("%q is not printable ASCII", text)
	}
}

// TestSubjectsDiffer: names that are not the same have different texts. Those in
// the table that differ in nothing but the type of their strings are the same
// (RFC 5280, section 7.1).
func TestSubjectsDiffer(t *testing.T) {
	by := map[string]string{}
	for der := range subjectTable(t) {
		text := readName([]byte(der)).text
		if other, ok := by[text]; ok && canonical(t, other) != canonical(t, der) {
			t.Errorf("%x and %x are both %q", other, der, text)
		}
		by[text] = der
	}
}

// canonical is a name with its strings told by what they say.
func canonical(t testing.TB, der string) string {
	var names []attributesSET
	if _, err := asn1.Unmarshal([]byte(der), &names); err != nil {
		t.Fatal(err)
	}
	var b strings.Builder
	for _, n := range names {
		b.WriteString("\x00\x00")
		for _, a := range n {
			value, ok := decodeString(&a.Value)
			if _, known := attributeNames[a.Type.String()]; !ok || !known {
				value = string(a.Value.FullBytes)
			}
			b.WriteString("\x00\x01" + a.Type.String() + "\x00\x02" + hex.EncodeToString([]byte(value)))
		}
	}
	return b.String()
}

// TestSubjectText has the kinds of the table in readable form.
func TestSubjectText(t *testing.T) {
	type at = [2]string
	f := func(want, name, rest string, rdns ...[]at) {
		t.Helper()
		der := nameOf(rdns...)
		got := readName(der)
		if got.text != want || got.commonName != name || got.rest != rest {
			t.Errorf("%q, of %q, from there on %q; want %q, %q, %q", got.text, got.commonName, got.rest, want, name, rest)
		}
		checkText(t, got.text)
	}
	const cn, o, dc, uid, mail = "2.5.4.3", "2.5.4.10", "0.9.2342.19200300.100.1.25", "0.9.2342.19200300.100.1.1", "1.2.840.113549.1.9.1"
	f("", "", "")
	f("O=y,CN=x", "x", "x", []at{{cn, "x"}}, []at{{o, "y"}})
	f("CN=x,O=y", "x", "x,O=y", []at{{o, "y"}}, []at{{cn, "x"}})
	f("CN=b,CN=a", "b", "b,CN=a", []at{{cn, "a"}}, []at{{cn, "b"}})
	f("UID=c+CN=b+CN=a,DC=z", "b", "b+CN=a,DC=z", []at{{dc, "z"}}, []at{{cn, "a"}, {cn, "b"}, {uid, "c"}})
	f("emailAddress=a@b", "", "", []at{{mail, "a@b"}})
	f("1.2.3.4=#0C0178", "", "", []at{{"1.2.3.4", "x"}})
	f(`CN=Doe\, John`, `Doe\, John`, `Doe\, John`, []at{{cn, "Doe, John"}})
	f(`CN=\C3\A9\, \0D\0AX: y`, `é\, \0D\0AX: y`, `\C3\A9\, \0D\0AX: y`, []at{{cn, "é, \r\nX: y"}})
	f(`CN=\ #a\ `, `\ #a\ `, `\ #a\ `, []at{{cn, " #a "}})
	f(`CN=\#a#`, `\#a#`, `\#a#`, []at{{cn, "#a#"}})
	f("O=CN=alice", "", "", []at{{o, "CN=alice"}})
	f("CN=", "", "", []at{{cn, ""}})
}

// nameOf makes a name of UTF-8 strings, in DER.
func nameOf(rdns ...[][2]string) []byte {
	var all []attributesSET
	for _, rdn := range rdns {
		var set attributesSET
		for _, a := range rdn {
			var oid asn1.ObjectIdentifier
			for arc := range strings.SplitSeq(a[0], ".") {
				n := 0
				for _, c := range arc {
					n = n*10 + int(c-'0')
				}
				oid = append(oid, n)
			}
			set = append(set, attribute{oid, asn1.RawValue{Class: asn1.ClassUniversal, Tag: asn1.TagUTF8String, Bytes: []byte(a[1])}})
		}
		all = append(all, set)
	}
	// Marshal would sort the sets, which are kept as they come.
	var content strings.Builder
	for _, set := range all {
		var attributes strings.Builder
		for _, a := range set {
			der, err := asn1.Marshal(a)
			if err != nil {
				panic(err)
			}
			attributes.Write(der)
		}
		der, err := asn1.Marshal(asn1.RawValue{Class: asn1.ClassUniversal, Tag: asn1.TagSet, IsCompound: true, Bytes: []byte(attributes.String())})
		if err != nil {
			panic(err)
		}
		content.Write(der)
	}
	return sequence(content.String())
}

// FuzzSubject: what can be read is printable, and can be told from what it is not.
func FuzzSubject(f *testing.F) {
	for der := range subjectTable(f) {
		f.Add([]byte(der), []byte(der))
	}
	f.Add(nameOf([][2]string{{"2.5.4.3", "mallory,O=x"}}), nameOf([][2]string{{"2.5.4.10", "x"}}, [][2]string{{"2.5.4.3", "mallory"}}))
	f.Fuzz(func(t *testing.T, a, b []byte) {
		x, y := readName(a), readName(b)
		checkText(t, x.text)
		if x.named != (x.rest != "" || strings.HasSuffix(x.text, "CN=")) || x.named && !strings.HasSuffix(x.text, "CN="+x.rest) {
			t.Errorf("%q: %q", x.text, x.rest)
		}
		var names []attributesSET
		for _, der := range [][]byte{a, b} {
			if rest, err := asn1.Unmarshal(der, &names); err != nil || len(rest) > 0 {
				return
			}
			for _, n := range names {
				if len(n) == 0 {
					return // no name has an empty part (RFC 5280, section 4.1.2.4)
				}
			}
		}
		if x.text == y.text && canonical(t, string(a)) != canonical(t, string(b)) {
			t.Errorf("%x and %x are both %q", a, b, x.text)
		}
	})
}

package certs

import (
	"encoding/asn1"
	"encoding/hex"
	"strings"
	"unicode/utf16"
	"unicode/utf8"
)

// attribute is one attribute of a distinguished name (RFC 5280, section 4.1.2.4).
type attribute struct {
	Type  asn1.ObjectIdentifier
	Value asn1.RawValue
}

// attributesSET is a relative distinguished name: mostly one attribute. The
// ending of the name makes it a set for encoding/asn1.
type attributesSET []attribute

// distinguishedName is a name as text.
type distinguishedName struct {
	text string
	// commonName is the value of the first common name in text, which is the most
	// specific one, escaped as in text but for letters beyond ASCII, which stay as
	// they are; rest is text from this value on. Both are empty unless named.
	commonName, rest string
	named            bool // there is a common name
}

// readName writes a name, in DER, as nginx has it in $ssl_client_s_dn: RFC 2253
// as OpenSSL writes it (XN_FLAG_RFC2253). The relative names come in reverse
// order, separated by commas, and the attributes of one in reverse order too,
// separated by "+"; nothing is left out, and all of it is printable ASCII.
//
// Different names have different texts, but for the type of string that a value
// has in them (names that differ in nothing else are the same, RFC 5280, section
// 7.1). So it departs from OpenSSL where that loses something: numbers of
// attributes are never cut, and a string that is no Unicode is written in hex.
func readName(der []byte) distinguishedName {
	var names []attributesSET
	if rest, err := asn1.Unmarshal(der, &names); err != nil || len(rest) > 0 {
		return distinguishedName{text: dumped(der)} // nor would x509 have parsed it
	}
	var n distinguishedName
	var b strings.Builder
	value := 0 // where the common name's begins
	for i := len(names) - 1; i >= 0; i-- {
		for j := len(names[i]) - 1; j >= 0; j-- {
			if b.Len() > 0 {
				if j == len(names[i])-1 {
					b.WriteByte(',')
				} else {
					b.WriteByte('+')
				}
			}
			a := &names[i][j]
			b.WriteString(a.name())
			b.WriteByte('=')
			if !n.named && a.Type.Equal(commonNameType) {
				value, n.commonName, n.named = b.Len(), a.text(false), true
			}
			b.WriteString(a.text(true))
		}
	}
	n.text = b.String()
	if n.named {
		n.rest = n.text[value:]
	}
	return n
}

var commonNameType = asn1.ObjectIdentifier{2, 5, 4, 3}

// name is the short name of the attribute, or its number.
func (a *attribute) name() string {
	number := a.Type.String()
	if n := attributeNames[number]; n != "" {
		return n
	}
	return number
}

// text writes the value; with ascii all else is escaped too, byte by byte of
// UTF-8. What is no string, and all of an unknown attribute, is its DER in hex
// (RFC 2253, section 2.4).
func (a *attribute) text(ascii bool) string {
	value, ok := decodeString(&a.Value)
	if _, known := attributeNames[a.Type.String()]; !known || !ok {
		return dumped(a.Value.FullBytes)
	}
	return escapeValue(value, ascii)
}

func dumped(der []byte) string { return "#" + strings.ToUpper(hex.EncodeToString(der)) }

// tagVisibleString and tagUniversalString have no name in encoding/asn1.
const (
	tagVisibleString   = 26
	tagUniversalString = 28
)

// decodeString gives a string of any type as UTF-8. T61 is read as Latin-1, which
// is what people put into it, and what OpenSSL and Go take it for.
func decodeString(v *asn1.RawValue) (string, bool) {
	if v.Class != asn1.ClassUniversal || v.IsCompound {
		return "", false
	}
	b := v.Bytes
	switch v.Tag {
	case asn1.TagUTF8String:
		return string(b), utf8.Valid(b)
	case asn1.TagPrintableString, asn1.TagIA5String, asn1.TagT61String, asn1.TagNumericString,
		asn1.TagUTCTime, asn1.TagGeneralizedTime, tagVisibleString:
		runes := make([]rune, len(b))
		for i, c := range b {
			runes[i] = rune(c)
		}
		return string(runes), true
	case asn1.TagBMPString:
		return decodeWide(b, 2)
	case tagUniversalString:
		return decodeWide(b, 4)
	}
	return "", false
}

// decodeWide reads characters of a fixed width. Surrogates are no characters.
func decodeWide(b []byte, width int) (string, bool) {
	if len(b)%width != 0 {
		return "", false
	}
	runes := make([]rune, 0, len(b)/width)
	for ; len(b) > 0; b = b[width:] {
		var r uint32
		for _, c := range b[:width] {
			r = r<<8 | uint32(c)
		}
		if r > utf8.MaxRune || utf16.IsSurrogate(rune(r)) {
			return "", false
		}
		runes = append(runes, rune(r))
	}
	return string(runes), true
}

const hexDigits = "0123456789ABCDEF"

// escapeValue escapes as OpenSSL does with ASN1_STRFLGS_RFC2253: special
// characters, a space or "#" in front and a space at the end with a backslash,
// control characters in hex. The "#" of a value that is nothing else stays: it
// cannot be read as hex, which has two digits at least.
func escapeValue(value string, ascii bool) string {
	var b strings.Builder
	for i := range len(value) {
		c := value[i]
		last := i == len(value)-1
		switch {
		case c < 0x20 || c == 0x7f || c >= 0x80 && ascii:
			b.WriteByte('\\')
			b.WriteByte(hexDigits[c>>4])
			b.WriteByte(hexDigits[c&15])
			continue
		case strings.IndexByte(`,+"\<>;`, c) >= 0, c == ' ' && (i == 0 || last), c == '#' && i == 0 && !last:
			b.WriteByte('\\')
		}
		b.WriteByte(c)
	}
	return b.String()
}

package accesslog

import (
	"bytes"
	"crypto/tls"
	"net/netip"
	"strconv"
	"time"
)

// scratch is where one line is rendered before it is copied to the buffer.
type scratch struct {
	line []byte
	// The date and time of second, rendered: most lines share it with the one
	// before. Every Logger has one format, so one rendering is enough.
	second int64
	stamp  []byte
}

const (
	jsonStamp     = "2006-01-02T15:04:05"
	combinedStamp = "02/Jan/2006:15:04:05"
)

func (s *scratch) timestamp(t time.Time, layout string) []byte {
	if unix := t.Unix(); unix != s.second || len(s.stamp) == 0 {
		s.second = unix
		s.stamp = t.UTC().AppendFormat(s.stamp[:0], layout)
	}
	return s.stamp
}

func (s *scratch) render(f Format, e *Entry) {
	s.line = s.line[:0]
	if f == JSON {
		s.renderJSON(e)
	} else {
		s.renderCombined(e)
	}
}

// renderJSON writes the keys always in the same order. time, status,
// duration_seconds, bytes_in and bytes_out are always there.
func (s *scratch) renderJSON(e *Entry) {
	b := append(s.line, `{"time":"`...)
	b = append(b, s.timestamp(e.Start, jsonStamp)...)
	b = append(b, '.')
	b = appendPadded(b, uint32(e.Start.Nanosecond()/1000))
	b = append(b, 'Z', '"')
	b = appendText(b, `,"request_id":"`, e.RequestID)
	b = appendAddr(b, `,"client":"`, e.Client.Addr())
	b = appendNumber(b, `,"client_port":`, int64(e.Client.Port()))
	if e.Peer != e.Client {
		b = appendAddr(b, `,"peer":"`, e.Peer.Addr())
		b = appendNumber(b, `,"peer_port":`, int64(e.Peer.Port()))
	}
	b = appendText(b, `,"user":"`, e.User)
	b = appendText(b, `,"method":"`, e.Method)
	b = appendText(b, `,"scheme":"`, e.Scheme)
	b = appendText(b, `,"host":"`, e.Host)
	b = appendText(b, `,"target":"`, e.Target)
	b = appendText(b, `,"protocol":"`, e.Protocol)
	b = append(b, `,"status":`...)
	b = strconv.AppendInt(b, int64(e.Status), 10)
	b = appendText(b, `,"reason":"`, e.Reason)
	b = appendText(b, `,"detail":"`, e.Detail)
	b = append(b, `,"duration_seconds":`...)
	b = appendSeconds(b, e.Duration)
	b = append(b, `,"bytes_in":`...)
	b = strconv.AppendInt(b, e.BytesIn, 10)
	b = append(b, `,"bytes_out":`...)
	b = strconv.AppendInt(b, e.BytesOut, 10)
	b = appendText(b, `,"referer":"`, e.Referer)
	b = appendText(b, `,"user_agent":"`, e.UserAgent)
	b = appendText(b, `,"route":"`, e.Route)
	b = appendText(b, `,"namespace":"`, e.Namespace)
	b = appendText(b, `,"ingress":"`, e.Ingress)
	b = appendText(b, `,"service":"`, e.Service)
	b = appendNumber(b, `,"service_port":`, int64(e.ServicePort))
	b = appendUpstream(b, e)
	b = appendTLS(b, e)
	s.line = append(b, '}', '\n')
}

func appendUpstream(b []byte, e *Entry) []byte {
	if e.Endpoint.IsValid() {
		b = append(b, `,"endpoint":"`...)
		b = netip.AddrPortFrom(printable(e.Endpoint.Addr()), e.Endpoint.Port()).AppendTo(b)
		b = append(b, '"')
	}
	b = appendNumber(b, `,"upstream_status":`, int64(e.UpstreamStatus))
	if e.UpstreamDuration > 0 {
		b = append(b, `,"upstream_duration_seconds":`...)
		b = appendSeconds(b, e.UpstreamDuration)
	}
	return appendNumber(b, `,"attempts":`, int64(e.Attempts))
}

func appendTLS(b []byte, e *Entry) []byte {
	if e.TLSVersion == 0 {
		return appendText(b, `,"server_name":"`, e.ServerName) // passed through
	}
	b = append(b, `,"tls_version":"`...)
	b = appendNameOrHex(b, versionName(e.TLSVersion), e.TLSVersion)
	b = append(b, `","tls_cipher":"`...)
	b = appendNameOrHex(b, cipherName(e.TLSCipher), e.TLSCipher)
	b = append(b, '"')
	return appendText(b, `,"server_name":"`, e.ServerName)
}

// renderCombined writes
// $remote_addr - $remote_user [$time_local] "$request" $status $body_bytes_sent "$http_referer" "$http_user_agent"
// with the time in UTC.
func (s *scratch) renderCombined(e *Entry) {
	b := s.line
	if a := e.Client.Addr(); a.IsValid() {
		b = printable(a).AppendTo(b)
	} else {
		b = append(b, '-')
	}
	b = append(b, " - "...)
	b = appendUser(b, e.User)
	b = append(b, " ["...)
	b = append(b, s.timestamp(e.Start, combinedStamp)...)
	b = append(b, ` +0000] "`...)
	if len(e.Method) == 0 {
		b = append(b, '-')
	} else {
		b = appendEscapedCombined(b, e.Method)
		b = append(b, ' ')
		b = appendEscapedCombined(b, e.Target)
		if len(e.Protocol) > 0 {
			b = append(b, ' ')
			b = appendEscapedCombined(b, e.Protocol)
		}
	}
	b = append(b, '"', ' ')
	b = strconv.AppendInt(b, int64(e.Status), 10)
	b = append(b, ' ')
	b = strconv.AppendInt(b, e.BytesOut, 10)
	b = append(b, ' ', '"')
	b = appendOrDash(b, e.Referer)
	b = append(b, `" "`...)
	b = appendOrDash(b, e.UserAgent)
	s.line = append(b, '"', '\n')
}

// appendUser escapes spaces as well: the field has no quotes around it, and a
// name with a space would shift all that follow.
func appendUser(b, user []byte) []byte {
	if len(user) == 0 {
		return append(b, '-')
	}
	for {
		i := bytes.IndexByte(user, ' ')
		if i < 0 {
			return appendEscapedCombined(b, user)
		}
		b = appendEscapedCombined(b, user[:i])
		b = append(b, `\x20`...)
		user = user[i+1:]
	}
}

func appendOrDash(b, s []byte) []byte {
	if len(s) == 0 {
		return append(b, '-')
	}
	return appendEscapedCombined(b, s)
}

func appendText[T text](b []byte, key string, s T) []byte {
	if len(s) == 0 {
		return b
	}
	b = append(b, key...)
	b = appendEscapedJSON(b, s)
	return append(b, '"')
}

func appendNumber(b []byte, key string, n int64) []byte {
	if n == 0 {
		return b
	}
	b = append(b, key...)
	return strconv.AppendInt(b, n, 10)
}

func appendAddr(b []byte, key string, a netip.Addr) []byte {
	if !a.IsValid() {
		return b
	}
	b = append(b, key...)
	b = printable(a).AppendTo(b)
	return append(b, '"')
}

// printable drops the zone, which may hold any byte a client has put into a
// forwarding header.
func printable(a netip.Addr) netip.Addr { return a.Unmap().WithZone("") }

// appendSeconds writes seconds with six decimals; negative ones are zero.
func appendSeconds(b []byte, d time.Duration) []byte {
	us := uint64(max(d, 0).Microseconds())
	b = strconv.AppendUint(b, us/1e6, 10)
	b = append(b, '.')
	return appendPadded(b, uint32(us%1e6))
}

// appendPadded writes exactly six digits.
func appendPadded(b []byte, n uint32) []byte {
	return append(b, byte('0'+n/100000), byte('0'+n/10000%10), byte('0'+n/1000%10),
		byte('0'+n/100%10), byte('0'+n/10%10), byte('0'+n%10))
}

func appendNameOrHex(b []byte, name string, n uint16) []byte {
	if name != "" {
		return append(b, name...)
	}
	return append(b, '0', 'x', lowerHex[n>>12], lowerHex[n>>8&15], lowerHex[n>>4&15], lowerHex[n&15])
}

// versionName is as nginx and OpenSSL write it.
func versionName(v uint16) string {
	switch v {
	case tls.VersionTLS10:
		return "TLSv1"
	case tls.VersionTLS11:
		return "TLSv1.1"
	case tls.VersionTLS12:
		return "TLSv1.2"
	case tls.VersionTLS13:
		return "TLSv1.3"
	}
	return ""
}

// cipherName knows the suites that crypto/tls offers unasked.
// tls.CipherSuiteName allocates.
func cipherName(c uint16) string {
	switch c {
	case tls.TLS_AES_128_GCM_SHA256:
		return "TLS_AES_128_GCM_SHA256"
	case tls.TLS_AES_256_GCM_SHA384:
		return "TLS_AES_256_GCM_SHA384"
	case tls.TLS_CHACHA20_POLY1305_SHA256:
		return "TLS_CHACHA20_POLY1305_SHA256"
	case tls.TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256:
		return "TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256"
	case tls.TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384:
		return "TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384"
	case tls.TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256:
		return "TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256"
	case tls.TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384:
		return "TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384"
	case tls.TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256:
		return "TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256"
	case tls.TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256:
		return "TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256"
	case tls.TLS_ECDHE_RSA_WITH_AES_128_CBC_SHA:
		return "TLS_ECDHE_RSA_WITH_AES_128_CBC_SHA"
	case tls.TLS_ECDHE_RSA_WITH_AES_256_CBC_SHA:
		return "TLS_ECDHE_RSA_WITH_AES_256_CBC_SHA"
	case tls.TLS_ECDHE_ECDSA_WITH_AES_128_CBC_SHA:
		return "TLS_ECDHE_ECDSA_WITH_AES_128_CBC_SHA"
	case tls.TLS_ECDHE_ECDSA_WITH_AES_256_CBC_SHA:
		return "TLS_ECDHE_ECDSA_WITH_AES_256_CBC_SHA"
	}
	return ""
}

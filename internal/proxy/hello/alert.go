package hello

import "errors"

// Alert is a TLS alert description (RFC 8446 section 6).
type Alert uint8

// The alerts that answer a hello.
const (
	AlertUnexpectedMessage Alert = 10
	AlertRecordOverflow    Alert = 22
	AlertIllegalParameter  Alert = 47
	AlertDecodeError       Alert = 50
	AlertProtocolVersion   Alert = 70
	AlertInternalError     Alert = 80 // for names that cannot be served now
)

// AlertFor is the alert that tells a client of an error of Parse. ok is false
// where the peer does not speak TLS and would not know what an alert is.
func AlertFor(err error) (a Alert, ok bool) {
	for _, c := range [...]struct {
		err   error
		alert Alert
	}{
		{ErrSSLv2, AlertProtocolVersion},
		{ErrUnexpected, AlertUnexpectedMessage},
		{ErrTooLarge, AlertRecordOverflow},
		{ErrMalformed, AlertDecodeError},
		{ErrName, AlertIllegalParameter},
	} {
		if errors.Is(err, c.err) {
			return c.alert, true
		}
	}
	return 0, false
}

// AppendAlert appends the record of a fatal alert in cleartext: the whole
// answer to a hello, after which the connection is closed.
func AppendAlert(dst []byte, a Alert) []byte {
	// Version 0x0301, as before any version is agreed (RFC 8446 appendix D).
	return append(dst, 21, 3, 1, 0, 2, 2, byte(a))
}

// Begins tells at the first bytes of a connection whether they can begin a TLS
// record: ErrHTTP or ErrNotTLS if not. Other records than a handshake's are left
// to whoever reads them.
func Begins(b []byte) error {
	if err := checkRecord(b); err == ErrHTTP || err == ErrNotTLS {
		return err
	}
	return nil
}

// LooksLikeTLS reports whether the first bytes of a connection are those of a
// TLS handshake: a record of that type (RFC 8446 section 5.1), and of a version
// whose first byte has been 3 since SSL 3.
func LooksLikeTLS(b []byte) bool {
	return len(b) > 0 && b[0] == 22 && (len(b) == 1 || b[1] == 3)
}

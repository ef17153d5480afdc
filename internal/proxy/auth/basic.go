// Package auth checks who sends a request: HTTP Basic authentication (RFC
// 7617) against the users of an htpasswd file.
//
// It takes the parsed users and the value of an Authorization header,
// and gives the user's name or the reason to refuse. It fails closed: what it
// cannot read, decide or afford is never Granted. It does no I/O, starts no
// goroutines, writes no logs and keeps no password: what is remembered of one
// is a hash under a key that dies with the process.
//
// Answers do not tell whether a user exists. An unknown user is checked
// against a decoy that costs as much as one of the file's own hashes; which
// one is derived from name and file, so that in a file of several kinds an
// unknown user looks like any known one, try after try.
//
// Slow hashes cannot take the data plane down: what was verified once is
// remembered, the same check is never done twice at the same time, few run at
// once, and whoever waits too long or among too many is told Overloaded.
package auth

import (
	"bytes"
	"context"
	"encoding/base64"
	"strings"
	"unicode/utf8"

	"gatehouse.dev/gatehouse/internal/htpasswd"
)

// Bounds of what a client may send, in bytes.
const (
	MaxUser     = htpasswd.MaxName
	MaxPassword = htpasswd.MaxPassword

	maxCredentials = MaxUser + 1 + MaxPassword
)

// Outcome is what a check comes to. Only Granted lets a request pass.
type Outcome uint8

// The outcomes. Overloaded is answered with 503, all others but Granted with
// 401 and the Challenge.
const (
	Refused    Outcome = iota // unknown user or wrong password
	Missing                   // no Authorization header of scheme Basic
	Malformed                 // not the credentials of RFC 7617, or too long
	Overloaded                // too many checks at once, or the context ended
	Granted
)

// String is the outcome for the access log.
func (o Outcome) String() string {
	return [...]string{"Refused", "Missing", "Malformed", "Overloaded", "Granted"}[o]
}

// Basic guards with one set of users under one realm. It is safe for
// concurrent use.
type Basic struct {
	users     *Users
	cache     *Cache
	challenge string
}

// NewBasic guards with users. Without any (nil) everyone is Refused. cache is
// shared by all guards, and outlives them: what it knows holds as long as a
// user's line stays the same.
func NewBasic(users *Users, realm string, cache *Cache) *Basic {
	if users == nil {
		users = &Users{}
	}
	return &Basic{users: users, cache: cache, challenge: challenge(realm)}
}

// Challenge is the value of WWW-Authenticate (RFC 7617 section 2).
func (b *Basic) Challenge() string { return b.challenge }

// challenge quotes the realm (RFC 9110 section 5.6.4). What cannot stand in a
// header field becomes a space.
func challenge(realm string) string {
	var q strings.Builder
	q.WriteString(`Basic realm="`)
	for _, r := range realm {
		switch {
		case r == '"' || r == '\\':
			q.WriteByte('\\')
			q.WriteRune(r)
		case r < ' ' || r == 0x7f || r == utf8.RuneError:
			q.WriteByte(' ')
		default:
			q.WriteRune(r)
		}
	}
	q.WriteString(`", charset="UTF-8"`)
	return q.String()
}

// Check looks at the value of an Authorization header: empty when there is
// none. A request with more than one has no defined meaning and must not come
// here. user is set with Granted only, and is the file's own string.
//
// A check that is remembered takes less than a microsecond and neither locks
// nor allocates; {SHA}, {SSHA} and {PLAIN} take as little every time. Any other
// waits for its turn as long as ctx allows, 10 s at most, and then takes what
// the hash takes, at most a second or two.
func (b *Basic) Check(ctx context.Context, authorization []byte) (user string, o Outcome) {
	token, ok := basicToken(authorization)
	if !ok {
		return "", Missing
	}
	// The credentials are decoded to where they are hashed from.
	var m message
	n, ok := decode(m.credentials(), token)
	if !ok {
		return "", Malformed
	}
	credentials := m.credentials()[:n]
	name, password, ok := split(credentials)
	if !ok {
		return "", Malformed
	}
	e, known := b.users.lookup(name)
	if e == nil {
		return "", Refused
	}
	if e.kind.fast {
		if e.hash.MatchesPassword(string(password)) && known {
			return e.name, Granted
		}
		return "", Refused
	}
	d := b.cache.digest(&m, e.id, n)
	if known && b.cache.granted.has(d) {
		return e.name, Granted
	}
	if b.cache.refused.has(d) {
		return "", Refused
	}
	return b.cache.verify(ctx, b.users, e, known, d, string(password))
}

// basicToken is what follows the scheme, whose case does not matter.
func basicToken(authorization []byte) (token []byte, ok bool) {
	scheme, rest, ok := bytes.Cut(authorization, []byte(" "))
	if !ok || !asciiEqualFold(scheme, "basic") {
		return nil, false
	}
	return bytes.TrimLeft(rest, " "), true
}

// asciiEqualFold compares with low, which is in lower case. bytes.EqualFold
// would fold letters beyond ASCII too, such as the long s in "baſic".
func asciiEqualFold(b []byte, low string) bool {
	if len(b) != len(low) {
		return false
	}
	for i, c := range b {
		if c >= 'A' && c <= 'Z' {
			c += 'a' - 'A'
		}
		if c != low[i] {
			return false
		}
	}
	return true
}

// decode undoes base64, strictly: the one canonical form, padded.
func decode(dst, token []byte) (n int, ok bool) {
	if len(token) == 0 || len(token) > base64.StdEncoding.EncodedLen(maxCredentials) {
		return 0, false
	}
	// The decoder would skip line ends.
	if bytes.IndexByte(token, '\n') >= 0 || bytes.IndexByte(token, '\r') >= 0 {
		return 0, false
	}
	n, err := base64.StdEncoding.Strict().Decode(dst, token)
	return n, err == nil
}

// split cuts credentials at the first colon: a user's name has none.
func split(credentials []byte) (name, password []byte, ok bool) {
	for _, c := range credentials {
		if c < ' ' || c == 0x7f { // RFC 7617 section 2
			return nil, nil, false
		}
	}
	i := bytes.IndexByte(credentials, ':')
	if i < 0 || i > MaxUser || len(credentials)-i-1 > MaxPassword {
		return nil, nil, false
	}
	return credentials[:i], credentials[i+1:], true
}

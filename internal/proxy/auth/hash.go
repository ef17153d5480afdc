package auth

import (
	"crypto/sha256"
	"crypto/subtle"

	gohtpasswd "github.com/tg123/go-htpasswd"
	"golang.org/x/crypto/argon2"

	"gatehouse.dev/gatehouse/internal/htpasswd"
)

// hash is a stored hash. go-htpasswd's types have this method too.
type hash interface {
	// MatchesPassword compares in a time that does not depend on how much of
	// the password is right.
	MatchesPassword(password string) bool
}

// kind is a function with its cost. Two of the same kind take the same time.
type kind struct {
	fast  bool // less than a microsecond or so: not worth remembering
	model string
}

// decoy is a hash of this kind that nobody has the password of.
func (k kind) decoy() hash { return compile(htpasswd.Decoy(k.model)) }

// compile makes of a stored hash what checks passwords. What was parsed can be
// compiled: FuzzNewUsers holds the two against each other.
func compile(h htpasswd.Hash) hash {
	stored := string(h.Stored)
	var accept gohtpasswd.PasswdParser
	switch h.Scheme {
	case htpasswd.Bcrypt:
		accept = gohtpasswd.AcceptBcrypt
	case htpasswd.MD5Crypt:
		accept = gohtpasswd.AcceptMd5
	case htpasswd.SHACrypt:
		accept = gohtpasswd.AcceptCryptSha
	case htpasswd.SHA1:
		accept = gohtpasswd.AcceptSha
	case htpasswd.SaltedSHA1:
		accept = gohtpasswd.AcceptSsha
	case htpasswd.Argon2:
		return argon2Hash(h.Argon2)
	case htpasswd.Plain:
		return plain(sha256.Sum256([]byte(stored[len(htpasswd.Plain):])))
	default:
		panic("BUG: a hash of the scheme " + string(h.Scheme))
	}
	compiled, err := accept(stored)
	if err != nil || compiled == nil { // the error shows the hash
		panic("BUG: a hash that was parsed, but cannot be compiled, of the scheme " + string(h.Scheme))
	}
	return compiled
}

type argon2Hash htpasswd.Argon2Hash

func (h argon2Hash) MatchesPassword(password string) bool {
	derive := argon2.Key
	if h.Mixed {
		derive = argon2.IDKey
	}
	sum := derive([]byte(password), h.Salt, h.Passes, h.Memory, h.Lanes, uint32(len(h.Sum)))
	return subtle.ConstantTimeCompare(sum, h.Sum) == 1
}

// plain is the hash of a password that the file holds in cleartext: hashed so
// that comparing tells nothing of its length either.
type plain [sha256.Size]byte

func (p plain) MatchesPassword(password string) bool {
	sum := sha256.Sum256([]byte(password))
	return subtle.ConstantTimeCompare(sum[:], p[:]) == 1
}

package auth

import (
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/tg123/go-htpasswd"
)

// Bounds of what one check may cost: a second or two at the most. Whoever
// writes a Secret of one namespace must not be able to stop the door of all.
const (
	MaxBcryptCost = 14
	MaxSHARounds  = 1_000_000 // Ansible's and passlib's default is 656000
	// MaxArgon2Memory is in KiB. MaxArgon2Work is memory times passes.
	MaxArgon2Memory = 64 << 10
	MaxArgon2Work   = 16 * MaxArgon2Memory
	MaxArgon2Lanes  = 16
)

// hash is a stored hash. go-htpasswd's types have this method too.
type hash interface {
	// MatchesPassword compares in a time that does not depend on how much of
	// the password is right.
	MatchesPassword(password string) bool
}

// kind is a function with its cost. Two of the same kind take the same time.
type kind struct {
	fast   bool // less than a microsecond or so: not worth remembering
	model  string
	advice string
}

// decoy is a hash of this kind that nobody has the password of.
func (k kind) decoy() hash {
	h, _, err := parseHash(k.model)
	if err != nil {
		panic("BUG: a decoy that cannot be read: " + k.model)
	}
	return h
}

// remedy is how to make a line that works.
const remedy = "make the line anew with htpasswd -nB NAME"

func malformed(name string) error {
	return errors.New("malformed " + name + " hash: " + remedy)
}

// cryptAlphabet is that of crypt(3)'s base 64.
const cryptAlphabet = "./0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"

func only(s, alphabet string) bool { return strings.Trim(s, alphabet) == "" }

// parseHash reads a stored hash. It is stricter than go-htpasswd, which takes
// what begins right and may fail, or take for ever, at the first login.
// Errors do not show the hash.
func parseHash(stored string) (hash, kind, error) {
	switch {
	case strings.HasPrefix(stored, "$2"):
		return parseBcrypt(stored)
	case strings.HasPrefix(stored, htpasswd.PrefixCryptApr1):
		return parseMD5(stored, htpasswd.PrefixCryptApr1)
	case strings.HasPrefix(stored, htpasswd.PrefixCryptMd5):
		return parseMD5(stored, htpasswd.PrefixCryptMd5)
	case strings.HasPrefix(stored, htpasswd.PrefixCryptSha256):
		return parseSHACrypt(stored, htpasswd.PrefixCryptSha256, 43)
	case strings.HasPrefix(stored, htpasswd.PrefixCryptSha512):
		return parseSHACrypt(stored, htpasswd.PrefixCryptSha512, 86)
	case strings.HasPrefix(stored, "$argon2"):
		return parseArgon2(stored)
	case strings.HasPrefix(stored, "{SHA}"), strings.HasPrefix(stored, "{SSHA}"):
		return parseSHA1(stored)
	case strings.HasPrefix(stored, plainPrefix):
		return plain(sha256.Sum256([]byte(stored[len(plainPrefix):]))), kind{fast: true, model: plainPrefix,
			advice: "the password is kept in cleartext: " + remedy}, nil
	}
	return nil, kind{}, unsupported(stored)
}

// unsupported says what a hash that is not read may be.
func unsupported(stored string) error {
	what := "not a hash that is known here"
	switch {
	case stored == "":
		what = "no hash after the colon"
	case strings.HasPrefix(stored, "$y$"), strings.HasPrefix(stored, "$gy$"):
		what = "yescrypt is not supported"
	case strings.HasPrefix(stored, "$7$"):
		what = "scrypt is not supported"
	case len(stored) == 13 && only(stored, cryptAlphabet):
		what = "DES crypt is not supported: it looks at 8 characters only and is broken in minutes"
	}
	return errors.New(what + ": " + remedy)
}

// parseBcrypt reads $2y$COST$ and 22 characters of salt and 31 of hash.
func parseBcrypt(stored string) (hash, kind, error) {
	if len(stored) != 60 || stored[3] != '$' || stored[6] != '$' || !only(stored[7:], cryptAlphabet) {
		return nil, kind{}, malformed("bcrypt")
	}
	if c := stored[2]; c != 'a' && c != 'b' && c != 'y' {
		return nil, kind{}, fmt.Errorf("bcrypt variant %q is not supported: %s", stored[:4], remedy)
	}
	cost, err := strconv.Atoi(stored[4:6])
	if err != nil || !only(stored[4:6], "0123456789") || cost < 4 {
		return nil, kind{}, malformed("bcrypt")
	}
	if cost > MaxBcryptCost {
		return nil, kind{}, fmt.Errorf("bcrypt cost %d is above %d, and one login would take seconds: make the line anew with htpasswd -nB -C 12 NAME", cost, MaxBcryptCost)
	}
	h, err := htpasswd.AcceptBcrypt(stored)
	if err != nil || h == nil {
		return nil, kind{}, malformed("bcrypt")
	}
	return h, kind{model: "$2y$" + stored[4:7] + strings.Repeat(".", 53)}, nil
}

// parseMD5 reads $apr1$SALT$ and 22 characters of hash. Both forms cost 1000
// rounds.
func parseMD5(stored, prefix string) (hash, kind, error) {
	salt, sum, ok := strings.Cut(stored[len(prefix):], "$")
	if !ok || len(salt) == 0 || len(salt) > 8 || len(sum) != 22 || !only(sum, cryptAlphabet) {
		return nil, kind{}, malformed("MD5-crypt")
	}
	h, err := htpasswd.AcceptMd5(stored)
	if err != nil || h == nil {
		return nil, kind{}, malformed("MD5-crypt")
	}
	return h, kind{model: prefix + strings.Repeat(".", len(salt)) + "$" + strings.Repeat(".", 22)}, nil
}

// parseSHACrypt reads $6$SALT$ or $6$rounds=N$SALT$ and n characters of hash.
func parseSHACrypt(stored, prefix string, n int) (hash, kind, error) {
	rest, rounds := stored[len(prefix):], ""
	if strings.HasPrefix(rest, "rounds=") {
		number, after, ok := strings.Cut(rest[len("rounds="):], "$")
		count, err := strconv.Atoi(number)
		if !ok || err != nil || strconv.Itoa(count) != number || count < 1000 {
			return nil, kind{}, malformed("SHA-crypt")
		}
		if count > MaxSHARounds {
			return nil, kind{}, fmt.Errorf("%d rounds of SHA-crypt are above %d, and one login would take seconds: %s", count, MaxSHARounds, remedy)
		}
		rest, rounds = after, "rounds="+number+"$"
	}
	salt, sum, ok := strings.Cut(rest, "$")
	if !ok || len(salt) == 0 || len(salt) > 16 || strings.HasPrefix(salt, "rounds=") || len(sum) != n || !only(sum, cryptAlphabet) {
		return nil, kind{}, malformed("SHA-crypt")
	}
	h, err := htpasswd.AcceptCryptSha(stored)
	if err != nil || h == nil {
		return nil, kind{}, malformed("SHA-crypt")
	}
	return h, kind{model: prefix + rounds + strings.Repeat(".", len(salt)) + "$" + strings.Repeat(".", n)}, nil
}

// parseSHA1 reads {SHA} and {SSHA}, in base 64 as LDAP writes them.
func parseSHA1(stored string) (hash, kind, error) {
	prefix, accept := "{SHA}", htpasswd.AcceptSha
	if !strings.HasPrefix(stored, prefix) {
		prefix, accept = "{SSHA}", htpasswd.AcceptSsha
	}
	raw, err := base64.StdEncoding.Strict().DecodeString(stored[len(prefix):])
	if err != nil || len(raw) > 128 || strings.ContainsAny(stored, "\r\n") {
		return nil, kind{}, malformed(prefix)
	}
	h, err := accept(stored)
	if err != nil || h == nil {
		return nil, kind{}, malformed(prefix)
	}
	return h, kind{fast: true, model: prefix + base64.StdEncoding.EncodeToString(make([]byte, len(raw))),
		advice: prefix + " is a fast hash, of which billions are tried in a second when the file leaks: " + remedy}, nil
}

const plainPrefix = "{PLAIN}"

// plain is the hash of a password that the file holds in cleartext: hashed so
// that comparing tells nothing of its length either.
type plain [sha256.Size]byte

func (p plain) MatchesPassword(password string) bool {
	sum := sha256.Sum256([]byte(password))
	return subtle.ConstantTimeCompare(sum[:], p[:]) == 1
}

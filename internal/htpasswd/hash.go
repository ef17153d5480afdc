package htpasswd

import (
	"crypto/sha1"
	"encoding/base64"
	"fmt"
	"strconv"
	"strings"

	"gatehouse.dev/gatehouse/internal/ir"
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

// Scheme is a way to store a password.
type Scheme string

// The schemes.
const (
	Bcrypt     Scheme = "bcrypt"
	MD5Crypt   Scheme = "MD5-crypt"
	SHACrypt   Scheme = "SHA-crypt"
	Argon2     Scheme = "argon2"
	SHA1       Scheme = "{SHA}"
	SaltedSHA1 Scheme = "{SSHA}"
	Plain      Scheme = "{PLAIN}"
)

// Fast reports whether a check takes less than a microsecond or so.
func (s Scheme) Fast() bool { return s == SHA1 || s == SaltedSHA1 || s == Plain }

// weakness says what is bad about a scheme; empty: nothing.
func (s Scheme) weakness() string {
	switch {
	case s == Plain:
		return "the password is kept in cleartext"
	case s.Fast():
		return string(s) + " is a fast hash, of which billions are tried in a second when the file leaks"
	}
	return ""
}

// Hash is a stored hash that can be checked, at a cost within the bounds.
type Hash struct {
	Scheme Scheme
	Stored ir.Secret // as in the file, with its prefix
	// Model is a stored hash of the same function and cost, which nobody has
	// the password of. It tells nothing of the hash but how it is made.
	Model  string
	Argon2 Argon2Hash // of the Scheme Argon2
}

// Decoy reads the Model of a Hash.
func Decoy(model string) Hash {
	h, f := parseHash(model)
	if f != nil {
		panic("BUG: a decoy that cannot be read: " + model)
	}
	return h
}

// remake is how to make a hash that works.
const remake = "make the hash anew with htpasswd -nB NAME"

func malformed(s Scheme) *fault { return &fault{"malformed " + string(s) + " hash", remake} }

// cryptAlphabet is that of crypt(3)'s base 64.
const cryptAlphabet = "./0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"

func only(s, alphabet string) bool { return strings.Trim(s, alphabet) == "" }

// parseHash reads a stored hash.
func parseHash(stored string) (Hash, *fault) {
	switch {
	case strings.ContainsFunc(stored, isControl):
		return Hash{}, &fault{"the hash has a control character", remake}
	case strings.HasPrefix(stored, "$2"):
		return parseBcrypt(stored)
	case strings.HasPrefix(stored, "$apr1$"):
		return parseMD5(stored, "$apr1$")
	case strings.HasPrefix(stored, "$1$"):
		return parseMD5(stored, "$1$")
	case strings.HasPrefix(stored, "$5$"):
		return parseSHACrypt(stored, "$5$", 43)
	case strings.HasPrefix(stored, "$6$"):
		return parseSHACrypt(stored, "$6$", 86)
	case strings.HasPrefix(stored, "$argon2"):
		return parseArgon2(stored)
	case strings.HasPrefix(stored, string(SHA1)):
		return parseSHA1(stored, SHA1)
	case strings.HasPrefix(stored, string(SaltedSHA1)):
		return parseSHA1(stored, SaltedSHA1)
	case strings.HasPrefix(stored, string(Plain)):
		return parsePlain(stored)
	}
	return Hash{}, unsupported(stored)
}

// unsupported says what a hash that is not read may be.
func unsupported(stored string) *fault {
	what := "not a hash that is known here"
	switch {
	case stored == "":
		what = "no hash"
	case strings.HasPrefix(stored, "$y$"), strings.HasPrefix(stored, "$gy$"):
		what = "yescrypt is not supported"
	case strings.HasPrefix(stored, "$7$"):
		what = "scrypt is not supported"
	case len(stored) == 13 && only(stored, cryptAlphabet):
		what = "DES crypt is not supported: it looks at 8 characters only and is broken in minutes"
	}
	return &fault{what, remake}
}

// parseBcrypt reads $2y$COST$ and 22 characters of salt and 31 of hash.
func parseBcrypt(stored string) (Hash, *fault) {
	if len(stored) != 60 || stored[3] != '$' || stored[6] != '$' || !only(stored[7:], cryptAlphabet) {
		return Hash{}, malformed(Bcrypt)
	}
	if c := stored[2]; c != 'a' && c != 'b' && c != 'y' {
		return Hash{}, &fault{fmt.Sprintf("bcrypt variant %q is not supported", stored[:4]), remake}
	}
	cost, err := strconv.Atoi(stored[4:6])
	if err != nil || !only(stored[4:6], "0123456789") || cost < 4 {
		return Hash{}, malformed(Bcrypt)
	}
	if cost > MaxBcryptCost {
		return Hash{}, &fault{fmt.Sprintf("bcrypt cost %d is above %d, and one login would take seconds", cost, MaxBcryptCost),
			"make the hash anew with htpasswd -nB -C 12 NAME"}
	}
	return Hash{Scheme: Bcrypt, Stored: ir.Secret(stored), Model: "$2y$" + stored[4:7] + strings.Repeat(".", 53)}, nil
}

// parseMD5 reads $apr1$SALT$ and 22 characters of hash. Both forms cost 1000
// rounds.
func parseMD5(stored, prefix string) (Hash, *fault) {
	salt, sum, ok := strings.Cut(stored[len(prefix):], "$")
	if !ok || len(salt) == 0 || len(salt) > 8 || len(sum) != 22 || !only(sum, cryptAlphabet) {
		return Hash{}, malformed(MD5Crypt)
	}
	return Hash{Scheme: MD5Crypt, Stored: ir.Secret(stored),
		Model: prefix + strings.Repeat(".", len(salt)) + "$" + strings.Repeat(".", 22)}, nil
}

// parseSHACrypt reads $6$SALT$ or $6$rounds=N$SALT$ and n characters of hash.
func parseSHACrypt(stored, prefix string, n int) (Hash, *fault) {
	rest, rounds := stored[len(prefix):], ""
	if strings.HasPrefix(rest, "rounds=") {
		number, after, ok := strings.Cut(rest[len("rounds="):], "$")
		count, err := strconv.Atoi(number)
		if !ok || err != nil || strconv.Itoa(count) != number || count < 1000 {
			return Hash{}, malformed(SHACrypt)
		}
		if count > MaxSHARounds {
			return Hash{}, &fault{fmt.Sprintf("%d rounds of SHA-crypt are above %d, and one login would take seconds", count, MaxSHARounds), remake}
		}
		rest, rounds = after, "rounds="+number+"$"
	}
	salt, sum, ok := strings.Cut(rest, "$")
	if !ok || len(salt) == 0 || len(salt) > 16 || strings.HasPrefix(salt, "rounds=") || len(sum) != n || !only(sum, cryptAlphabet) {
		return Hash{}, malformed(SHACrypt)
	}
	return Hash{Scheme: SHACrypt, Stored: ir.Secret(stored),
		Model: prefix + rounds + strings.Repeat(".", len(salt)) + "$" + strings.Repeat(".", n)}, nil
}

// parseSHA1 reads {SHA} and {SSHA}, in base 64 as LDAP writes them: the hash,
// and behind it the salt.
func parseSHA1(stored string, s Scheme) (Hash, *fault) {
	raw, err := base64.StdEncoding.Strict().DecodeString(stored[len(s):])
	if err != nil || len(raw) < sha1.Size || s == SHA1 && len(raw) > sha1.Size || len(raw) > 128 {
		return Hash{}, malformed(s)
	}
	return Hash{Scheme: s, Stored: ir.Secret(stored), Model: string(s) + base64.StdEncoding.EncodeToString(make([]byte, len(raw)))}, nil
}

// parsePlain reads {PLAIN}PASSWORD.
func parsePlain(stored string) (Hash, *fault) {
	password := stored[len(Plain):]
	switch {
	case password == "":
		return Hash{}, &fault{"the password is empty", remake}
	case len(password) > MaxPassword:
		return Hash{}, &fault{fmt.Sprintf("the password is longer than %d bytes, which no client may send", MaxPassword), remake}
	}
	return Hash{Scheme: Plain, Stored: ir.Secret(stored), Model: string(Plain) + "."}, nil
}

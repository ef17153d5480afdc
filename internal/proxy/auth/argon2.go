package auth

import (
	"crypto/subtle"
	"encoding/base64"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"golang.org/x/crypto/argon2"
)

// argon2Hash is a stored hash of argon2 (RFC 9106), version 19.
type argon2Hash struct {
	mixed        bool // argon2id; otherwise argon2i
	memory       uint32
	passes       uint32
	lanes        uint8
	salt, stored []byte
}

func (h *argon2Hash) MatchesPassword(password string) bool {
	derive := argon2.Key
	if h.mixed {
		derive = argon2.IDKey
	}
	sum := derive([]byte(password), h.salt, h.passes, h.memory, h.lanes, uint32(len(h.stored)))
	return subtle.ConstantTimeCompare(sum, h.stored) == 1
}

// parseArgon2 reads the form that the argon2 tool and most libraries write:
// $argon2id$v=19$m=65536,t=3,p=4$SALT$HASH, in base 64 without padding.
func parseArgon2(stored string) (hash, kind, error) {
	f := strings.Split(stored, "$") // f[0] is empty
	if len(f) != 6 {
		return nil, kind{}, malformed("argon2")
	}
	if f[1] != "argon2id" && f[1] != "argon2i" {
		return nil, kind{}, errors.New("of argon2 only argon2id and argon2i are supported: " + remedy)
	}
	if f[2] != "v=19" {
		return nil, kind{}, errors.New("of argon2 only version 19 is supported: " + remedy)
	}
	h := &argon2Hash{mixed: f[1] == "argon2id"}
	if !h.parseCost(f[3]) {
		return nil, kind{}, malformed("argon2")
	}
	b64 := base64.RawStdEncoding.Strict()
	var err1, err2 error
	h.salt, err1 = b64.DecodeString(f[4])
	h.stored, err2 = b64.DecodeString(f[5])
	if err1 != nil || err2 != nil || strings.ContainsAny(stored, "\r\n") ||
		len(h.salt) < 8 || len(h.salt) > 64 || len(h.stored) < 16 || len(h.stored) > 64 {
		return nil, kind{}, malformed("argon2")
	}
	if h.memory > MaxArgon2Memory || h.passes > MaxArgon2Work/h.memory || h.lanes > MaxArgon2Lanes {
		return nil, kind{}, fmt.Errorf("argon2 with %s costs more than is allowed (m %d KiB, t times m %d KiB, p %d): make the hash anew with m=19456,t=2,p=1",
			f[3], MaxArgon2Memory, MaxArgon2Work, MaxArgon2Lanes)
	}
	zero := func(b []byte) string { return b64.EncodeToString(make([]byte, len(b))) }
	return h, kind{model: "$" + f[1] + "$v=19$" + f[3] + "$" + zero(h.salt) + "$" + zero(h.stored)}, nil
}

// parseCost reads "m=65536,t=3,p=4", within what RFC 9106 section 3.1 allows.
func (h *argon2Hash) parseCost(s string) bool {
	var v [3]uint64
	fields := strings.Split(s, ",")
	if len(fields) != len(v) {
		return false
	}
	for i, name := range [...]string{"m=", "t=", "p="} {
		number, ok := strings.CutPrefix(fields[i], name)
		n, err := strconv.ParseUint(number, 10, 32)
		if !ok || err != nil || strconv.FormatUint(n, 10) != number || n == 0 {
			return false
		}
		v[i] = n
	}
	if v[2] > 255 || v[0] < 8*v[2] {
		return false
	}
	h.memory, h.passes, h.lanes = uint32(v[0]), uint32(v[1]), uint8(v[2])
	return true
}

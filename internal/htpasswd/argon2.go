package htpasswd

import (
	"encoding/base64"
	"fmt"
	"strconv"
	"strings"

	"gatehouse.dev/gatehouse/internal/ir"
)

// Argon2Hash is a stored hash of argon2 (RFC 9106), version 19, in its parts.
type Argon2Hash struct {
	Mixed  bool // argon2id; otherwise argon2i
	Memory uint32
	Passes uint32
	Lanes  uint8
	Salt   []byte
	Sum    ir.Secret
}

// parseArgon2 reads the form that the argon2 tool and most libraries write:
// $argon2id$v=19$m=65536,t=3,p=4$SALT$HASH, in base 64 without padding.
func parseArgon2(stored string) (Hash, *fault) {
	f := strings.Split(stored, "$") // f[0] is empty
	if len(f) != 6 {
		return Hash{}, malformed(Argon2)
	}
	if f[1] != "argon2id" && f[1] != "argon2i" {
		return Hash{}, &fault{"of argon2 only argon2id and argon2i are supported", remake}
	}
	if f[2] != "v=19" {
		return Hash{}, &fault{"of argon2 only version 19 is supported", remake}
	}
	h := Argon2Hash{Mixed: f[1] == "argon2id"}
	if !h.parseCost(f[3]) {
		return Hash{}, malformed(Argon2)
	}
	b64 := base64.RawStdEncoding.Strict()
	var err1, err2 error
	h.Salt, err1 = b64.DecodeString(f[4])
	h.Sum, err2 = b64.DecodeString(f[5])
	if err1 != nil || err2 != nil || len(h.Salt) < 8 || len(h.Salt) > 64 ||
		len(h.Sum) < 16 || len(h.Sum) > 64 {
		return Hash{}, malformed(Argon2)
	}
	if h.Memory > MaxArgon2Memory || h.Passes > MaxArgon2Work/h.Memory || h.Lanes > MaxArgon2Lanes {
		return Hash{}, &fault{fmt.Sprintf("argon2 with %s costs more than is allowed (m %d KiB, t times m %d KiB, p %d)",
			f[3], MaxArgon2Memory, MaxArgon2Work, MaxArgon2Lanes), "make the hash anew with m=19456,t=2,p=1"}
	}
	zero := func(b []byte) string { return b64.EncodeToString(make([]byte, len(b))) }
	return Hash{Scheme: Argon2, Stored: ir.Secret(stored), Argon2: h,
		Model: "$" + f[1] + "$v=19$" + f[3] + "$" + zero(h.Salt) + "$" + zero(h.Sum)}, nil
}

// parseCost reads "m=65536,t=3,p=4", within what RFC 9106 section 3.1 allows.
func (h *Argon2Hash) parseCost(s string) bool {
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
	h.Memory, h.Passes, h.Lanes = uint32(v[0]), uint32(v[1]), uint8(v[2])
	return true
}

package ir

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
)

// NewCertificateID is the ID of the chain (PEM, leaf first) with its key (PEM):
// 32 hexadecimal digits of a SHA-256 over both. The same bytes give the same ID
// wherever they come from, so that a parsed certificate is kept as long as its
// content stays. It does not show the key.
func NewCertificateID(chain, key []byte) CertificateID {
	h := sha256.New()
	// The length keeps a byte that moves from chain to key from giving the
	// same ID.
	var n [8]byte
	binary.BigEndian.PutUint64(n[:], uint64(len(chain)))
	h.Write(n[:])
	h.Write(chain)
	h.Write(key)
	return CertificateID(hex.EncodeToString(h.Sum(nil))[:32])
}

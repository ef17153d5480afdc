package proxyproto

import (
	"encoding/binary"
	"hash/crc32"
	"net/netip"
)

const (
	signature = "\r\n\r\n\x00\r\nQUIT\n"
	fixedV2   = 16 // signature, version and command, family, length
)

// Families and transports of section 2.2, in one byte.
const (
	tcp4 = 0x11
	tcp6 = 0x21
)

// parseV2 reads the binary header (section 2.2).
func parseV2(buf []byte) (h Header, n int, need bool, err error) {
	k := min(len(buf), len(signature))
	if string(buf[:k]) != signature[:k] {
		return Header{}, 0, false, ErrMissing
	}
	if len(buf) > 12 && (buf[12]>>4 != 2 || buf[12]&15 > 1) {
		return Header{}, 0, false, ErrMalformed
	}
	if len(buf) < fixedV2 {
		return Header{}, 0, true, nil
	}
	n = fixedV2 + int(binary.BigEndian.Uint16(buf[14:]))
	if n > MaxV2 {
		return Header{}, 0, false, ErrTooLong
	}
	if len(buf) < n {
		return Header{}, 0, true, nil
	}
	h = Header{Version: 2, Command: Command(buf[12] & 15)}
	if h.Command == Local {
		return h, n, false, nil // the block is discarded, with its family
	}
	block := buf[fixedV2:n:n]
	skip, ok := h.parseAddresses(buf[13], block)
	if !ok {
		return Header{}, 0, false, ErrMalformed
	}
	if err := checkTLVs(buf[:n], fixedV2+skip); err != nil {
		return Header{}, 0, false, err
	}
	return h, n, false, nil
}

// parseAddresses reads the addresses at the beginning of block and gives their
// length.
func (h *Header) parseAddresses(family byte, block []byte) (skip int, ok bool) {
	if family>>4 > 3 || family&15 > 2 {
		return 0, false
	}
	if family>>4 == 0 || family&15 == 0 {
		return len(block), true // UNSPEC: what the block holds is not defined
	}
	skip = [...]int{1: 12, 2: 36, 3: 216}[family>>4]
	if len(block) < skip {
		return 0, false
	}
	var src, dst netip.Addr
	switch family {
	case tcp4:
		src, dst = netip.AddrFrom4([4]byte(block)), netip.AddrFrom4([4]byte(block[4:]))
	case tcp6:
		src, dst = netip.AddrFrom16([16]byte(block)).Unmap(), netip.AddrFrom16([16]byte(block[16:])).Unmap()
	default:
		// Datagrams and UNIX sockets cannot be what this TCP connection
		// relays: taken as UNSPEC, as the specification asks.
		return skip, true
	}
	ports := block[skip-4:]
	h.Source = netip.AddrPortFrom(src, binary.BigEndian.Uint16(ports))
	h.Destination = netip.AddrPortFrom(dst, binary.BigEndian.Uint16(ports[2:]))
	return skip, true
}

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// Types of TLV (section 2.2).
const (
	typeALPN      byte = 0x01
	typeAuthority byte = 0x02
	typeCRC32C    byte = 0x03
	typeUniqueID  byte = 0x05
	typeSSL       byte = 0x20
	typeNetNS     byte = 0x30
)

// checkTLVs looks at the TLVs, which begin at from: none may reach beyond the
// header, those that say one thing come once, and a checksum is right. Types that
// are not known are skipped, and what the others say is not used.
func checkTLVs(header []byte, from int) error {
	seen := uint64(0)
	for b := header[from:]; len(b) > 0; {
		if len(b) < 3 {
			return ErrMalformed
		}
		n := 3 + int(b[1])<<8 + int(b[2])
		if n > len(b) {
			return ErrMalformed
		}
		switch typ := b[0]; typ {
		case typeALPN, typeAuthority, typeCRC32C, typeUniqueID, typeSSL, typeNetNS:
			if seen&(1<<typ) != 0 {
				return ErrMalformed // two answers to one question
			}
			seen |= 1 << typ
			if typ == typeCRC32C {
				if n != 3+4 {
					return ErrMalformed
				}
				if checksum(header, len(header)-len(b)+3) != binary.BigEndian.Uint32(b[3:]) {
					return ErrChecksum
				}
			}
			if typ == typeUniqueID && n > 3+128 || typ == typeSSL && n < 3+5 {
				return ErrMalformed
			}
		}
		b = b[n:]
	}
	return nil
}

// checksum is the CRC32C of header with zeros in place of the four bytes at
// (section 2.2.3). It leaves header, which is the caller's, as it is.
func checksum(header []byte, at int) uint32 {
	var zeros [4]byte
	c := crc32.Update(0, castagnoli, header[:at])
	c = crc32.Update(c, castagnoli, zeros[:])
	return crc32.Update(c, castagnoli, header[at+4:])
}

// AppendV2 appends h as a version 2 header without TLVs, 16 to 52 bytes: what
// an earlier hop put into TLVs is not repeated in our name. Local is said with
// no addresses, and so is Proxy (family UNSPEC) where h does not tell both.
// Addresses of different families are both written as IPv6.
func AppendV2(dst []byte, h Header) []byte {
	dst = append(dst, signature...)
	dst = append(dst, 0x20|byte(h.Command&1))
	if !h.relayed() {
		return append(dst, 0, 0, 0)
	}
	src, to, four := h.addresses()
	if four {
		a, b := src.As4(), to.As4()
		dst = append(dst, tcp4, 0, 12)
		dst = append(append(dst, a[:]...), b[:]...)
	} else {
		a, b := src.As16(), to.As16()
		dst = append(dst, tcp6, 0, 36)
		dst = append(append(dst, a[:]...), b[:]...)
	}
	dst = binary.BigEndian.AppendUint16(dst, h.Source.Port())
	return binary.BigEndian.AppendUint16(dst, h.Destination.Port())
}

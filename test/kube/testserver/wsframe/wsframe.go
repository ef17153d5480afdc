// Package wsframe reads and writes WebSocket frames (RFC 6455 section 5), for
// a server and for clients that must see every frame and the end of the
// connection as they are. It knows nothing of extensions, and puts no fragments
// together.
package wsframe

import (
	"bufio"
	"crypto/sha1"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
)

// Opcodes of RFC 6455 section 11.8.
const (
	Continuation = 0x0
	Text         = 0x1
	Binary       = 0x2
	Close        = 0x8
	Ping         = 0x9
	Pong         = 0xa
)

// Status codes of RFC 6455 section 7.4.1.
const (
	StatusNormal    = 1000
	StatusGoingAway = 1001
	StatusNone      = 1005 // the Close frame had no code; never sent
	StatusRestart   = 1012 // IANA's registry
)

// MaxPayload is the size of the largest frame that Read takes, in bytes.
const MaxPayload = 1 << 20

// Frame is one frame, unmasked.
type Frame struct {
	Fin     bool
	Opcode  byte
	Payload []byte
}

// CloseFrame is the frame that ends a connection.
func CloseFrame(code int, reason string) Frame {
	payload := binary.BigEndian.AppendUint16(nil, uint16(code))
	return Frame{Fin: true, Opcode: Close, Payload: append(payload, reason...)}
}

// CloseStatus is the code and the reason of a Close frame.
func (f Frame) CloseStatus() (code int, reason string) {
	if len(f.Payload) < 2 {
		return StatusNone, ""
	}
	return int(binary.BigEndian.Uint16(f.Payload)), string(f.Payload[2:])
}

// Append appends f as it goes over the wire; clients must mask.
func Append(to []byte, f Frame, masked bool) []byte {
	first, mask := f.Opcode, byte(0)
	if f.Fin {
		first |= 0x80
	}
	if masked {
		mask = 0x80
	}
	switch n := len(f.Payload); {
	case n < 126:
		to = append(to, first, mask|byte(n))
	case n < 1<<16:
		to = binary.BigEndian.AppendUint16(append(to, first, mask|126), uint16(n))
	default:
		to = binary.BigEndian.AppendUint64(append(to, first, mask|127), uint64(n))
	}
	if !masked {
		return append(to, f.Payload...)
	}
	var key [4]byte
	binary.LittleEndian.PutUint32(key[:], rand.Uint32())
	to = append(to, key[:]...)
	start := len(to)
	to = append(to, f.Payload...)
	xor(to[start:], key)
	return to
}

// Read reads one frame, which must be masked or not as said. At a clean end
// between two frames the error is io.EOF, within one io.ErrUnexpectedEOF.
func Read(r *bufio.Reader, masked bool) (Frame, error) {
	var head [2]byte
	if _, err := io.ReadFull(r, head[:]); err != nil {
		return Frame{}, err
	}
	f := Frame{Fin: head[0]&0x80 != 0, Opcode: head[0] & 0x0f}
	if head[0]&0x70 != 0 {
		return f, fmt.Errorf("reserved bits in a frame: %#x", head[0])
	}
	if (head[1]&0x80 != 0) != masked {
		return f, errors.New("the frame is masked and must not be, or the other way round")
	}
	size := uint64(head[1] & 0x7f)
	extended := 0
	switch size {
	case 126:
		extended = 2
	case 127:
		extended = 8
	}
	if f.Opcode >= Close && (extended > 0 || !f.Fin) {
		return f, errors.New("a control frame is too long or in fragments")
	}
	if extended > 0 {
		var b [8]byte
		if err := full(r, b[8-extended:]); err != nil {
			return f, err
		}
		size = binary.BigEndian.Uint64(b[:])
	}
	if size > MaxPayload {
		return f, fmt.Errorf("a frame of %d bytes", size)
	}
	var key [4]byte
	if masked {
		if err := full(r, key[:]); err != nil {
			return f, err
		}
	}
	f.Payload = make([]byte, size)
	if err := full(r, f.Payload); err != nil {
		return f, err
	}
	if masked {
		xor(f.Payload, key)
	}
	return f, nil
}

// Accept is the Sec-WebSocket-Accept that answers a Sec-WebSocket-Key
// (RFC 6455 section 4.2.2).
func Accept(key string) string {
	sum := sha1.Sum([]byte(key + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"))
	return base64.StdEncoding.EncodeToString(sum[:])
}

// full reads all of b; the frame has begun, so an end is unexpected.
func full(r io.Reader, b []byte) error {
	_, err := io.ReadFull(r, b)
	if err == io.EOF {
		err = io.ErrUnexpectedEOF
	}
	return err
}

func xor(b []byte, key [4]byte) {
	for i := range b {
		b[i] ^= key[i%4]
	}
}

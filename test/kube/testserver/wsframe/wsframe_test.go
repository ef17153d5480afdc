package wsframe

import (
	"bufio"
	"bytes"
	"io"
	"strings"
	"testing"
)

func TestFrames(t *testing.T) {
	for _, masked := range []bool{true, false} {
		var wire []byte
		sizes := []int{0, 1, 125, 126, 1<<16 - 1, 1 << 16, MaxPayload}
		for _, n := range sizes {
			wire = Append(wire, Frame{Fin: n%2 == 0, Opcode: Binary, Payload: bytes.Repeat([]byte{7}, n)}, masked)
		}
		r := bufio.NewReader(bytes.NewReader(wire))
		for _, n := range sizes {
			f, err := Read(r, masked)
			if err != nil || f.Fin != (n%2 == 0) || f.Opcode != Binary || !bytes.Equal(f.Payload, bytes.Repeat([]byte{7}, n)) {
				t.Fatalf("masked %v, size %d: %v, %d bytes", masked, n, err, len(f.Payload))
			}
		}
		if _, err := Read(r, masked); err != io.EOF {
			t.Errorf("the end is %v", err)
		}
		if _, err := Read(bufio.NewReader(bytes.NewReader(wire[:len(wire)-1])), !masked); err == nil {
			t.Error("wrong masking is taken")
		}
	}
}

// TestExample is that of RFC 6455 sections 1.3 and 5.7.
func TestExample(t *testing.T) {
	if got := Accept("dGhlIHNhbXBsZSBub25jZQ=="); got != "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=" {
		t.Errorf("Accept is %s", got)
	}
	f, err := Read(bufio.NewReader(strings.NewReader("\x81\x85\x37\xfa\x21\x3d\x7f\x9f\x4d\x51\x58")), true)
	if err != nil || f.Opcode != Text || string(f.Payload) != "Hello" {
		t.Errorf("%+v, %v", f, err)
	}
}

func TestRefused(t *testing.T) {
	for _, wire := range []string{"\xc1\x00", "\x08\x00", "\x89\x7e\x00\x00", "\x82\x7f\x00\x00\x00\x01\x00\x00\x00\x00"} {
		if _, err := Read(bufio.NewReader(strings.NewReader(wire)), false); err == nil || err == io.EOF {
			t.Errorf("%q: error is %v", wire, err)
		}
	}
	for n := 1; n < 8; n++ {
		wire := Append(nil, Frame{Fin: true, Opcode: Text, Payload: []byte("ab")}, true)[:n]
		if _, err := Read(bufio.NewReader(bytes.NewReader(wire)), true); err != io.ErrUnexpectedEOF {
			t.Errorf("%d bytes of a frame: %v", n, err)
		}
	}
}

func TestClose(t *testing.T) {
	if code, reason := CloseFrame(StatusGoingAway, "bye").CloseStatus(); code != 1001 || reason != "bye" {
		t.Errorf("%d %q", code, reason)
	}
	if code, _ := (Frame{Opcode: Close}).CloseStatus(); code != StatusNone {
		t.Errorf("no code is %d", code)
	}
}

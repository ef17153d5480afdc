package match

import (
	"bytes"
	"math/bits"
)

// maxReadings bounds the work that one path can cause, in bytes.
const maxReadings = 64 << 10

// Ambiguous reports whether a server that reads the path differently than
// Canonical would find it under another Route: then what guards the one could
// be passed by way of the other, and the answer is 400 AmbiguousPath. It is
// false for a path that is not Suspicious.
//
// The readings are all combinations of: %2F decoded; %5C decoded; a backslash
// taken for a slash; parameters (";...") dropped from each segment, before and
// after decoding; repeated slashes merged, before or after dot segments are
// removed. A reading that climbs above the root is ambiguous in itself. They
// start from Forward, as that is what an upstream sees: dot segments that are
// removed already cannot mislead it. A path of which there would be more than
// 64 KiB of readings is refused as well: with everything odd in it, that is one
// of 2 KiB.
func (p *Paths) Ambiguous(path Path) bool {
	if !path.Suspicious() {
		return false
	}
	size := len(path.Forward)
	possible := readingsOf(path)
	if size<<bits.OnesCount8(uint8(possible)) > maxReadings {
		return true
	}
	chosen := p.Lookup(path.Canonical)
	var stack [1024]byte
	buf := stack[:]
	if 2*size > len(buf) {
		buf = make([]byte, 2*size)
	}
	decoded, resolved := buf[:size:size], buf[size:2*size]
	for r := reading(0); r <= possible; r++ {
		if r&^possible != 0 {
			continue
		}
		copy(decoded, path.Forward)
		b := r.apply(decoded)
		for m := mergeNever; m <= mergeLast; m++ {
			if m != mergeNever && !bytes.Contains(b, []byte("//")) {
				break
			}
			c, ok := m.apply(resolved[:copy(resolved, b)])
			if !ok || p.Lookup(c) != chosen {
				return true
			}
		}
	}
	return false
}

// reading is a set of liberties that a server takes with a path.
type reading uint8

// In the order in which they are taken.
const (
	paramsFirst      reading = 1 << iota // drop parameters
	decodeSlash                          // decode %2F
	decodeBackslash                      // decode %5C
	backslashIsSlash                     // take '\' for '/'
	paramsLast                           // drop parameters, also those behind a decoded ';'
)

// readingsOf is the set of those that could change the path.
func readingsOf(path Path) reading {
	var r reading
	if path.Semicolon {
		r |= paramsFirst | paramsLast
	}
	if path.EscapedSlash {
		r |= decodeSlash
	}
	if path.Backslash {
		r |= decodeBackslash | backslashIsSlash
	}
	return r
}

// apply decodes b as the server does, in place: no liberty makes a path longer.
func (r reading) apply(b []byte) []byte {
	if r&paramsFirst != 0 {
		b = dropParams(b)
	}
	b = appendDecoded(b[:0], b, r)
	if r&backslashIsSlash != 0 {
		for i, c := range b {
			if c == '\\' {
				b[i] = '/'
			}
		}
	}
	if r&paramsLast != 0 {
		b = dropParams(b)
	}
	return b
}

// mergeOrder is when a server merges repeated slashes.
type mergeOrder uint8

const (
	mergeNever mergeOrder = iota
	mergeFirst            // before dot segments are removed
	mergeLast             // after
)

// apply removes dot segments from the decoded path, in place; ok is false if
// it climbs above the root.
func (m mergeOrder) apply(b []byte) (_ []byte, ok bool) {
	if m == mergeFirst {
		b = mergeSlashes(b)
	}
	b, err := appendWithoutDots(b[:0], b, plainDots)
	if err != nil {
		return nil, false
	}
	if m == mergeLast {
		b = mergeSlashes(b)
	}
	return b, true
}

func dropParams(b []byte) []byte {
	out := b[:0]
	in := false // inside of parameters
	for _, c := range b {
		in = c == ';' || in && c != '/'
		if !in {
			out = append(out, c)
		}
	}
	return out
}

func mergeSlashes(b []byte) []byte {
	out := b[:0]
	last := byte(0)
	for _, c := range b {
		if c != '/' || last != '/' {
			out = append(out, c)
		}
		last = c
	}
	return out
}

package match

import (
	"bytes"
	"hash/maphash"
	"math/bits"
	"slices"
	"strings"
)

// maxReadings bounds the bytes of all readings of one path, and maxWork what is
// spent on expressions for one request, in steps of each for each byte. A step
// takes 2 to 20 ns.
const (
	maxReadings = 64 << 10
	maxWork     = 16 << 20
	slowWork    = 1 << 20 // counts as slow
)

// Choice is what a path selects.
type Choice struct {
	// Index among the matches, or -1.
	Index int
	// Ambiguous: a server that reads the path differently than Canonical would
	// find it under a Route with another Guard, or to find out costs too much.
	// The answer is 400 AmbiguousPath, and the Index means nothing.
	Ambiguous bool
	// Slow: the expressions of the host cost some milliseconds, whatever came of
	// it.
	Slow bool
}

// Choose selects by a path. The literal reading counts, which is Canonical, as in
// nginx; but what guards one Route must not be passed by way of another that is
// guarded otherwise. A path that selects no Route, or one that sends nothing
// to an endpoint, is not ambiguous: nobody is there to misread it.
//
// The readings are all combinations of: %2F decoded; %5C decoded; a backslash
// taken for a slash; parameters (";...") dropped from each segment, before and
// after decoding; repeated slashes merged, before or after dot segments are
// removed. A reading that climbs above the root is ambiguous in itself. They
// start from Forward, as that is what an upstream sees: dot segments that are
// removed already cannot mislead it. A path of which there would be more than
// 64 KiB of readings is refused as well: with everything odd in it, that is one
// of 2 KiB. Readings that come to the same are looked up once.
func (p *Paths) Choose(path *Path) Choice {
	work := maxWork
	c := Choice{Index: p.lookup(path.Canonical, &work)}
	if work >= 0 && path.Suspicious() && (p.guards != nil || bytes.Contains(path.Canonical, []byte(".."))) {
		c.Ambiguous = p.ambiguous(path, c.Index, &work)
	}
	c.Ambiguous = c.Ambiguous || work < 0
	c.Slow = work < maxWork-slowWork
	return c
}

// Ambiguous is Choose for those who want to know nothing else.
func (p *Paths) Ambiguous(path Path) bool { return p.Choose(&path).Ambiguous }

func (p *Paths) ambiguous(path *Path, chosen int, work *int) bool {
	size := len(path.Forward)
	possible := readingsOf(path)
	if size<<bits.OnesCount8(uint8(possible)) > maxReadings {
		return true
	}
	var stack [1024]byte
	buf := stack[:]
	if 2*size > len(buf) {
		buf = make([]byte, 2*size)
	}
	decoded, resolved := buf[:size:size], buf[size:2*size]
	var seen [96]uint64 // as many as there can be
	looked := append(seen[:0], maphash.Bytes(p.seed, path.Canonical))
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
			if !ok {
				return true
			}
			h := maphash.Bytes(p.seed, c)
			if slices.Contains(looked, h) || !p.guarded(chosen) {
				continue
			}
			looked = append(looked, h)
			if p.crosses(c, p.guards[chosen].Class, work) || *work < 0 {
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
func readingsOf(path *Path) reading {
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

// Reach says whether requests can select by the value of a match.
type Reach int

// The values of Reach.
const (
	Reached       Reach = iota
	NeverAsked          // no request has such a canonical path
	AlwaysRefused       // requests for it are Ambiguous
)

// Odd reports whether the value of an Exact or Element match has something in it
// on account of which Reaches may give anything but Reached.
func Odd(value string) bool {
	return strings.ContainsAny(value, `;\%`) || strings.Contains(value, "//") || strings.Contains(value, "/.")
}

// Reaches says what becomes of requests for the value of an Exact or Element match.
func (p *Paths) Reaches(value string) Reach {
	if !Odd(value) {
		return Reached
	}
	path, err := Canonicalize(spell(value), nil)
	switch {
	case err != nil || string(path.Canonical) != foldKept(value):
		return NeverAsked
	case p.Choose(&path).Ambiguous:
		return AlwaysRefused
	}
	return Reached
}

// spell writes a canonical path as a request may.
func spell(value string) []byte {
	value = foldKept(value)
	var b []byte
	for i := range len(value) {
		c := value[i]
		kept := strings.HasPrefix(value[i:], "%2F") || strings.HasPrefix(value[i:], "%5C")
		if pathClass[c] == refusedByte || c == '%' && !kept {
			b = append(b, '%', hexDigits[c>>4], hexDigits[c&15])
			continue
		}
		b = append(b, c)
	}
	return b
}

const hexDigits = "0123456789ABCDEF"

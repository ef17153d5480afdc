package stats

import "sync/atomic"

// Method is a request method out of a fixed set, since clients may send any.
type Method uint8

// The methods of RFC 9110 and PATCH (RFC 5789); all else is MethodOther.
const (
	MethodOther Method = iota
	MethodGet
	MethodHead
	MethodPost
	MethodPut
	MethodPatch
	MethodDelete
	MethodOptions
	MethodConnect
	MethodTrace
)

// ParseMethod returns the Method of the bytes, which are case-sensitive.
func ParseMethod(b []byte) Method {
	switch string(b) {
	case "GET":
		return MethodGet
	case "HEAD":
		return MethodHead
	case "POST":
		return MethodPost
	case "PUT":
		return MethodPut
	case "PATCH":
		return MethodPatch
	case "DELETE":
		return MethodDelete
	case "OPTIONS":
		return MethodOptions
	case "CONNECT":
		return MethodConnect
	case "TRACE":
		return MethodTrace
	default:
		return MethodOther
	}
}

// String is the method's name, "OTHER" for MethodOther.
func (m Method) String() string {
	switch m {
	case MethodGet:
		return "GET"
	case MethodHead:
		return "HEAD"
	case MethodPost:
		return "POST"
	case MethodPut:
		return "PUT"
	case MethodPatch:
		return "PATCH"
	case MethodDelete:
		return "DELETE"
	case MethodOptions:
		return "OPTIONS"
	case MethodConnect:
		return "CONNECT"
	case MethodTrace:
		return "TRACE"
	default:
		return "OTHER"
	}
}

const (
	blockSize = 8
	maxBlocks = 8
)

// codes counts pairs of method and status: a list without locks that only
// grows, in the order in which pairs are first seen, so that what a route
// mostly does is near its head. An endpoint can answer with any status, hence
// the cap: further pairs are counted together.
type codes struct {
	first codeBlock
	other atomic.Uint64
}

type codeBlock struct {
	keys   [blockSize]atomic.Uint32 // 0: free, and so are all after it
	counts [blockSize]atomic.Uint64
	next   atomic.Pointer[codeBlock]
}

// codeKey is never 0.
func codeKey(m Method, status int) uint32 {
	if status < 0 || status > 999 {
		status = 0
	}
	return 1<<31 | uint32(m)<<16 | uint32(status)
}

func (c *codes) add(m Method, status int) {
	key := codeKey(m, status)
	block := &c.first
	for n := 1; ; n++ {
		for i := range block.keys {
			k := block.keys[i].Load()
			if k == 0 {
				k = claim(&block.keys[i], key)
			}
			if k == key {
				block.counts[i].Add(1)
				return
			}
		}
		if n == maxBlocks {
			c.other.Add(1)
			return
		}
		next := block.next.Load()
		if next == nil {
			block.next.CompareAndSwap(nil, new(codeBlock))
			next = block.next.Load()
		}
		block = next
	}
}

// claim takes a slot that was free a moment ago and returns the key it holds
// then: another may have been first, perhaps with the same key.
func claim(slot *atomic.Uint32, key uint32) uint32 {
	slot.CompareAndSwap(0, key)
	return slot.Load()
}

// CodeCount is how many requests with a method got a status.
type CodeCount struct {
	Method Method
	Status int // 0: no answer was sent, or not a status of three digits
	// Overflow: all pairs beyond the 64 that are told apart; Method and Status
	// mean nothing.
	Overflow bool
	Count    uint64
}

func (c *codes) read() []CodeCount {
	var out []CodeCount
	for block := &c.first; block != nil; block = block.next.Load() {
		for i := range block.keys {
			// A key without a count was taken a moment ago.
			if k, n := block.keys[i].Load(), block.counts[i].Load(); k != 0 && n > 0 {
				out = append(out, CodeCount{Method: Method(k >> 16 & 0xff), Status: int(k & 0xffff), Count: n})
			}
		}
	}
	if n := c.other.Load(); n > 0 {
		out = append(out, CodeCount{Overflow: true, Count: n})
	}
	return out
}

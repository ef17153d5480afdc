package http1

// KeepAlive is what a server says of its connection with the field Keep-Alive (RFC
// 2068, section 19.7.1.1; Node.js and Apache send it). Negative: it does not say.
type KeepAlive struct {
	Timeout int // seconds without a request after which it closes, rounded down
	Max     int // requests that it takes on the connection after this one
}

// noKeepAlive says nothing.
var noKeepAlive = KeepAlive{Timeout: -1, Max: -1}

// maxKeepAlive bounds the numbers, which differ in nothing beyond.
const maxKeepAlive = 1 << 30

// read takes in a value such as "timeout=5, max=100". Of what is said twice the
// smaller counts, and what cannot be read says nothing.
func (k *KeepAlive) read(value []byte) {
	for len(value) > 0 {
		var e []byte
		e, value = nextElement(value)
		eq := 0
		for eq < len(e) && e[eq] != '=' {
			eq++
		}
		if eq == len(e) {
			continue
		}
		switch name := trimSpace(e[:eq]); {
		case equalFold("timeout", name):
			lower(&k.Timeout, trimSpace(e[eq+1:]))
		case equalFold("max", name):
			lower(&k.Max, trimSpace(e[eq+1:]))
		}
	}
}

func lower(n *int, digits []byte) {
	v := 0
	for _, c := range digits {
		if c < '0' || c > '9' {
			return
		}
		v = min(v*10+int(c-'0'), maxKeepAlive)
	}
	if len(digits) > 0 && (*n < 0 || v < *n) {
		*n = v
	}
}

package http1

import (
	"strings"
	"testing"
)

// The grammar is that of RFC 2068, section 19.7.1.1: parameters in a list. What Node.js
// 22 ("timeout=5") and Apache 2.4 ("timeout=5, max=100") send must be understood.
func TestKeepAlive(t *testing.T) {
	f := func(fields string, timeout, most int) {
		t.Helper()
		var r Response
		in := "HTTP/1.1 200 OK\r\n" + fields + "Content-Length: 0\r\n\r\n"
		for range 2 { // nothing is left of the response before
			if err := r.Parse([]byte(in), 10, false); err != nil {
				t.Fatalf("%q: %v", fields, err)
			}
		}
		if r.KeepAlive != (KeepAlive{timeout, most}) {
			t.Errorf("%q: %+v, want %d and %d", fields, r.KeepAlive, timeout, most)
		}
		if out := string(r.AppendFields(nil)); strings.Contains(strings.ToLower(out), "keep-alive") {
			t.Errorf("%q goes on to the client: %q", fields, out) // it is of one connection alone
		}
	}
	f("", -1, -1)
	f("Connection: keep-alive\r\nKeep-Alive: timeout=5\r\n", 5, -1)
	f("Connection: Keep-Alive\r\nKeep-Alive: timeout=5, max=100\r\n", 5, 100)
	f("keep-alive: MAX=0 , TimeOut = 15\r\n", 15, 0)
	f("Keep-Alive: timeout=15,max=100\r\nKeep-Alive: timeout=5, max=200\r\n", 5, 100)
	f("Keep-Alive: timeout=5, timeout=15\r\n", 5, -1)
	f("Keep-Alive: timeout=0\r\n", 0, -1) // Node.js with less than a second
	f("Keep-Alive: 300\r\n", -1, -1)      // as browsers once sent it
	f("Keep-Alive:\r\n", -1, -1)
	f("Keep-Alive: timeout=, max=-1, timeout=5s, maximum=3, =7\r\n", -1, -1)
	f("Keep-Alive: timeout=99999999999999999999999\r\n", maxKeepAlive, -1)
	f("Proxy-Connection: timeout=5\r\n", -1, -1)
}

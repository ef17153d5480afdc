package http1

import "testing"

// RFC 9110, section 7.8: Upgrade is a list in the client's order of preference. What
// would change how the bytes of the connection are read between us and the endpoint
// does not go on.
func TestUpgradable(t *testing.T) {
	f := func(in, want string) {
		t.Helper()
		var r Request
		if err := r.Parse([]byte("GET / HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: "+in+"\r\n\r\n"), testLimits); err != nil {
			t.Fatal(err)
		}
		if string(r.Upgrade) != want || (r.Upgrade == nil) != (want == "") {
			t.Errorf("%q: %q, want %q", in, r.Upgrade, want)
		}
	}
	f("websocket", "websocket")
	f("tcp", "tcp")
	f("IRC/6.9, RTA/x11", "IRC/6.9, RTA/x11")
	f("websocket, h2c", "websocket")
	f("h2c, websocket", "websocket")
	f("h2c,a/1 ,TLS/1.2,b", "a/1, b")
	f("websocket,", "websocket,") // an empty element means nothing (section 5.6.1)
	f(", websocket", "websocket")
	f("h2c", "")
	f("H2C, HTTP/2.0, h2, TLS/1.0", "")
	f("a b", "")
	f("a/ b, c", "c")
	f("", "")
	// With a body as well: the protocol changes behind it.
	var r Request
	if err := r.Parse([]byte("POST / HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: tcp\r\nContent-Length: 2\r\n\r\n"), testLimits); err != nil || string(r.Upgrade) != "tcp" || r.Length != 2 {
		t.Errorf("%v %q %d", err, r.Upgrade, r.Length)
	}
}

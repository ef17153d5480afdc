package http2

import (
	"bytes"
	"testing"
)

// Whatever is under way keeps a connection from resting.
func TestMayRest(t *testing.T) {
	f := func(what string, edit func(*ServerConn), want bool) {
		t.Helper()
		c := NewServer(ServerOptions{Rests: true}).NewConn(&bytesConn{r: bytes.NewReader(nil)}, nil)
		c.began, c.out = true, nil
		edit(c)
		if c.mayRest() != want {
			t.Errorf("%s: may rest: %v", what, !want)
		}
	}
	f("nothing", func(*ServerConn) {}, true)
	f("no SETTINGS yet", func(c *ServerConn) { c.began = false }, false)
	f("draining", func(c *ServerConn) { c.draining = drainAsked }, false)
	f("a write", func(c *ServerConn) { c.writing = true }, false)
	f("something to write", func(c *ServerConn) { c.out = []byte{0} }, false)
	f("a stream", func(c *ServerConn) { c.conn.streams[1] = &stream{} }, false)
	f("a worker", func(c *ServerConn) { c.workers.all = 1 }, false)
	f("a header block", func(c *ServerConn) { c.block.id = 1 }, false)
	f("a DATA frame", func(c *ServerConn) { c.dataIn.active = true }, false)
	f("a part of a frame", func(c *ServerConn) { c.w = 1 }, false)
}

package proxy

import "gatehouse.dev/gatehouse/internal/proxy/http1"

// workspace is what an HTTP/1 connection serves requests with. It is lent, so
// that thousands of connections that rest do without, and new ones find theirs
// made. Nothing of a request stays in it but space.
type workspace struct {
	x        exchange
	request  http1.Request
	body     http1.Body
	detached []byte // the buffer that holds the head while the body uses another
}

// furnish gives the connection a workspace.
func (c *conn) furnish() {
	w, _ := c.srv.workspaces.Get().(*workspace)
	if w == nil {
		w = &workspace{}
	}
	w.x.srv, w.x.client, w.x.front, w.x.req = c.srv, &c.who, c, &w.request
	c.workspace = w
}

// vacate gives the workspace back. After a panic it is not given back, since
// nobody knows what still uses it.
func (c *conn) vacate() {
	w := c.workspace
	if w == nil {
		return
	}
	c.workspace = nil
	w.release()
	w.x.vacate()
	w.request.Reset()
	w.body = http1.Body{}
	c.srv.workspaces.Put(w)
}

// release gives back what one request has borrowed.
func (w *workspace) release() {
	if w.detached != nil {
		putBuffer(w.detached)
		w.detached = nil
	}
}

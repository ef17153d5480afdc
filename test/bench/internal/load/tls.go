package load

import (
	"context"
	"crypto/tls"
	"fmt"
	"net"
	"sync/atomic"

	"gatehouse.dev/gatehouse/test/bench/internal/backend"
	"gatehouse.dev/gatehouse/test/bench/internal/cert"
	"gatehouse.dev/gatehouse/test/bench/internal/turn"
)

// clientConfig is for connections to a name. Who the proxy is was checked before the
// rounds; checking it again for each handshake would only slow the load down.
func clientConfig(name string) *tls.Config {
	c := cert.Config()
	c.ServerName, c.InsecureSkipVerify = name, true
	return c
}

// handshake makes a TLS connection, from an address of its own if there is one.
// What it says last goes out together with the first request.
func (r *run) handshake(ctx context.Context, config *tls.Config, from net.Addr) (*tls.Conn, error) {
	nc, err := r.dial(ctx, from)
	if err != nil {
		return nil, err
	}
	c, err := turn.New(nc)
	if err != nil {
		nc.Close()
		return nil, err
	}
	tc := tls.Client(c, config)
	if err := tc.HandshakeContext(ctx); err != nil {
		nc.Close()
		return nil, fmt.Errorf("handshake: %w", err)
	}
	return tc, nil
}

// ask sends a request and reads its whole answer into buf.
func (r *run) ask(tc net.Conn, req, buf []byte) error {
	if _, err := tc.Write(req); err != nil {
		return fmt.Errorf("cannot send a request: %w", err)
	}
	filled := 0
	for {
		n, err := tc.Read(buf[filled:])
		if err != nil {
			return fmt.Errorf("no answer: %w", err)
		}
		filled += n
		if whole, err := r.check(buf[:filled]); whole || err != nil {
			return err
		}
	}
}

// tlsConn is a keep-alive connection.
type tlsConn struct {
	tally
	run  *run
	tc   *tls.Conn
	site *Site
	next int
	buf  []byte
}

func (r *run) dialTLS(ctx context.Context, i int) (client, error) {
	site := &r.Sites[i%len(r.Sites)]
	tc, err := r.handshake(ctx, clientConfig(site.Name), nil)
	if err != nil {
		return nil, err
	}
	return &tlsConn{run: r, tc: tc, site: site, next: i % len(site.Requests), buf: make([]byte, maxAnswerHead+len(r.Body))}, nil
}

func (c *tlsConn) close() { c.tc.NetConn().(*turn.Conn).TCPConn.Close() }

func (c *tlsConn) exchange() error {
	for {
		req := c.site.Requests[c.next]
		c.next = (c.next + 1) % len(c.site.Requests)
		sent := c.run.pace(&c.tally)
		if err := c.run.ask(c.tc, req, c.buf); err != nil {
			return err
		}
		if !c.run.answered(&c.tally, sent) {
			return nil
		}
	}
}

func (r *run) dialRaw(ctx context.Context, i int) (client, error) {
	site := &r.Sites[i%len(r.Sites)]
	conf := clientConfig(site.Name)
	conf.NextProtos = []string{backend.RawProto}
	tc, err := r.handshake(ctx, conf, nil)
	if err != nil {
		return nil, err
	}
	nc := tc.NetConn().(*turn.Conn)
	var ready [1]byte
	if _, err := nc.Read(ready[:]); err != nil || ready[0] != backend.RawReady {
		nc.TCPConn.Close()
		return nil, fmt.Errorf("no plain bytes after the handshake: %q, %w", ready, err)
	}
	return r.newConn(nc.TCPConn, site.Requests, i), nil
}

// visitor makes one connection after the other, each for one request.
type visitor struct {
	tally
	run    *run
	ctx    context.Context
	cancel context.CancelFunc
	config *tls.Config
	from   net.Addr
	next   int
	buf    []byte
	reqs   [][]byte
	nc     atomic.Pointer[net.TCPConn]
}

func newVisitor(ctx context.Context, r *run, i int) *visitor {
	reqs, config := r.Requests, (*tls.Config)(nil)
	if r.Kind != Churn {
		site := &r.Sites[i%len(r.Sites)]
		reqs, config = site.Requests, clientConfig(site.Name)
	}
	v := &visitor{run: r, config: config, reqs: reqs, next: i % len(reqs), buf: make([]byte, maxAnswerHead+len(r.Body)),
		// Ports are used up by connections that are closed but still remembered.
		from: &net.TCPAddr{IP: net.IPv4(127, 0, 1, byte(1+i%250))}}
	v.ctx, v.cancel = context.WithCancel(ctx)
	if r.Kind == Resumed {
		v.config.ClientSessionCache = tls.NewLRUClientSessionCache(1)
	}
	return v
}

func (v *visitor) close() {
	v.cancel()
	if nc := v.nc.Load(); nc != nil {
		nc.Close()
	}
}

func (v *visitor) exchange() error {
	for first := true; ; first = false {
		sent := v.run.pace(&v.tally)
		if err := v.visit(first); err != nil {
			if v.ctx.Err() != nil {
				return context.Cause(v.ctx)
			}
			return err
		}
		if !v.run.answered(&v.tally, sent) {
			return nil
		}
	}
}

func (v *visitor) visit(first bool) error {
	req := v.reqs[v.next]
	v.next = (v.next + 1) % len(v.reqs)
	if v.config == nil {
		return v.plain(req)
	}
	tc, err := v.run.handshake(v.ctx, v.config, v.from)
	if err != nil {
		return err
	}
	v.nc.Store(tc.NetConn().(*turn.Conn).TCPConn)
	defer tc.Close()
	want := v.run.Kind == Resumed && !first
	if got := tc.ConnectionState().DidResume; got != want {
		return fmt.Errorf("handshake resumed a session: %t, want %t", got, want)
	}
	return v.run.ask(tc, req, v.buf)
}

func (v *visitor) plain(req []byte) error {
	nc, err := v.run.dial(v.ctx, v.from)
	if err != nil {
		return err
	}
	v.nc.Store(nc)
	defer nc.Close()
	c, err := turn.New(nc)
	if err != nil {
		return err
	}
	return v.run.ask(c, req, v.buf)
}

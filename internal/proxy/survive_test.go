package proxy

import (
	"io"
	"net/http"
	"net/netip"
	"testing"

	"gatehouse.dev/gatehouse/internal/ir"
)

// A panic of ours ends one connection or stream; all others go on.
func TestPanicEndsOneConnection(t *testing.T) {
	e := newEdge(t, nil, echo(t))
	other := e.dial()
	other.roundTrip(get)
	cfg := e.config()
	cfg.Listeners[0].Hosts.At(0).Routes[0].Match.Path.Value = "/panic"
	cfg.Listeners[0].Hosts.At(0).Routes[0].Action = ir.Action{Respond: &ir.Respond{Status: 200}}
	cfg.Listeners[0].Hosts.At(0).Routes[0].Security = ir.Security{IPs: &ir.IPAccess{Allow: []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}}}
	e.apply(cfg)
	h, _, _ := e.srv.Snapshot().byBind["http"].hosts.Lookup([]byte("example.com"))
	h.routes[0].respond = nil
	h.routes[0].targets = []target{{weight: 1}} // no backend at all: a nil is met
	c := e.dial()
	c.write("GET /panic HTTP/1.1\r\nHost: example.com\r\n\r\n")
	c.closed()
	res, err := e.client2(false).Get(e.url(false, "/panic"))
	if err == nil {
		res.Body.Close()
		t.Errorf("stream answered %v", res)
	}
	if res, err = e.client2(false).Get(e.url(false, "/")); err != nil || res.StatusCode != http.StatusOK {
		t.Errorf("another stream: %v %v", res, err)
	} else {
		io.Copy(io.Discard, res.Body)
		res.Body.Close()
	}
	if res, _ := other.roundTrip(get); res.StatusCode != 200 {
		t.Errorf("another connection: %v", res)
	}
}

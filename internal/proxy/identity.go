package proxy

import (
	"bytes"
	"net/netip"
	"strconv"
	"strings"

	"gatehouse.dev/gatehouse/internal/proxy/http1"
	"gatehouse.dev/gatehouse/internal/proxy/proxyproto"
)

func itoa(n int) string { return strconv.Itoa(n) }

func putBuffer(b []byte) { http1.PutBuffer(b) }

// trusts reports whether the address is a trusted proxy.
func (s *Server) trusts(a netip.Addr) bool {
	a = a.Unmap()
	for _, p := range s.o.TrustedProxies {
		if p.Contains(a) {
			return true
		}
	}
	return false
}

// realClient walks X-Forwarded-For from the right: each trusted proxy vouches
// for the address to its left. It stops at the first that is not trusted, or
// cannot be read.
func (s *Server) realClient(peer netip.AddrPort, forwarded []byte) netip.AddrPort {
	client := peer
	for len(forwarded) > 0 && s.trusts(client.Addr()) {
		var last []byte
		if i := bytes.LastIndexByte(forwarded, ','); i >= 0 {
			forwarded, last = forwarded[:i], forwarded[i+1:]
		} else {
			forwarded, last = nil, forwarded
		}
		a, ok := parseAddr(bytes.TrimSpace(last))
		if !ok {
			break
		}
		client = a
	}
	return client
}

// parseAddr reads an address with or without a port.
func parseAddr(b []byte) (netip.AddrPort, bool) {
	text := string(b)
	if a, err := netip.ParseAddr(text); err == nil && a.Zone() == "" {
		return netip.AddrPortFrom(a.Unmap(), 0), true
	}
	if a, err := netip.ParseAddrPort(text); err == nil && a.Addr().Zone() == "" {
		return netip.AddrPortFrom(a.Addr().Unmap(), a.Port()), true
	}
	return netip.AddrPort{}, false
}

// scheme is what the client has spoken, as far as is known: a trusted proxy may
// have ended TLS.
func (x *exchange) scheme() string {
	if x.client.trusted {
		switch string(x.req.ForwardedProto) {
		case "http":
			return "http"
		case "https":
			return "https"
		}
	}
	return x.ln.scheme
}

// forwardedPort is the port that a trusted proxy says the client has asked, or
// nothing.
func (x *exchange) forwardedPort() string {
	if !x.client.trusted {
		return ""
	}
	if p, err := strconv.ParseUint(string(x.req.ForwardedPort), 10, 16); err != nil || p == 0 {
		return ""
	}
	return string(x.req.ForwardedPort)
}

// publicPort is that port as part of an authority, unless it is the scheme's own.
func (x *exchange) publicPort() string {
	p := x.forwardedPort()
	if p == "" || p == "80" && x.scheme() == "http" || p == "443" && x.scheme() == "https" {
		return ""
	}
	return ":" + p
}

// publicHost is the authority that the client has asked for: the request's own,
// or what a trusted proxy says that it was. It may be empty.
func (x *exchange) publicHost() []byte {
	if x.client.trusted && validAuthority(x.req.ForwardedHost) {
		return x.req.ForwardedHost
	}
	return x.req.Authority
}

// hostKept reports whether the client's Host field goes to the endpoint as it is.
func (x *exchange) hostKept() bool {
	return x.req.HasHost && x.route.filters.Host == "" && len(x.req.Authority) > 0 &&
		!(x.client.trusted && validAuthority(x.req.ForwardedHost))
}

// hostless reports that nobody has named a host: a request of HTTP/1.0 need not,
// nor need one with an empty Host (RFC 9112, section 3.2). The endpoint, to which
// another version may be spoken, is then asked by its own address.
func (x *exchange) hostless() bool {
	return len(x.publicHost()) == 0 && x.upstreamHost() == ""
}

// appendHost appends the host that the endpoint is asked for.
func (x *exchange) appendHost(b []byte) []byte {
	if host := x.upstreamHost(); host != "" {
		return append(b, host...)
	}
	if host := x.publicHost(); len(host) > 0 {
		return append(b, host...)
	}
	return x.endpoint.AppendTo(b)
}

// appendIdentity appends the fields by which a backend knows the client and
// the request. They are Gatehouse's own: what the client sent was dropped
// when the head was parsed. A trusted proxy's words are taken over. None of them
// is ever empty.
func (x *exchange) appendIdentity(b []byte) []byte {
	req := x.req
	b = append(b, "X-Request-ID: "...)
	b = append(b, x.requestID...)
	b = append(b, "\r\nX-Real-IP: "...)
	b = x.appendClient(b)
	b = append(b, "\r\nX-Forwarded-For: "...)
	if x.srv.o.FullForwardedFor && x.client.trusted {
		if len(req.ForwardedFor) > 0 {
			b = append(b, req.ForwardedFor...)
			b = append(b, ", "...)
		}
		b = append(b, x.client.peerIP...)
	} else {
		b = x.appendClient(b)
	}
	scheme, port := x.scheme(), x.ln.port
	if p := x.forwardedPort(); p != "" {
		port = p
	}
	b = append(b, "\r\nX-Forwarded-Proto: "...)
	b = append(b, scheme...)
	b = append(b, "\r\nX-Forwarded-Scheme: "...)
	b = append(b, scheme...)
	b = append(b, "\r\nX-Scheme: "...)
	b = append(b, scheme...)
	if host := x.publicHost(); len(host) > 0 {
		b = append(b, "\r\nX-Forwarded-Host: "...)
		b = append(b, host...)
	}
	b = append(b, "\r\nX-Forwarded-Port: "...)
	b = append(b, port...)
	if len(req.ForwardedFor) > 0 {
		b = append(b, "\r\nX-Original-Forwarded-For: "...)
		b = append(b, req.ForwardedFor...)
	}
	if len(req.ForwardedHost) > 0 {
		b = append(b, "\r\nX-Original-Forwarded-Host: "...)
		b = append(b, req.ForwardedHost...)
	}
	if prefix := x.route.filters.Prefix; prefix != "" {
		b = append(b, "\r\nX-Forwarded-Prefix: "...)
		b = append(b, prefix...)
	}
	b = append(b, "\r\n"...)
	return x.appendCertificate(b)
}

// upstreamHost fills in what an ir.Filters.Host takes from the request. Both
// variables have been found to be a valid authority.
func (x *exchange) upstreamHost() string {
	host := x.route.filters.Host
	if strings.IndexByte(host, '$') < 0 {
		return host
	}
	return strings.NewReplacer("$http_host", string(x.publicHost()), "$host", string(x.host)).Replace(host)
}

// proxyHeader is the PROXY header that a connection for this client begins
// with, or nothing.
func (x *exchange) proxyHeader(t *target) []byte {
	h := proxyproto.Header{Version: t.proxyProtocol, Command: proxyproto.Proxy, Source: x.real, Destination: x.client.local}
	switch t.proxyProtocol {
	case 1:
		return proxyproto.AppendV1(nil, h)
	case 2:
		return proxyproto.AppendV2(nil, h)
	}
	return nil
}

func (x *exchange) appendClient(b []byte) []byte {
	if x.real == x.client.peer {
		return append(b, x.client.peerIP...)
	}
	return x.real.Addr().AppendTo(b)
}

func validAuthority(b []byte) bool {
	if len(b) == 0 || len(b) > 260 {
		return false
	}
	for _, c := range b {
		switch {
		case c >= '0' && c <= '9', c >= 'a' && c <= 'z', c >= 'A' && c <= 'Z', c == '-', c == '.', c == ':', c == '[', c == ']', c == '_':
		default:
			return false
		}
	}
	return true
}

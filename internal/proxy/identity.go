package proxy

import (
	"bytes"
	"net/netip"
	"strconv"

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

// appendIdentity appends the fields by which a backend knows the client and
// the request. They are Gatehouse's own: what the client sent was dropped
// when the head was parsed. A trusted proxy's words are taken over.
func (x *exchange) appendIdentity(b []byte) []byte {
	req := x.req
	b = append(b, "X-Request-ID: "...)
	b = append(b, x.requestID...)
	b = append(b, "\r\nX-Real-IP: "...)
	b = x.appendClient(b)
	b = append(b, "\r\nX-Forwarded-For: "...)
	proto, host, port := x.ln.scheme, req.Authority, x.ln.port
	if x.client.trusted {
		if len(req.ForwardedFor) > 0 {
			b = append(b, req.ForwardedFor...)
			b = append(b, ", "...)
		}
		if p := string(req.ForwardedProto); p == "http" || p == "https" {
			proto = p
		}
		if validAuthority(req.ForwardedHost) {
			host = req.ForwardedHost
		}
		if p, err := strconv.ParseUint(string(req.ForwardedPort), 10, 16); err == nil && p > 0 {
			port = string(req.ForwardedPort)
		}
	}
	b = append(b, x.client.peerIP...)
	b = append(b, "\r\nX-Forwarded-Proto: "...)
	b = append(b, proto...)
	b = append(b, "\r\nX-Forwarded-Host: "...)
	b = append(b, host...)
	b = append(b, "\r\nX-Forwarded-Port: "...)
	b = append(b, port...)
	b = append(b, "\r\n"...)
	if prefix := x.route.filters.Prefix; prefix != "" {
		b = append(b, "X-Forwarded-Prefix: "...)
		b = append(b, prefix...)
		b = append(b, "\r\n"...)
	}
	return x.appendCertificate(b)
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

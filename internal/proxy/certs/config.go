package certs

import (
	"bytes"
	"crypto/tls"
)

// Config is the server side of TLS for one listener. current gives the names
// that hold now (nil: none); it may be called more than once in a handshake,
// and from many goroutines. protocols are the ALPN protocols in order of
// preference, "http/1.1" when there are none.
//
// TLS 1.2 and 1.3 with Go's choice of cipher suites and curves. Session ticket
// keys are made and rotated by crypto/tls and are those of this Config (they
// outlive every snapshot), unless it shares Tickets. A session is resumed only
// under the same server name with the same certificates (RFC 6066 section 3)
// and settings for client certificates; anything else is a full handshake.
func Config(current func() *ServerNames, protocols ...string) *tls.Config {
	if len(protocols) == 0 {
		protocols = []string{"http/1.1"}
	}
	// What a proxy writes at once is ready as a whole: small first records would
	// only cost writes.
	c := &tls.Config{MinVersion: tls.VersionTLS12, NextProtos: protocols, DynamicRecordSizingDisabled: true}
	c.GetCertificate = func(hello *tls.ClientHelloInfo) (*tls.Certificate, error) {
		n, ok := current().Lookup(hello.ServerName)
		if !ok || n.Terminate == nil {
			return nil, nil // crypto/tls has no other and sends unrecognized_name
		}
		return n.choose(hello)
	}
	c.WrapSession = func(cs tls.ConnectionState, ss *tls.SessionState) ([]byte, error) {
		if n, ok := current().Lookup(cs.ServerName); ok {
			ss.Extra = append(ss.Extra, n.sessionBinding(cs.ServerName))
		}
		return c.EncryptTicket(cs, ss)
	}
	// A resumed TLS 1.3 session never asks for a certificate: this is where its
	// name is looked at.
	c.UnwrapSession = func(identity []byte, cs tls.ConnectionState) (*tls.SessionState, error) {
		ss, err := c.DecryptTicket(identity, cs)
		if err != nil || ss == nil {
			return nil, err
		}
		n, ok := current().Lookup(cs.ServerName)
		if !ok || n.Terminate == nil || !n.made(ss, cs.ServerName) {
			return nil, nil // a full handshake
		}
		return ss, nil
	}
	c.GetConfigForClient = func(hello *tls.ClientHelloInfo) (*tls.Config, error) {
		n, ok := current().Lookup(hello.ServerName)
		if !ok || n.Terminate == nil || (n.clients == nil && len(n.Terminate.CipherSuites) == 0) {
			return nil, nil
		}
		if own := n.config.Load(); own != nil {
			return own, nil
		}
		own := c.Clone()
		own.GetConfigForClient = nil
		own.CipherSuites = n.Terminate.CipherSuites
		if n.clients != nil {
			own.ClientAuth = tls.RequestClientCert
			own.ClientCAs = n.clients.authorities()
		}
		n.config.Store(own)
		return own, nil
	}
	return c
}

const sessionPrefix = "gatehouse server name\x00"

// sessionBinding is what a session keeps of the name it was made under.
func (n *ServerName) sessionBinding(sni string) []byte {
	b := append([]byte(sessionPrefix), n.session[:]...)
	return append(b, sni...)
}

// made reports whether the session was made under this name.
func (n *ServerName) made(ss *tls.SessionState, sni string) bool {
	want := n.sessionBinding(sni)
	for _, extra := range ss.Extra {
		if bytes.Equal(extra, want) {
			return true
		}
	}
	return false
}

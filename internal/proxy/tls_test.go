package proxy

import (
	"crypto/tls"
	"net"
	"strings"
	"testing"

	"gatehouse.dev/gatehouse/internal/ir"
)

func TestTLS(t *testing.T) {
	e := newEdge(t, nil, echo(t))
	for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
		c := e.dialTLS(version)
		big := strings.Repeat("x", 1<<20)
		for range 3 {
			res, body := c.roundTrip(get)
			if res.StatusCode != 200 {
				t.Fatalf("%v", res)
			}
			wantFields(t, body, map[string]string{"X-Forwarded-Proto": "https", "X-Forwarded-Port": "443"})
			if res, body = c.roundTrip(post + "Content-Length: 1048576\r\n\r\n" + big); res.StatusCode != 200 || !strings.Contains(body, "body=1048576") {
				t.Fatalf("%v", res)
			}
		}
		// A refusal over TLS closes too.
		c.write("GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n")
		if res, _ := c.read("GET"); res.StatusCode != 400 {
			t.Errorf("%v", res)
		}
		c.closed()
	}
	// Plain HTTP to the TLS port, and a version that nobody should use.
	plain, err := net.Dial("tcp", e.srv.Addr("https").String())
	if err != nil {
		t.Fatal(err)
	}
	defer plain.Close()
	plain.Write([]byte(get))
	c := e.dialTLS(tls.VersionTLS11)
	if err := c.Conn.(*tls.Conn).Handshake(); err == nil {
		t.Error("TLS 1.1 was accepted")
	}
	for _, l := range e.logs() {
		if l["tls_version"] == nil || l["server_name"] != "example.com" {
			t.Errorf("%v", l)
		}
	}
}

// A name whose TLS is refused cannot be had over a connection for another.
func TestMisdirected(t *testing.T) {
	e := newEdge(t, nil, echo(t))
	cfg := e.config()
	addName(cfg, ir.ServerName{Pattern: ir.HostPattern{Kind: ir.HostExact, Name: "closed.example.com"}, Refuse: &ir.Refuse{}})
	e.apply(cfg)
	c := e.dialTLS(tls.VersionTLS13)
	if res, body := c.roundTrip("GET / HTTP/1.1\r\nHost: closed.example.com\r\n\r\n"); res.StatusCode != 421 || !strings.Contains(body, "Misdirected") {
		t.Errorf("%d %q", res.StatusCode, body)
	}
	if res, _ := c.roundTrip(get); res.StatusCode != 200 {
		t.Errorf("%v", res)
	}
	tcp, err := net.Dial("tcp", e.srv.Addr("https").String())
	if err != nil {
		t.Fatal(err)
	}
	defer tcp.Close()
	refused := tls.Client(tcp, &tls.Config{ServerName: "closed.example.com", InsecureSkipVerify: true})
	if err := refused.Handshake(); err == nil {
		t.Error("the handshake of a refused name succeeded")
	}
}

// What the flags allow is all that is agreed on.
func TestCipherPolicy(t *testing.T) {
	e := newEdge(t, func(o *Options) {
		o.CipherSuites = []uint16{tls.TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384}
		o.Curves = []tls.CurveID{tls.CurveP384}
	}, echo(t))
	f := func(c *tls.Config, want bool) {
		t.Helper()
		c.InsecureSkipVerify, c.ServerName = true, "example.com"
		tc, err := tls.Dial("tcp", e.srv.Addr("https").String(), c)
		if (err == nil) != want {
			t.Errorf("handshake: %v", err)
		}
		if err == nil {
			tc.Close()
		}
	}
	f(&tls.Config{MaxVersion: tls.VersionTLS12, CurvePreferences: []tls.CurveID{tls.CurveP384}}, true)
	f(&tls.Config{MaxVersion: tls.VersionTLS12, CipherSuites: []uint16{tls.TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256}}, false)
	f(&tls.Config{CurvePreferences: []tls.CurveID{tls.X25519}}, false)
	f(&tls.Config{CurvePreferences: []tls.CurveID{tls.CurveP384}}, true)
}

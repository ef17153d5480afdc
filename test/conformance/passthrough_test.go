package conformance

import (
	"bytes"
	"crypto/tls"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"strings"
	"testing"
	"time"
)

func passthroughEdge(t *testing.T, backend string) (*edge, *authority) {
	ca := newAuthority(t, "judge")
	return startEdge(t, documents(
		tlsSecret("front", ca.issue(time.Hour, "ended.test")),
		service("mirror", "", startMirror(t, nil)),
		service("backend", "", backend),
		service("nobody", ""),
		ingress("passed", "passed.test", "backend", "", "ssl-passthrough", "true"),
		ingress("wild", "*.wild.test", "backend", "", "ssl-passthrough", "true"),
		ingress("empty", "empty.test", "nobody", "", "ssl-passthrough", "true"),
		ingress("guarded", "guarded.test", "backend", "", "ssl-passthrough", "true", "denylist-source-range", "192.0.2.1"),
		ingress("ended", "ended.test", "mirror", "front"),
	)), ca
}

// TestPassthrough: the client speaks TLS with the backend itself, on the port
// where other names are terminated.
func TestPassthrough(t *testing.T) {
	judge(t, "tls-clients", "Passthrough: TLS with the backend itself beside terminated names")
	theirs := newAuthority(t, "backends")
	config := &tls.Config{
		Certificates: []tls.Certificate{theirs.issue(time.Hour, "passed.test", "a.wild.test").tls},
		ClientAuth:   tls.RequestClientCert, NextProtos: []string{"h2", "http/1.1"},
	}
	e, ca := passthroughEdge(t, startMirror(t, config))
	me := theirs.issue(time.Hour, "me")
	for _, host := range []string{"passed.test", "a.wild.test"} {
		client := as(e.https, theirs, &me, false)
		defer client.CloseIdleConnections() // nobody but the two ends can end them
		s := ask(t, client, "https://"+host+"/x")
		if s.Status != 200 || s.ServerName != host || s.ClientName != "me" || s.Header.Get("X-Forwarded-For") != "" {
			t.Errorf("%s: %d, the backend saw %+v", host, s.Status, s)
		}
	}
	if s := ask(t, clientTo(e.https, &tls.Config{RootCAs: ca.pool()}), "https://ended.test/"); s.Status != 200 || s.ServerName != "" {
		t.Errorf("a terminated name: %d, %+v", s.Status, s)
	}
	if s := ask(t, clientTo(e.http, nil), "http://passed.test/x?y"); s.Status != 308 || s.answer.Header.Get("Location") != "https://passed.test:"+port(e.https)+"/x?y" {
		t.Errorf("in cleartext: %d to %q, want 308", s.Status, s.answer.Header.Get("Location"))
	}
	// Behind another name's handshake there is no way to a passed-through host.
	if s := ask(t, clientTo(e.https, &tls.Config{RootCAs: ca.pool()}), "https://ended.test/", "Host", "passed.test"); s.Status == 200 {
		t.Errorf("fronted: %d %s", s.Status, s.Body)
	}
	// A guard that nobody could enforce keeps the host closed.
	// Nor one without endpoints.
	for _, name := range []string{"guarded.test", "empty.test"} {
		if c, err := tls.Dial("tcp", e.https, &tls.Config{InsecureSkipVerify: true, ServerName: name}); err == nil {
			t.Errorf("%s completes the handshake", name)
			c.Close()
		}
	}
	for _, name := range []string{"", "unknown.test", "b.a.wild.test"} {
		c, err := tls.Dial("tcp", e.https, &tls.Config{InsecureSkipVerify: true, ServerName: name})
		if err != nil {
			t.Errorf("%q: %v", name, err)
			continue
		}
		if leaf := c.ConnectionState().PeerCertificates[0]; leaf.Subject.CommonName != "Gatehouse default certificate" {
			t.Errorf("%q: gets the certificate of %v, want the default one", name, leaf.Subject)
		}
		c.Close()
	}
	curl, openssl := tool(t, "curl", "curl"), tool(t, "openssl", "openssl")
	cafile := file(t, theirs.pem())
	for _, version := range []string{"1.2", "1.3"} {
		out, err := output(t, "", curl, "-sS", "--cacert", cafile, "-w", "%{http_code}", "--tlsv"+version, "--tls-max", version,
			"--resolve", "passed.test:"+port(e.https)+":127.0.0.1", "https://passed.test:"+port(e.https)+"/")
		if err != nil || !strings.HasSuffix(out, "200") {
			t.Errorf("curl, TLS %s: %q, %v", version, out, err)
		}
		out, err = output(t, "Q", openssl, "s_client", "-connect", e.https, "-servername", "passed.test", "-CAfile", cafile, "-verify_return_error",
			"-tls"+strings.ReplaceAll(version, ".", "_"))
		if err != nil || !strings.Contains(out, "Verify return code: 0 (ok)") {
			t.Errorf("openssl, TLS %s: %v\n%s", version, err, out)
		}
	}
}

// TestPassthroughBytes looks at every byte: the backend is no TLS server but
// records what comes.
func TestPassthroughBytes(t *testing.T) {
	judge(t, "tls-clients", "Passthrough: every byte arrives as it was sent")
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	e, _ := passthroughEdge(t, l.Addr().String())
	hello := clientHello(t, "passed.test")
	f := func(name string, size int, send func(c net.Conn, b []byte)) {
		t.Helper()
		c, err := net.Dial("tcp", e.https)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		c.SetDeadline(time.Now().Add(20 * time.Second))
		up := bytes.Repeat([]byte("upwards."), size/8)
		down := bytes.Repeat([]byte("down"), size/4)
		go func() {
			send(c, hello)
			c.Write(up)
			c.(*net.TCPConn).CloseWrite()
		}()
		b, err := l.Accept()
		if err != nil {
			t.Fatal(err)
		}
		defer b.Close()
		b.SetDeadline(time.Now().Add(20 * time.Second))
		got, err := io.ReadAll(b) // until the half-close
		if want := append(bytes.Clone(hello), up...); err != nil || !bytes.Equal(got, want) {
			t.Errorf("%s: the backend got %d bytes, %v; want %d", name, len(got), err, len(want))
		}
		// The other direction is still open.
		go func() {
			b.Write(down)
			b.(*net.TCPConn).CloseWrite()
		}()
		if got, err = io.ReadAll(c); err != nil || !bytes.Equal(got, down) {
			t.Errorf("%s: the client got %d bytes, %v; want %d", name, len(got), err, len(down))
		}
	}
	whole := func(c net.Conn, b []byte) { c.Write(b) }
	f("whole", 800, whole)
	f("nothing behind it", 0, whole)
	f("large", 8<<20, whole)
	f("byte by byte", 800, func(c net.Conn, b []byte) {
		for i := range b { // each is a segment of its own: Go sets TCP_NODELAY
			c.Write(b[i : i+1])
		}
	})
	hello = inRecords(hello, 7)
	f("records of 7 bytes", 800, whole)
	hello = clientHello(t, "PASSED.test")
	f("upper case", 800, whole)
}

// clientHello is the first flight of crypto/tls, which brings a post-quantum key
// share.
func clientHello(t *testing.T, name string) []byte {
	ours, theirs := net.Pipe()
	go tls.Client(ours, &tls.Config{ServerName: name, InsecureSkipVerify: true}).Handshake()
	defer ours.Close()
	head := make([]byte, 5)
	if _, err := io.ReadFull(theirs, head); err != nil {
		t.Fatal(err)
	}
	body := make([]byte, binary.BigEndian.Uint16(head[3:]))
	if _, err := io.ReadFull(theirs, body); err != nil {
		t.Fatal(err)
	}
	if len(body) < 1000 {
		t.Fatalf("a ClientHello of %d bytes has no post-quantum key share", len(body))
	}
	return append(head, body...)
}

// inRecords cuts the handshake message of a record into records of n bytes.
func inRecords(record []byte, n int) []byte {
	var out []byte
	for body := record[5:]; len(body) > 0; {
		part := body[:min(n, len(body))]
		out = append(out, record[0], record[1], record[2], 0, byte(len(part)))
		out = append(out, part...)
		body = body[len(part):]
	}
	return out
}

// TestProxyProtocol: the balancer in front says who the client is.
func TestProxyProtocol(t *testing.T) {
	judge(t, "tls-clients", "PROXY protocol of a balancer in front")
	e := startEdge(t, documents(
		service("mirror", "", startMirror(t, nil)),
		ingress("allow", "allow.test", "mirror", "", "allowlist-source-range", "192.0.2.0/24"),
	), "--proxy-protocol", "require", "--trusted-proxies", "127.0.0.1/32")
	f := func(header string, status int) { // 0: not a byte
		t.Helper()
		c, err := net.Dial("tcp", e.http)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		c.SetDeadline(time.Now().Add(10 * time.Second))
		io.WriteString(c, header+"GET / HTTP/1.1\r\nHost: allow.test\r\nX-Forwarded-For: 192.0.2.9\r\nConnection: close\r\n\r\n")
		answer, _ := io.ReadAll(c)
		if want := fmt.Sprintf("HTTP/1.1 %d ", status); status == 0 && len(answer) > 0 || status != 0 && !strings.HasPrefix(string(answer), want) {
			t.Errorf("%q: %q, want status %d", header, answer, status)
		}
	}
	f("PROXY TCP4 192.0.2.1 198.51.100.1 1234 80\r\n", 200)
	f("PROXY TCP4 203.0.113.1 198.51.100.1 1234 80\r\n", 403)
	v2 := "\r\n\r\n\x00\r\nQUIT\n\x21\x11\x00\x0c"
	f(v2+"\xc0\x00\x02\x01\xc6\x33\x64\x01\x04\xd2\x00\x50", 200)
	f(v2+"\xcb\x00\x71\x01\xc6\x33\x64\x01\x04\xd2\x00\x50", 403)
	f("", 0)
	f("PROXY TCP4 192.0.2.1\r\n", 0)
}

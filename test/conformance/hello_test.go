package conformance

import (
	"bytes"
	"crypto/ecdh"
	"crypto/rand"
	"crypto/tls"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"net/http"
	"testing"
	"time"
)

// echConfig makes a list of one ECH configuration (RFC 9849, section 4) with the
// public name, and the key to it.
func echConfig(t *testing.T, publicName string) (list []byte, key tls.EncryptedClientHelloKey) {
	private, err := ecdh.X25519().GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	be := binary.BigEndian
	var b []byte
	b = append(b, 7)               // config_id
	b = be.AppendUint16(b, 0x0020) // DHKEM(X25519, HKDF-SHA256)
	public := private.PublicKey().Bytes()
	b = be.AppendUint16(b, uint16(len(public)))
	b = append(b, public...)
	b = be.AppendUint16(b, 4)
	b = be.AppendUint16(b, 0x0001) // HKDF-SHA256
	b = be.AppendUint16(b, 0x0001) // AES-128-GCM
	b = append(b, 32, byte(len(publicName)))
	b = append(b, publicName...)
	b = be.AppendUint16(b, 0) // extensions
	config := be.AppendUint16(nil, 0xfe0d)
	config = be.AppendUint16(config, uint16(len(b)))
	config = append(config, b...)
	list = append(be.AppendUint16(nil, uint16(len(config))), config...)
	return list, tls.EncryptedClientHelloKey{Config: config, PrivateKey: private.Bytes(), SendAsRetry: true}
}

// TestEncryptedClientHello: of a ClientHello with an encrypted one inside, the
// outer name counts. Who terminates says that it has no key; who passes through
// leaves the inner one to the backend.
func TestEncryptedClientHello(t *testing.T) {
	judge(t, "tls-clients", "Go: encrypted ClientHello, by its outer name, offloading and passthrough")
	theirs := newAuthority(t, "backends")
	list, key := echConfig(t, "passed.test")
	var asked string
	e, ca := passthroughEdge(t, startMirror(t, &tls.Config{
		Certificates:             []tls.Certificate{theirs.issue(time.Hour, "inner.test").tls},
		EncryptedClientHelloKeys: []tls.EncryptedClientHelloKey{key},
		GetConfigForClient: func(h *tls.ClientHelloInfo) (*tls.Config, error) {
			asked = h.ServerName
			return nil, nil
		},
	}))
	tc := &tls.Config{RootCAs: theirs.pool(), ServerName: "inner.test", MinVersion: tls.VersionTLS13, EncryptedClientHelloConfigList: list}
	c, err := tls.Dial("tcp", e.https, tc)
	if err != nil {
		t.Fatal(err)
	}
	state := c.ConnectionState()
	c.Close()
	if !state.ECHAccepted || state.ServerName != "inner.test" || asked != "inner.test" {
		t.Errorf("accepted %v, name %q, the backend was asked for %q", state.ECHAccepted, state.ServerName, asked)
	}
	client := clientTo(e.https, tc)
	defer client.CloseIdleConnections()
	if s := ask(t, client, "https://inner.test/x"); s.Status != http.StatusOK || s.ServerName != "inner.test" {
		t.Errorf("%d, the backend saw %+v", s.Status, s)
	}

	// Terminated: the handshake is done under the outer name, with its
	// certificate, and the client learns that there is no ECH.
	list, _ = echConfig(t, "ended.test")
	_, err = tls.Dial("tcp", e.https, &tls.Config{
		RootCAs: ca.pool(), ServerName: "passed.test", MinVersion: tls.VersionTLS13, EncryptedClientHelloConfigList: list,
	})
	var rejected *tls.ECHRejectionError
	if !errors.As(err, &rejected) || len(rejected.RetryConfigList) > 0 {
		t.Errorf("%v, want that ECH is rejected under the authenticated outer name", err)
	}
}

// greased adds what is reserved so that nobody comes to rely on its absence (RFC
// 8701): a cipher suite, a first and a last extension.
func greased(t *testing.T, record []byte) []byte {
	be := binary.BigEndian
	body := record[9:] // behind the record's and the message's header
	at := 2 + 32
	at += 1 + int(body[at])
	suites := int(be.Uint16(body[at:]))
	out := bytes.Clone(body[:at])
	out = be.AppendUint16(out, uint16(suites+2))
	out = be.AppendUint16(out, 0x2a2a)
	out = append(out, body[at+2:at+2+suites]...)
	at += 2 + suites
	end := at + 1 + int(body[at])
	out = append(out, body[at:end]...)
	extensions := body[end+2:]
	first, last := []byte{0x0a, 0x0a, 0, 0}, []byte{0xfa, 0xfa, 0, 1, 0}
	out = be.AppendUint16(out, uint16(len(first)+len(extensions)+len(last)))
	out = append(append(append(out, first...), extensions...), last...)
	if len(extensions) != int(be.Uint16(body[end:])) {
		t.Fatal("a ClientHello that does not end with its extensions")
	}
	message := be.AppendUint32(nil, uint32(len(out)))
	message[0] = record[5]
	whole := append(be.AppendUint16(bytes.Clone(record[:3]), uint16(4+len(out))), message...)
	return append(whole, out...)
}

// TestGrease: what browsers send that means nothing changes nothing.
func TestGrease(t *testing.T) {
	judge(t, "tls-clients", "GREASE in cipher suites and extensions, offloading and passthrough")
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	e, _ := passthroughEdge(t, l.Addr().String())
	send := func(name string, cut func([]byte) []byte) (c net.Conn, hello []byte) {
		c, err := net.Dial("tcp", e.https)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { c.Close() })
		c.SetDeadline(time.Now().Add(20 * time.Second))
		hello = cut(greased(t, clientHello(t, name)))
		if _, err := c.Write(hello); err != nil {
			t.Fatal(err)
		}
		return c, hello
	}
	whole := func(b []byte) []byte { return b }
	for _, cut := range []func([]byte) []byte{whole, func(b []byte) []byte { return inRecords(b, 200) }} {
		_, hello := send("passed.test", cut)
		b, err := l.Accept()
		if err != nil {
			t.Fatal(err)
		}
		b.SetDeadline(time.Now().Add(20 * time.Second))
		got := make([]byte, len(hello))
		if _, err := io.ReadFull(b, got); err != nil || !bytes.Equal(got, hello) {
			t.Errorf("the backend got something else: %v", err)
		}
		b.Close()

		// A ServerHello, and no alert, under a terminated name and a name of nobody.
		for _, name := range []string{"ended.test", "unknown.test"} {
			c, _ := send(name, cut)
			head := make([]byte, 6)
			if _, err := io.ReadFull(c, head); err != nil || head[0] != 22 || head[5] != 2 {
				t.Errorf("%s: %x %v, want a ServerHello", name, head, err)
			}
		}
	}
}

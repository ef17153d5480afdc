package hello

import (
	"bytes"
	"context"
	"crypto/ecdh"
	"crypto/rand"
	"crypto/tls"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"os/exec"
	"testing"
	"time"
)

// recorded is a connection on which bytes have come and nothing more will.
type recorded struct {
	net.Conn
	r *bytes.Reader
}

func (c recorded) Read(b []byte) (int, error)       { return c.r.Read(b) }
func (c recorded) Write(b []byte) (int, error)      { return len(b), nil }
func (c recorded) SetDeadline(time.Time) error      { return nil }
func (c recorded) SetReadDeadline(time.Time) error  { return nil }
func (c recorded) SetWriteDeadline(time.Time) error { return nil }
func (c recorded) Close() error                     { return nil }

// readTLS is what crypto/tls' server makes of the bytes: the hello it accepts,
// or nil.
func readTLS(raw []byte) (info *tls.ClientHelloInfo) {
	s := tls.Server(recorded{r: bytes.NewReader(raw)}, &tls.Config{
		GetConfigForClient: func(i *tls.ClientHelloInfo) (*tls.Config, error) {
			info = i
			return nil, errors.New("seen enough")
		},
	})
	_ = s.Handshake()
	return info
}

// kept is a client's connection that keeps what is written.
type kept struct {
	recorded
	out *bytes.Buffer
}

func (c kept) Write(b []byte) (int, error) { return c.out.Write(b) }

// clientHello is the hello of a crypto/tls client.
func clientHello(c *tls.Config) []byte {
	out := new(bytes.Buffer)
	_ = tls.Client(kept{recorded{r: bytes.NewReader(nil)}, out}, c).Handshake()
	return out.Bytes()
}

// echConfigs is a list of one ECHConfig with a public name (RFC 9849 section 4).
func echConfigs(t testing.TB, public string) []byte {
	key, err := ecdh.X25519().GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	pub := key.PublicKey().Bytes()
	c := []byte{7, 0, 0x20, 0, byte(len(pub))}
	c = append(c, pub...)
	c = append(c, 0, 4, 0, 1, 0, 1, 64, byte(len(public)))
	c = append(c, public...)
	c = append(c, 0, 0)
	config := binary.BigEndian.AppendUint16([]byte{0xfe, 0x0d}, uint16(len(c)))
	config = append(config, c...)
	return append(binary.BigEndian.AppendUint16(nil, uint16(len(config))), config...)
}

// captured are hellos of crypto/tls clients of many kinds.
func captured(t testing.TB) map[string][]byte {
	const name = "shop.example"
	h2 := []string{"h2", "http/1.1"}
	return map[string][]byte{
		"1.3":        clientHello(&tls.Config{ServerName: name, NextProtos: h2}),
		"1.2":        clientHello(&tls.Config{ServerName: name, MaxVersion: tls.VersionTLS12, NextProtos: h2}),
		"1.0":        clientHello(&tls.Config{ServerName: name, MinVersion: tls.VersionTLS10, MaxVersion: tls.VersionTLS10}),
		"no pq":      clientHello(&tls.Config{ServerName: name, CurvePreferences: []tls.CurveID{tls.X25519}}),
		"p256":       clientHello(&tls.Config{ServerName: name, CurvePreferences: []tls.CurveID{tls.CurveP256}, NextProtos: []string{"http/1.1"}}),
		"no name":    clientHello(&tls.Config{InsecureSkipVerify: true}),
		"upper case": clientHello(&tls.Config{ServerName: "SHOP.Example", NextProtos: h2}),
		"many ALPN":  clientHello(&tls.Config{ServerName: name, NextProtos: []string{"a", "b", "c", "h2", "e", "f", "g", "http/1.1", "\n\n"}}),
		"no tickets": clientHello(&tls.Config{ServerName: name, SessionTicketsDisabled: true}),
		"ech": clientHello(&tls.Config{ServerName: "secret.example", NextProtos: h2, MinVersion: tls.VersionTLS13,
			EncryptedClientHelloConfigList: echConfigs(t, "public.example")}),
	}
}

// openssl is the hello of openssl s_client.
func openssl(t *testing.T, args ...string) []byte {
	t.Helper()
	path, err := exec.LookPath("openssl")
	if err != nil {
		t.Fatal("openssl is not installed; test/tools.sh installs what tests need")
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	cmd := exec.CommandContext(ctx, path, append([]string{"s_client", "-connect", l.Addr().String()}, args...)...)
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = cmd.Wait() }() // it fails: nobody answered
	if err := l.(*net.TCPListener).SetDeadline(time.Now().Add(20 * time.Second)); err != nil {
		t.Fatal(err)
	}
	conn, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	head := make([]byte, recordHeader)
	if _, err := io.ReadFull(conn, head); err != nil {
		t.Fatal(err)
	}
	raw := append(head, make([]byte, binary.BigEndian.Uint16(head[3:]))...)
	if _, err := io.ReadFull(conn, raw[recordHeader:]); err != nil {
		t.Fatal(err)
	}
	return raw
}

// resumed answers a client of crypto/tls once, so that its next hello carries
// a ticket, and gives that hello.
func resumed(t testing.TB, cert tls.Certificate, version uint16) []byte {
	cache := tls.NewLRUClientSessionCache(1)
	config := &tls.Config{ServerName: "shop.example", InsecureSkipVerify: true, ClientSessionCache: cache, MaxVersion: version}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	done := make(chan error, 1)
	go func() {
		conn, err := l.Accept()
		if err != nil {
			done <- err
			return
		}
		s := tls.Server(conn, &tls.Config{Certificates: []tls.Certificate{cert}})
		_, err = s.Write([]byte("x"))
		done <- errors.Join(err, s.Close())
	}()
	conn, err := tls.Dial("tcp", l.Addr().String(), config)
	if err != nil {
		t.Fatal(err)
	}
	// The ticket of TLS 1.3 comes before the byte.
	if _, err := io.ReadAll(conn); err != nil {
		t.Fatal(err)
	}
	conn.Close()
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	return clientHello(config)
}

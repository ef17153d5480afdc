package certs

import (
	"bytes"
	"crypto/tls"
	"io"
	"net"
	"sync"
	"testing"
	"time"

	"gatehouse.dev/gatehouse/internal/ir"
)

func TestCertificateBySNI(t *testing.T) {
	foo, bar, wild, other := ecdsaCert(t, "foo.example.com"), ecdsaCert(t, "bar.example.com"), ecdsaCert(t, "*.bar.com"), ecdsaCert(t)
	f := newFront(t, new(names).terminate("foo.example.com", foo).terminate("bar.example.com", bar).
		terminate("*.bar.com", wild).terminate("", other).refuse("refused.bar.com"))
	check := func(sni string, want ir.Certificate) {
		t.Helper()
		for _, c := range []*tls.Config{client(sni), client12(sni)} {
			s, err := f.state(c)
			if err != nil || !shows(s, want) {
				t.Errorf("%q up to version %#x: not its certificate (%v)", sni, c.MaxVersion, err)
			}
		}
	}
	check("foo.example.com", foo)
	check("FOO.example.COM", foo)
	check("bar.example.com", bar)
	check("x.bar.com", wild)
	check("a.x.bar.com", other)
	check("bar.com", other)
	check("unknown.example.org", other)
	check("192.0.2.1", other) // the client sends no name then
	check("", other)
}

// rawAlert sends the bytes and gives level and description of the alert that
// comes back, as they are on the wire (RFC 8446 sections 5.1 and 6).
func (f *front) rawAlert(t *testing.T, hello []byte) (level, description byte) {
	t.Helper()
	conn, err := net.Dial("tcp", f.addr)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	conn.SetDeadline(time.Now().Add(20 * time.Second))
	if _, err := conn.Write(hello); err != nil {
		t.Fatal(err)
	}
	var record [7]byte
	if _, err := io.ReadFull(conn, record[:]); err != nil {
		t.Fatal(err)
	}
	if record[0] != 21 || record[3] != 0 || record[4] != 2 {
		t.Fatalf("record % x is not an alert", record)
	}
	return record[5], record[6]
}

// clientHello is the first flight of a client.
func clientHello(t *testing.T, config *tls.Config) []byte {
	t.Helper()
	ours, theirs := net.Pipe()
	defer ours.Close()
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = tls.Client(theirs, config).Handshake() // fails when ours is closed
	}()
	buf := make([]byte, 16<<10)
	n, err := ours.Read(buf)
	if err != nil {
		t.Fatal(err)
	}
	ours.Close()
	<-done
	return buf[:n]
}

func TestRefusedNames(t *testing.T) {
	foo := ecdsaCert(t, "foo.example.com")
	check := func(n *names, sni string) {
		t.Helper()
		f := newFront(t, n)
		for _, c := range []*tls.Config{client(sni), client12(sni)} {
			level, description := f.rawAlert(t, clientHello(t, c))
			if level != 2 || description != 112 {
				t.Errorf("%q up to version %#x: alert %d %d, want fatal unrecognized_name", sni, c.MaxVersion, level, description)
			}
			if _, err := f.state(c); !isAlert(err, alertUnrecognizedName) {
				t.Errorf("%q: %v", sni, err)
			}
		}
	}
	covered := new(names).terminate("foo.example.com", foo).terminate("", foo).refuse("bar.example.com").refuse("*.bar.com")
	check(covered, "bar.example.com")
	check(covered, "BAR.example.com")
	check(covered, "x.bar.com")
	check(new(names).terminate("foo.example.com", foo), "bar.example.com")
	check(new(names).terminate("foo.example.com", foo), "")
	check(new(names).terminate("foo.example.com", foo).refuse(""), "unknown.example.com")
	check(new(names).terminate("foo.example.com", foo).refuse(""), "")
	check(new(names), "foo.example.com")

	// Before the first snapshot nothing is covered.
	f := newFront(t, new(names))
	f.current.Store(nil)
	if _, err := f.state(client("foo.example.com")); !isAlert(err, alertUnrecognizedName) {
		t.Errorf("without a snapshot: %v", err)
	}
}

// TestMalformedSNI sends server names that no proper client sends.
func TestMalformedSNI(t *testing.T) {
	foo, other := ecdsaCert(t, "foo.example.com"), ecdsaCert(t)
	f := newFront(t, new(names).terminate("foo.example.com", foo).terminate("", other))
	const placeholder = "foo.example.comX" // not the default's, to see it refused
	hello := clientHello(t, client(placeholder))
	check := func(name string, want byte) {
		t.Helper()
		if len(name) != len(placeholder) {
			t.Fatalf("%q has not the length of %q", name, placeholder)
		}
		if n := bytes.Count(hello, []byte(placeholder)); n != 1 {
			t.Fatalf("the name is %d times in the hello", n)
		}
		if _, got := f.rawAlert(t, bytes.Replace(hello, []byte(placeholder), []byte(name), 1)); got != want {
			t.Errorf("%q: alert %d, want %d", name, got, want)
		}
	}
	const decodeError = 50
	check("foo.example.com.", decodeError) // RFC 6066: without a trailing dot; crypto/tls refuses it
	check("foo.example\x00.com", 112)
	check("foo.example.c\x00mx", 112)
	check("foo.example:4433", 112)
	check("foo..example.com", 112)
	check(".foo.example.com", 112)
	check("foo example.comx", 112)
	check("f\xc3\xbco.example.com", 112)
	check("[2001:db8::1234]", 112)
}

func TestCertificateByClient(t *testing.T) {
	ec, rs := ecdsaCert(t, "foo.example.com"), rsaCert(t, "foo.example.com")
	rsaOnly := client12("foo.example.com", tls.TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256)
	ecOnly := client12("foo.example.com", tls.TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256)
	f := newFront(t, new(names).terminate("foo.example.com", rs, ec).terminate("", rs, ec))
	check := func(what string, c *tls.Config, want ir.Certificate) {
		t.Helper()
		s, err := f.state(c)
		if err != nil || !shows(s, want) {
			t.Errorf("%s: not its certificate (%v)", what, err)
		}
	}
	check("TLS 1.3", client("foo.example.com"), ec)
	check("TLS 1.2", client12("foo.example.com"), ec)
	check("TLS 1.2 with RSA only", rsaOnly, rs)
	check("TLS 1.2 with ECDSA only", ecOnly, ec)
	// Names that the default certificates do not have.
	unknown := rsaOnly.Clone()
	unknown.ServerName = "unknown.example.com"
	check("TLS 1.2 with RSA only, unknown name", unknown, rs)
	check("TLS 1.3, unknown name", client("unknown.example.com"), ec)

	// One that covers the name before one that does not.
	f.swap(new(names).terminate("foo.example.com", ecdsaCert(t, "old.example.com"), rs))
	check("ECDSA of another name", client("foo.example.com"), rs)
	first, second := ecdsaCert(t, "foo.example.com"), ecdsaCert(t, "foo.example.com")
	f.swap(new(names).terminate("foo.example.com", first, second))
	check("two of a kind", client("foo.example.com"), first)

	// A client that supports none is shown the first, and gives up itself.
	f.swap(new(names).terminate("foo.example.com", ec))
	if _, err := f.state(rsaOnly); err == nil {
		t.Error("a client without ECDSA took an ECDSA certificate")
	}
}

// TestChooseTLS13 covers clients that crypto/tls cannot imitate.
func TestChooseTLS13(t *testing.T) {
	ec, rs := ecdsaCert(t, "foo.example.com"), rsaCert(t, "foo.example.com")
	n, _ := new(names).terminate("foo.example.com", ec, rs).compile(NewCache()).Lookup("foo.example.com")
	f := func(want int, schemes ...tls.SignatureScheme) {
		t.Helper()
		got, err := n.choose(&tls.ClientHelloInfo{
			ServerName: "foo.example.com", SupportedVersions: []uint16{tls.VersionTLS13}, SignatureSchemes: schemes,
		})
		if c, _ := n.certificates[want].certificate(); err != nil || got != c {
			t.Errorf("%v: not certificate %d (%v)", schemes, want, err)
		}
	}
	f(0, tls.ECDSAWithP256AndSHA256)
	f(1, tls.PSSWithSHA256)
	f(0, tls.PSSWithSHA256, tls.ECDSAWithP256AndSHA256)
	f(0, tls.Ed25519)
}

func TestBrokenCertificate(t *testing.T) {
	good, other := ecdsaCert(t, "foo.example.com"), ecdsaCert(t)
	broken := ir.Certificate{ID: "broken", Chain: []byte("not PEM"), Key: []byte("not PEM")}
	f := newFront(t, new(names).terminate("foo.example.com", broken, good).terminate("bar.example.com", broken).terminate("", other))
	if s, err := f.state(client("foo.example.com")); err != nil || !shows(s, good) {
		t.Errorf("the good one of two is not shown: %v", err)
	}
	// Never the default's in its place.
	if _, err := f.state(client("bar.example.com")); !isAlert(err, alertInternalError) {
		t.Errorf("only a broken certificate: %v", err)
	}
	if s, err := f.state(client("x.example.com")); err != nil || !shows(s, other) {
		t.Errorf("another name: %v", err)
	}
}

func TestProtocols(t *testing.T) {
	cert := ecdsaCert(t)
	check := func(f *front, want string, offer ...string) {
		t.Helper()
		c := client("x")
		c.NextProtos = offer
		s, err := f.state(c)
		if want == "refused" {
			if !isAlert(err, alertNoApplicationProtocol) {
				t.Errorf("%v: %v", offer, err)
			}
			return
		}
		if err != nil || s.NegotiatedProtocol != want {
			t.Errorf("%v: %q, %v; want %q", offer, s.NegotiatedProtocol, err, want)
		}
	}
	f := newFront(t, new(names).terminate("", cert))
	check(f, "")
	check(f, "http/1.1", "http/1.1")
	check(f, "http/1.1", "h2", "http/1.1")
	check(f, "refused", "h3")
	f = newFront(t, new(names).terminate("", cert), "h2", "http/1.1")
	check(f, "h2", "http/1.1", "h2")

	old := client("x")
	old.MinVersion, old.MaxVersion = tls.VersionTLS10, tls.VersionTLS11
	if _, err := f.state(old); !isAlert(err, alertProtocolVersion) {
		t.Errorf("TLS 1.1: %v", err)
	}
}

func TestRotation(t *testing.T) {
	before, after := ecdsaCert(t, "foo.example.com"), ecdsaCert(t, "foo.example.com")
	f := newFront(t, new(names).terminate("foo.example.com", before))
	conn, err := f.open(client("foo.example.com"))
	if err != nil || !shows(conn.ConnectionState(), before) {
		t.Fatalf("before: %v", err)
	}
	defer conn.Close()

	f.swap(new(names).terminate("foo.example.com", after))
	f.cache.Retain(after.ID)
	if s, err := f.state(client("foo.example.com")); err != nil || !shows(s, after) {
		t.Errorf("after: %v", err)
	}
	// The open connection lives on.
	if _, err := conn.Write([]byte{1}); err != nil {
		t.Error(err)
	}
	if err := readGreeting(conn); err != nil {
		t.Error(err)
	}
}

func TestResumption(t *testing.T) {
	foo := ecdsaCert(t, "foo.example.com", "bar.example.com")
	table := func() *names {
		return new(names).terminate("foo.example.com", foo).terminate("bar.example.com", foo).terminate("*.bar.com", foo)
	}
	for _, base := range []*tls.Config{client("foo.example.com"), client12("foo.example.com")} {
		// check opens a session under foo, applies the change and comes back.
		check := func(what string, change func(*front, *tls.Config), resumed bool) {
			t.Helper()
			f := newFront(t, table())
			c := base.Clone()
			c.ClientSessionCache = oneSession{tls.NewLRUClientSessionCache(1)}
			if s, err := f.state(c); err != nil || s.DidResume {
				t.Fatalf("%s: first handshake: %v, resumed %v", what, err, s.DidResume)
			}
			change(f, c)
			if s, err := f.state(c); err != nil || s.DidResume != resumed {
				t.Errorf("%s, up to version %#x: resumed %v, %v; want %v", what, base.MaxVersion, s.DidResume, err, resumed)
			}
		}
		check("no change", func(*front, *tls.Config) {}, true)
		check("same content", func(f *front, _ *tls.Config) { f.swap(table()) }, true)
		check("another name of the certificate", func(_ *front, c *tls.Config) { c.ServerName = "bar.example.com" }, false)
		check("another name of the wildcard", func(f *front, c *tls.Config) {
			c.ServerName = "x.bar.com"
			if s, err := f.state(c); err != nil || s.DidResume {
				t.Errorf("from foo to the wildcard: %v, resumed %v", err, s.DidResume)
			}
			c.ServerName = "y.bar.com"
		}, false)
		check("rotated", func(f *front, _ *tls.Config) {
			f.swap(new(names).terminate("foo.example.com", ecdsaCert(t, "foo.example.com")))
		}, false)
		check("now under the wildcard", func(f *front, _ *tls.Config) {
			f.swap(new(names).terminate("*.example.com", foo))
		}, false)

		f := newFront(t, table())
		c := base.Clone()
		c.ClientSessionCache = oneSession{tls.NewLRUClientSessionCache(1)}
		for i := range 3 { // a session made from a resumed one is one of the same name
			if s, err := f.state(c); err != nil || s.DidResume != (i > 0) {
				t.Fatalf("handshake %d: %v, resumed %v", i, err, s.DidResume)
			}
		}
		f.swap(new(names).terminate("bar.example.com", foo).terminate("", foo).refuse("foo.example.com"))
		if _, err := f.state(c); !isAlert(err, alertUnrecognizedName) {
			t.Errorf("up to version %#x: a session outlived the refusal: %v", base.MaxVersion, err)
		}
		f.swap(new(names).terminate("bar.example.com", foo))
		if _, err := f.state(c); !isAlert(err, alertUnrecognizedName) {
			t.Errorf("up to version %#x: a session outlived its name: %v", base.MaxVersion, err)
		}
	}
}

// oneSession offers one session under every name, as an attacker would.
type oneSession struct{ tls.ClientSessionCache }

func (s oneSession) Get(string) (*tls.ClientSessionState, bool) { return s.ClientSessionCache.Get("") }
func (s oneSession) Put(_ string, cs *tls.ClientSessionState) {
	if cs != nil { // kept even when the server refused it
		s.ClientSessionCache.Put("", cs)
	}
}

func TestConcurrentRotation(t *testing.T) {
	var certs []ir.Certificate
	for range 4 {
		certs = append(certs, ecdsaCert(t, "foo.example.com"))
	}
	f := newFront(t, new(names).terminate("foo.example.com", certs[0]).terminate("", certs[0]))
	stop := make(chan struct{})
	var swapper, clients sync.WaitGroup
	swapper.Go(func() {
		for i := 0; ; i++ {
			select {
			case <-stop:
				return
			default:
				c := certs[i%len(certs)]
				f.swap(new(names).terminate("foo.example.com", c).terminate("", c))
				f.cache.Retain(c.ID)
			}
		}
	})
	for range 4 {
		clients.Go(func() {
			c := client("foo.example.com")
			c.ClientSessionCache = tls.NewLRUClientSessionCache(1)
			for range 25 {
				s, err := f.state(c)
				if err != nil {
					t.Error(err)
					return
				}
				known := s.DidResume
				for _, cert := range certs {
					known = known || shows(s, cert)
				}
				if !known {
					t.Error("an unknown certificate")
				}
			}
		})
	}
	clients.Wait()
	close(stop)
	swapper.Wait()
}

func BenchmarkHandshake(b *testing.B) {
	cert := ecdsaCert(b, "foo.example.com")
	f := newFront(b, new(names).terminate("foo.example.com", cert))
	for _, resume := range []bool{false, true} {
		name := "full"
		c := client("foo.example.com")
		if resume {
			name, c.ClientSessionCache = "resumed", tls.NewLRUClientSessionCache(1)
		}
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if _, err := f.state(c); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// Package conformance runs other people's test suites for protocols against the
// wire engines.
package conformance

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/xml"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/summerwind/h2spec"
	"github.com/summerwind/h2spec/config"

	"gatehouse.dev/gatehouse/internal/proxy/http2"
)

// h2specCases is how many there are: fewer would mean that some did not run.
const h2specCases = 146

func TestH2Spec(t *testing.T) {
	t.Run("plain", func(t *testing.T) { runH2Spec(t, nil) })
	t.Run("TLS", func(t *testing.T) {
		runH2Spec(t, &tls.Config{Certificates: []tls.Certificate{certificate(t)}, NextProtos: []string{"h2"}})
	})
}

func runH2Spec(t *testing.T, tc *tls.Config) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	srv := http2.NewServer(http2.ServerOptions{Exchange: answer, HeaderTimeout: 5 * time.Second})
	go func() {
		for {
			nc, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				if tc != nil {
					t := tls.Server(nc, tc)
					if t.Handshake() != nil {
						nc.Close()
						return
					}
					nc = t
				}
				srv.NewConn(nc, nil).Serve()
			}()
		}
	}()

	report := filepath.Join(t.TempDir(), "report.xml")
	ok, err := h2spec.Run(&config.Config{
		Host: "127.0.0.1", Port: l.Addr().(*net.TCPAddr).Port, Path: "/",
		Timeout: 2 * time.Second, MaxHeaderLen: 4000, Strict: true, JUnitReport: report,
		TLS: tc != nil, Insecure: true,
	})
	if err != nil || !ok {
		t.Errorf("h2spec --strict: ok %v, %v", ok, err)
	}
	text, err := os.ReadFile(report)
	if err != nil {
		t.Fatal(err)
	}
	var suites struct {
		Suites []struct {
			Tests   int `xml:"tests,attr"`
			Skipped int `xml:"skipped,attr"`
		} `xml:"testsuite"`
	}
	if err := xml.Unmarshal(text, &suites); err != nil {
		t.Fatal(err)
	}
	tests, skipped := 0, 0
	for _, s := range suites.Suites {
		tests += s.Tests
		skipped += s.Skipped
	}
	if tests != h2specCases || skipped != 0 {
		t.Errorf("%d cases, %d skipped, want %d and none", tests, skipped, h2specCases)
	}
}

// answer reads the request, as a proxy would, and gives a small page.
func answer(s *http2.Stream) {
	for {
		if _, err := s.ReadBody(); err != nil {
			break
		}
	}
	s.WriteLocal(200, []byte("content-type: text/plain\r\n"), []byte("conformance\n"))
}

func certificate(t *testing.T) tls.Certificate {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	tmpl := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "conformance"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
	}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, tmpl, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
}

package conformance

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/xml"
	"io"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
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
	t.Run("plain", func(t *testing.T) {
		judge(t, "h2spec", "The engine, cleartext", h2specCases)
		runH2Spec(t, nil)
	})
	t.Run("TLS", func(t *testing.T) {
		judge(t, "h2spec", "The engine, TLS", h2specCases)
		runH2Spec(t, &tls.Config{Certificates: []tls.Certificate{certificate(t)}, NextProtos: []string{"h2"}})
	})
}

// TestH2SpecProduct judges the whole product, with a backend behind it, as
// TestH2Spec judges its engine alone.
func TestH2SpecProduct(t *testing.T) {
	backend := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		io.Copy(io.Discard, r.Body)
		io.WriteString(w, "conformance\n")
	}))
	defer backend.Close()
	e := startEdge(t, documents(
		service("backend", "", backend.Listener.Addr().String()),
		ingress("all", "", "backend", ""),
	))
	t.Run("plain", func(t *testing.T) {
		judge(t, "h2spec", "The product, cleartext", h2specCases)
		judgeH2(t, portOf(t, e.http), false)
	})
	t.Run("TLS", func(t *testing.T) {
		judge(t, "h2spec", "The product, TLS", h2specCases)
		judgeH2(t, portOf(t, e.https), true)
	})
}

func portOf(t *testing.T, addr string) int {
	a, err := netip.ParseAddrPort(addr)
	if err != nil {
		t.Fatal(err)
	}
	return int(a.Port())
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

	judgeH2(t, l.Addr().(*net.TCPAddr).Port, tc != nil)
}

// judgeH2 runs all cases, in their strict form, against a port of 127.0.0.1.
func judgeH2(t *testing.T, port int, secure bool) {
	t.Helper()
	report := filepath.Join(t.TempDir(), "report.xml")
	if _, err := h2spec.Run(&config.Config{
		Host: "127.0.0.1", Port: port, Path: "/",
		Timeout: 2 * time.Second, MaxHeaderLen: 4000, Strict: true, JUnitReport: report,
		TLS: secure, Insecure: true,
	}); err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(report)
	if err != nil {
		t.Fatal(err)
	}
	var suites struct {
		Suites []struct {
			Package string `xml:"package,attr"`
			Cases   []struct {
				Title   string  `xml:"classname,attr"`
				Failure *string `xml:"failure"`
				Error   *string `xml:"error"`
				Skipped *string `xml:"skipped"`
			} `xml:"testcase"`
		} `xml:"testsuite"`
	}
	if err := xml.Unmarshal(text, &suites); err != nil {
		t.Fatal(err)
	}
	cases := 0
	for _, s := range suites.Suites {
		for _, c := range s.Cases {
			cases++
			if c.Failure != nil || c.Error != nil || c.Skipped != nil {
				t.Errorf("h2spec --strict %s: %s: did not pass", s.Package, c.Title)
			}
		}
	}
	if cases != h2specCases {
		t.Errorf("%d cases, want %d", cases, h2specCases)
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

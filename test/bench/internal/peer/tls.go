package peer

import (
	"bufio"
	"bytes"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"time"

	"gatehouse.dev/gatehouse/test/bench/internal/cert"
)

// Mode is what becomes of TLS.
type Mode string

// The modes. Plain is without any TLS.
const (
	Plain       Mode = ""
	Passthrough Mode = "passthrough" // the backend's TLS, chosen by the name in the handshake
	Offloading  Mode = "offloading"  // TLS ends here
	Bridging    Mode = "bridging"    // TLS ends here, and begins again towards the backend
)

const (
	// BackendName is what the backend's certificate is verified for, bridging.
	BackendName = "backend.bench.test"
	// WrongHost is a route to a backend whose certificate does not fit.
	WrongHost = "wrong.bench.example"
	otherHost = "other.bench.example" // no route
)

// FrontNames are those of the proxies' certificate, BackNames of the backend's.
func FrontNames() []string { return []string{"*.bench.example"} }

// BackNames are the backend's: bridging verifies the first, passthrough is for
// the others.
func BackNames(t Table) []string { return append([]string{BackendName}, t.Hosts...) }

// Methods for templates.

// Cert is the proxies' certificate.
func (e *Env) Cert() *cert.Pair {
	if e.RSA {
		return e.Certs.RSA
	}
	return e.Certs.P256
}

// Scheme is that of the backend.
func (e *Env) Scheme() string {
	if e.Mode == Bridging {
		return "https"
	}
	return "http"
}

// BackendName is BackendName.
func (e *Env) BackendName() string { return BackendName }

// WrongHost is WrongHost.
func (e *Env) WrongHost() string { return WrongHost }

// TLS says whether clients speak it.
func (e *Env) TLS() bool { return e.Mode != Plain }

// checkTLS is Check for the other modes: whose certificate is shown, what the
// backend gets, and what is refused.
func (r *Running) checkTLS(e *Env) error {
	if e.GRPC {
		// The load checks calls; here the same name is asked for, and no other.
		return errors.Join(r.checkH2(e), r.checkMetrics(""))
	}
	for _, h := range e.Table.some(30) {
		if err := r.checkHost(e, h); err != nil {
			return fmt.Errorf("%s: %w", h, err)
		}
	}
	if e.Mode == Passthrough {
		if v, err := r.visit(e, otherHost); err == nil {
			v.Close()
			return errors.New("a connection to a host without routes was made")
		}
		return r.checkMetrics("")
	}
	if err := r.checkRefused(e, otherHost, http.StatusNotFound, http.StatusNotFound); err != nil {
		return err
	}
	if e.Mode == Bridging {
		if err := r.checkRefused(e, WrongHost, http.StatusInternalServerError, http.StatusGatewayTimeout); err != nil {
			return fmt.Errorf("the backend's certificate is for another name: %w", err)
		}
	}
	if err := r.checkH2(e); err != nil {
		return err
	}
	return r.checkMetrics("requests")
}

// visit connects to a host and verifies the certificate.
func (r *Running) visit(e *Env, host string, protos ...string) (*tls.Conn, error) {
	conf := cert.Config()
	conf.ServerName, conf.RootCAs, conf.NextProtos = host, e.Certs.Pool, protos
	nc, err := net.DialTimeout("tcp", r.Addr, 5*time.Second)
	if err != nil {
		return nil, err
	}
	nc.SetDeadline(time.Now().Add(10 * time.Second))
	tc := tls.Client(nc, conf)
	if err := tc.Handshake(); err != nil {
		nc.Close()
		return nil, err
	}
	want := e.Cert().Leaf
	if e.Mode == Passthrough {
		want = e.Certs.Backend.Leaf
	}
	state := tc.ConnectionState()
	if got := state.PeerCertificates[0]; !bytes.Equal(got.Raw, want.Raw) {
		nc.Close()
		return nil, fmt.Errorf("certificate of %q, want that of %q", got.Subject.CommonName, want.Subject.CommonName)
	}
	if state.CipherSuite != tls.TLS_AES_128_GCM_SHA256 {
		nc.Close()
		return nil, fmt.Errorf("cipher suite %s: figures would not compare", tls.CipherSuiteName(state.CipherSuite))
	}
	return tc, nil
}

func ask(tc *tls.Conn, rd *bufio.Reader, req []byte) (*http.Response, string, error) {
	if _, err := tc.Write(req); err != nil {
		return nil, "", err
	}
	resp, err := http.ReadResponse(rd, nil)
	if err != nil {
		return nil, "", err
	}
	body, err := io.ReadAll(resp.Body)
	return resp, string(body), err
}

func (r *Running) checkHost(e *Env, host string) error {
	tc, err := r.visit(e, host)
	if err != nil {
		return err
	}
	defer tc.Close()
	rd := bufio.NewReader(tc)
	for _, p := range e.Table.Paths {
		req := Request(host, p.Target+"?echo", "X-Forwarded-For: 192.0.2.1\r\nX-Real-IP: 192.0.2.1\r\n")
		resp, body, err := ask(tc, rd, req)
		if err != nil {
			return err
		}
		if e.Mode == Passthrough {
			if resp.StatusCode != http.StatusOK || body != string(req) {
				return fmt.Errorf("%s: not passed through as it was: %s\n%s", p.Target, resp.Status, body)
			}
			continue
		}
		if err := forwarded(resp.StatusCode, body, host, "https"); err != nil {
			return fmt.Errorf("%s: %w", p.Target, err)
		}
		if resp.Header.Get("Strict-Transport-Security") == "" {
			return errors.New("no Strict-Transport-Security")
		}
		resp, _, err = ask(tc, rd, Request(host, p.Path+"x", ""))
		if err != nil {
			return err
		}
		if resp.StatusCode != http.StatusNotFound {
			return fmt.Errorf("%sx, which has no route: status %d", p.Path, resp.StatusCode)
		}
	}
	return nil
}

// checkRefused asks for a status in a range.
func (r *Running) checkRefused(e *Env, host string, from, to int) error {
	tc, err := r.visit(e, host)
	if err != nil {
		return fmt.Errorf("%s: %w", host, err)
	}
	defer tc.Close()
	resp, _, err := ask(tc, bufio.NewReader(tc), Request(host, e.Table.Paths[0].Target, ""))
	if err != nil {
		return fmt.Errorf("%s: %w", host, err)
	}
	if resp.StatusCode < from || resp.StatusCode > to {
		return fmt.Errorf("%s: status %d", host, resp.StatusCode)
	}
	return nil
}

// checkH2 asks whether HTTP/2 is chosen when it is offered.
func (r *Running) checkH2(e *Env) error {
	tc, err := r.visit(e, e.Table.Hosts[0], "h2", "http/1.1")
	if err != nil {
		return err
	}
	defer tc.Close()
	if got := tc.ConnectionState().NegotiatedProtocol; got != "h2" {
		return fmt.Errorf("chose %q instead of h2", got)
	}
	return nil
}

package e2e

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"net"
	"time"

	"gatehouse.dev/gatehouse/test/kube/load"
)

// front is one backend, served in every way that Gatehouse has: a host for each.
type front struct {
	w *world
	r *release
	// Where the clients connect to: HOST:PORT for HTTP and HTTPS.
	http, https string
	// dial opens connections; nil for a net.Dialer.
	dial func(ctx context.Context, network, addr string) (net.Conn, error)
}

// Hosts are WAY.NAMESPACE.test.
const (
	plain       = "plain"       // HTTP, and HTTP/2 with prior knowledge
	offloading  = "offloading"  // TLS to Gatehouse, HTTP behind it
	bridging    = "bridging"    // TLS to Gatehouse, TLS behind it
	passthrough = "passthrough" // TLS to the backend
	calls       = "grpc"        // gRPC, TLS to Gatehouse
)

// front makes a backend with replicas, its Ingresses and their Secret, and waits
// until each way works.
func (w *world) front(r *release, replicas int, env ...string) *front {
	w.Helper()
	f := &front{w: w, r: r, http: r.http(w.c, 0), https: r.https(w.c, 0)}
	w.backend("backend", replicas, env...)
	f.certificate()
	for _, i := range []struct{ way, port, annotations string }{
		{plain, "http", ""},
		{offloading, "http", ""},
		{bridging, "https", `nginx.ingress.kubernetes.io/backend-protocol: HTTPS`},
		{passthrough, "https", `nginx.ingress.kubernetes.io/ssl-passthrough: "true"`},
		{calls, "grpc", `nginx.ingress.kubernetes.io/backend-protocol: GRPC`},
	} {
		secret := "tls: [{secretName: tls, hosts: [" + f.host(i.way) + "]}]"
		if i.way == plain || i.way == passthrough {
			secret = ""
		}
		w.apply(`
apiVersion: networking.k8s.io/v1
kind: Ingress
metadata: {name: %s, annotations: {%s}}
spec:
  ingressClassName: %s
  rules: [{host: %s, http: {paths: [{path: /, pathType: Prefix, backend: {service: {name: backend, port: {name: %s}}}}]}}]
  %s
`, i.way, i.annotations, r.class, f.host(i.way), i.port, secret)
	}
	w.within(effective, "every way works", func() error { return f.probe(w.ctx) })
	return f
}

func (f *front) host(way string) string { return way + "." + f.w.ns + ".test" }

// certificate writes a new certificate for all hosts into the Secret.
func (f *front) certificate() {
	f.w.Helper()
	cert, key, err := selfSigned("*." + f.w.ns + ".test")
	if err != nil {
		f.w.Fatal(err)
	}
	f.w.apply("{apiVersion: v1, kind: Secret, metadata: {name: tls}, type: kubernetes.io/tls, data: {tls.crt: %s, tls.key: %s}}",
		base64.StdEncoding.EncodeToString(cert), base64.StdEncoding.EncodeToString(key))
}

// flows are steady clients of every kind and way, rate requests a second each.
func (f *front) flows(rate float64) []load.Flow {
	plainly, secure := f.http, f.https
	trust := &tls.Config{InsecureSkipVerify: true} // what is tested is that it goes on
	return []load.Flow{
		{Name: "h1", Kind: load.HTTP1, Target: plainly, Host: f.host(plain), Rate: rate, Connections: 4, Fresh: 0.1},
		{Name: "h1 offloading", Kind: load.HTTP1, Target: secure, Host: f.host(offloading), TLS: trust, Rate: rate, Connections: 2, Fresh: 0.1},
		{Name: "h1 bridging", Kind: load.HTTP1, Target: secure, Host: f.host(bridging), TLS: trust, Rate: rate, Connections: 2},
		{Name: "h1 passthrough", Kind: load.HTTP1, Target: secure, Host: f.host(passthrough), TLS: trust, Rate: rate, Connections: 2, Fresh: 0.1},
		{Name: "h2c", Kind: load.HTTP2, Target: plainly, Host: f.host(plain), Rate: rate},
		{Name: "h2 offloading", Kind: load.HTTP2, Target: secure, Host: f.host(offloading), TLS: trust, Rate: rate, Connections: 2},
		{Name: "h2 bridging", Kind: load.HTTP2, Target: secure, Host: f.host(bridging), TLS: trust, Rate: rate},
		{Name: "websocket", Kind: load.WebSocket, Target: secure, Host: f.host(offloading), TLS: trust, Rate: rate, Connections: 4},
		{Name: "grpc unary", Kind: load.Unary, Target: secure, Host: f.host(calls), TLS: trust, Rate: rate, Connections: 2},
		{Name: "grpc stream", Kind: load.Bidi, Target: secure, Host: f.host(calls), TLS: trust, Rate: rate, Connections: 4},
	}
}

// probe is nil when every flow works for a moment.
func (f *front) probe(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	l, err := load.Start(ctx, load.Options{Flows: f.flows(20), Dial: f.dial, Timeout: 2 * time.Second})
	if err != nil {
		return err
	}
	for ctx.Err() == nil {
		r := l.Report()
		done := true
		for _, flow := range r.Flows {
			done = done && flow.Succeeded+flow.Failed > 2
		}
		if done {
			break
		}
		select {
		case <-ctx.Done():
		case <-time.After(50 * time.Millisecond):
		}
	}
	return errors.Join(l.Stop().Err(), ctx.Err())
}

// selfSigned is a certificate for hosts and its key, in PEM.
func selfSigned(hosts ...string) (cert, key []byte, err error) {
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, nil, err
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(time.Now().UnixNano()),
		Subject:      pkix.Name{CommonName: fmt.Sprint(time.Now().UnixNano())},
		DNSNames:     hosts,
		NotBefore:    time.Now().Add(-time.Hour),
		NotAfter:     time.Now().AddDate(1, 0, 0),
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, k.Public(), k)
	if err != nil {
		return nil, nil, err
	}
	pkcs8, err := x509.MarshalPKCS8PrivateKey(k)
	if err != nil {
		return nil, nil, err
	}
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}),
		pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: pkcs8}), nil
}

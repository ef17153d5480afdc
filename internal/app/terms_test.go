package app

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/base64"
	"fmt"
	"math/big"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"gatehouse.dev/gatehouse/internal/verdict"
)

// tlsManifest is an Ingress with a certificate of that life.
func tlsManifest(t *testing.T, begin, end time.Time) string {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	c := &x509.Certificate{SerialNumber: big.NewInt(1), DNSNames: []string{"one.test"}, NotBefore: begin, NotAfter: end}
	der, err := x509.CreateCertificate(rand.Reader, c, c, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	raw, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	encode := func(kind string, der []byte) string {
		return base64.StdEncoding.EncodeToString(pemBlock(kind, der))
	}
	return fmt.Sprintf(`{apiVersion: v1, kind: Secret, type: kubernetes.io/tls, metadata: {name: one}, data: {tls.crt: %s, tls.key: %s}}
---
{apiVersion: v1, kind: Service, metadata: {name: s}, spec: {ports: [{port: 80}]}}
---
apiVersion: networking.k8s.io/v1
kind: Ingress
metadata: {name: i}
spec:
  tls: [{hosts: [one.test], secretName: one}]
  rules: [{host: one.test, http: {paths: [{pathType: Prefix, path: /, backend: {service: {name: s, port: {number: 80}}}}]}}]
`, encode("CERTIFICATE", der), encode("PRIVATE KEY", raw))
}

// TestCertificateEndsWhileServing: nobody touches an object, and still the verdict
// changes when the certificate ends; the configuration stays the same.
func TestCertificateEndsWhileServing(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	now := time.Now()
	if err := os.WriteFile(filepath.Join(dir, "all.yaml"), []byte(tlsManifest(t, now.Add(-24*time.Hour), now.Add(3*time.Second))), 0o600); err != nil {
		t.Fatal(err)
	}
	g := startGateway(t, testOptions(dir))
	has := func(reason verdict.Reason) bool {
		return slices.ContainsFunc(g.Verdicts(), func(v verdict.Verdict) bool {
			return v.Reason == reason && v.Object.Name == "i" && v.Field == "spec.tls[0].secretName"
		})
	}
	if before := g.loop.state().config; !has(verdict.CertificateExpires) {
		t.Logf("it has ended before the start was over: %v", g.Verdicts())
	} else {
		defer func() {
			if g.loop.state().config != before {
				t.Error("the configuration was made anew")
			}
		}()
	}
	eventually(t, "the certificate has expired", func() bool { return has(verdict.CertificateExpired) })
	if has(verdict.CertificateExpires) {
		t.Error("it expires, though it has")
	}
}

// TestCheckTellsTerms: check says of each Secret that is shown when it expires.
func TestCheckTellsTerms(t *testing.T) {
	f := func(begin, end time.Duration, want ...string) {
		t.Helper()
		now := time.Now()
		var out, errs strings.Builder
		std := Streams{In: strings.NewReader(tlsManifest(t, now.Add(begin), now.Add(end))), Out: &out, Err: &errs}
		r, err := (&checkRun{Options: Defaults()}).check(t.Context(), []string{"-"}, std)
		if err != nil {
			t.Fatal(err)
		}
		if err := r.print(&out); err != nil {
			t.Fatal(err)
		}
		for _, w := range want {
			if !strings.Contains(out.String(), w) {
				t.Errorf("no %q in\n%s", w, out.String())
			}
		}
	}
	const day = 24 * time.Hour
	f(-day, 90*day+time.Hour, "    certificate: expires on 20", "(in 90 days)", "accepted  Secret default/one")
	f(-80*day, 10*day+time.Hour, "(in 10 days)", "Warning CertificateExpires at spec.tls[0].secretName: Secret default/one: the certificate expires on")
	f(-80*day, day+time.Hour, "(in 1 day)")
	f(-80*day, 90*time.Minute, "(in 1h29m0s)")
	f(-80*day, -day, "certificate: EXPIRED on 20", "Warning CertificateExpired")
	f(day, 80*day, "certificate: NOT VALID before 20", "Warning CertificateNotYetValid")
}

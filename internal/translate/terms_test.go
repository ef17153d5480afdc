package translate

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"math/big"
	"slices"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"gatehouse.dev/gatehouse/internal/verdict"
	"gatehouse.dev/gatehouse/internal/view"
)

// secretUntil is a TLS Secret of the namespace default with a certificate of 90 days.
func secretUntil(t *testing.T, name string, end time.Time) *corev1.Secret {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	c := &x509.Certificate{SerialNumber: big.NewInt(1), DNSNames: []string{name + ".com"}, NotBefore: end.AddDate(0, 0, -90), NotAfter: end}
	der, err := x509.CreateCertificate(rand.Reader, c, c, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	raw, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	return &corev1.Secret{
		ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: name}, Type: corev1.SecretTypeTLS,
		Data: map[string][]byte{
			"tls.crt": pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}),
			"tls.key": pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: raw}),
		},
	}
}

// TestTermsInTime: time alone changes what is said, at the times that the Report
// names, and a Build with a Memory says the same as one without.
func TestTermsInTime(t *testing.T) {
	const day = 24 * time.Hour
	start := time.Date(2026, 6, 1, 0, 0, 0, 0, time.UTC)
	store := view.NewStore()
	for _, o := range objectsOf(t, svc("a")+
		object("shop", rules(rule("one.com", "Prefix / a"), rule("two.com", "Prefix / a"))+tlsSpec(tls("one", "one.com"), tls("two", "two.com")))+
		object("more", rules(rule("two.com", "Prefix /m a"))+tlsSpec(tls("two", "two.com")))+
		object("none", rules(rule("none.com", "Prefix / a")))) {
		store.Apply([]metav1.Object{o}, nil)
	}
	set := func(s *corev1.Secret) { store.Apply([]metav1.Object{s}, nil) }
	set(secretUntil(t, "one", start.Add(30*day)))
	set(secretUntil(t, "two", start.Add(60*day)))
	set(secretUntil(t, "fallback", start.Add(40*day)))
	o := testOptions(t)
	o.DefaultTLSSecret = types.NamespacedName{Namespace: "default", Name: "fallback"}
	o.Memory = NewMemory()
	f := func(after time.Duration, due time.Duration, want ...string) {
		t.Helper()
		o.Now = start.Add(after)
		cfg, report := Build(store.View(), o)
		var got []string
		for _, v := range report.Verdicts {
			got = append(got, fmt.Sprintf("%s %s %s", v.Object.Name, v.Field, v.Reason))
			if v.Severity != verdict.Warning || v.Remedy == "" {
				t.Errorf("after %v: %v", after, v)
			}
		}
		dueAt := time.Time{}
		if due != 0 {
			dueAt = start.Add(due)
		}
		if !slices.Equal(got, want) || report.Due.Sub(dueAt).Abs() > time.Nanosecond {
			t.Errorf("after %v: %q, due %v, want %q, %v", after, got, report.Due, want, dueAt)
		}
		anew := o
		anew.Memory = nil
		cfg2, report2 := Build(store.View(), anew)
		if !slices.Equal(report.Verdicts, report2.Verdicts) || !report.Due.Equal(report2.Due) || show(cfg) != show(cfg2) {
			t.Errorf("after %v, made anew: %v, due %v", after, report2.Verdicts, report2.Due)
		}
	}
	const one, two, more = "shop spec.tls[0].secretName ", "shop spec.tls[1].secretName ", "more spec.tls[0].secretName "
	f(0, 9*day)
	f(9*day-1, 9*day)
	f(9*day, 19*day, one+"CertificateExpires")
	f(19*day, 30*day, one+"CertificateExpires", "fallback  CertificateExpires")
	f(30*day, 30*day, one+"CertificateExpires", "fallback  CertificateExpires") // until its last moment
	f(30*day+1, 39*day, one+"CertificateExpired", "fallback  CertificateExpires")
	f(39*day, 40*day, more+"CertificateExpires", one+"CertificateExpired", two+"CertificateExpires", "fallback  CertificateExpires")
	set(secretUntil(t, "one", start.Add(120*day))) // renewed
	f(39*day, 40*day, more+"CertificateExpires", two+"CertificateExpires", "fallback  CertificateExpires")
	set(secretUntil(t, "fallback", start.Add(100*day)))
	f(39*day, 60*day, more+"CertificateExpires", two+"CertificateExpires")
	f(0, 10*day, "shop spec.tls[0].secretName CertificateNotYetValid", "fallback  CertificateNotYetValid") // the clock was set back
	f(60*day+1, 79*day, more+"CertificateExpired", two+"CertificateExpired")
	store.Delete(store.View().Ingress("default", "shop"))
	f(60*day+1, 79*day, more+"CertificateExpired")
	store.Delete(store.View().Ingress("default", "more"))
	f(60*day+1, 79*day)
}

// TestTermsNotAsked: without a time nothing is said of time.
func TestTermsNotAsked(t *testing.T) {
	store := view.NewStore()
	for _, o := range objectsOf(t, svc("a")+object("shop", rules(rule("one.com", "Prefix / a"))+tlsSpec(tls("one", "one.com")))) {
		store.Apply([]metav1.Object{o}, nil)
	}
	store.Apply([]metav1.Object{secretUntil(t, "one", time.Unix(1_000_000_000, 0))}, nil)
	if _, report := Build(store.View(), testOptions(t)); len(report.Verdicts) > 0 || !report.Due.IsZero() {
		t.Errorf("%v, %v", report.Verdicts, report.Due)
	}
}

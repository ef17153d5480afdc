package resolve

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"gatehouse.dev/gatehouse/internal/verdict"
	"gatehouse.dev/gatehouse/internal/view"
)

// authority gives a certificate authority and a revocation list of it, in PEM.
func authority(t *testing.T) (ca, crl []byte) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "ca"}, IsCA: true, BasicConstraintsValid: true,
		KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageCRLSign, NotBefore: time.Unix(0, 0), NotAfter: time.Unix(1<<32, 0),
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	list, err := x509.CreateRevocationList(rand.Reader, &x509.RevocationList{Number: big.NewInt(1), ThisUpdate: time.Unix(0, 0), NextUpdate: time.Unix(1<<32, 0)}, cert, key)
	if err != nil {
		t.Fatal(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), pem.EncodeToMemory(&pem.Block{Type: "X509 CRL", Bytes: list})
}

func viewWith(s *corev1.Secret) *view.View {
	store := view.NewStore()
	store.Set(s)
	return store.View()
}

func opaque(data map[string][]byte) *corev1.Secret {
	return &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: "x", Name: "s"}, Data: data}
}

var nameOfSecret = types.NamespacedName{Namespace: "x", Name: "s"}

func TestAuthority(t *testing.T) {
	ca, crl := authority(t)
	broken := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: []byte("x")})
	brokenList := pem.EncodeToMemory(&pem.Block{Type: "X509 CRL", Bytes: []byte("x")})
	both := func(a, b []byte) []byte { return append(append([]byte{}, a...), b...) }
	f := func(name string, data map[string][]byte, want string) {
		t.Helper()
		c := NewCertificates()
		for range 2 { // the second answer is remembered
			got, problem := c.Authority(viewWith(opaque(data)), nameOfSecret)
			switch {
			case want == "" && (problem != nil || string(got.CAs) != string(data["ca.crt"]) || string(got.CRL) != string(data["ca.crl"])):
				t.Errorf("%s: %v", name, problem)
			case want != "" && (problem == nil || problem.Reason != verdict.SecretInvalid || !strings.Contains(problem.Message, want) || got.CAs != nil):
				t.Errorf("%s: %v, want %q", name, problem, want)
			}
		}
	}
	f("one", map[string][]byte{"ca.crt": ca}, "")
	f("two, with text", map[string][]byte{"ca.crt": both([]byte("# text\n"), both(ca, ca))}, "")
	f("with a list", map[string][]byte{"ca.crt": ca, "ca.crl": crl}, "")
	// Who has put an empty list there, as a job that failed does, has not asked for none.
	f("empty list", map[string][]byte{"ca.crt": ca, "ca.crl": nil}, "ca.crl holds no")
	f("blank list", map[string][]byte{"ca.crt": ca, "ca.crl": []byte(" \n")}, "ca.crl holds no")
	f("one of two lists cut", map[string][]byte{"ca.crt": ca, "ca.crl": both(crl, crl[:len(crl)-40])}, "of 2 PEM blocks only 1")
	f("one list glued to the other", map[string][]byte{"ca.crt": ca, "ca.crl": both(crl[:len(crl)-1], both(crl, crl))}, "PEM blocks only")
	f("a list of another type", map[string][]byte{"ca.crt": ca, "ca.crl": both(crl, bytes.ReplaceAll(crl, []byte("X509 CRL"), []byte("CRL")))}, `type "CRL"`)
	f("a certificate beside the list", map[string][]byte{"ca.crt": ca, "ca.crl": both(crl, ca)}, "")
	f("nothing", nil, "ca.crt is missing")
	f("empty", map[string][]byte{"ca.crt": nil}, "ca.crt is missing")
	f("no PEM", map[string][]byte{"ca.crt": []byte("x")}, "ca.crt is missing")
	f("only a certificate of its own", map[string][]byte{"tls.crt": ca}, "ca.crt is missing")
	f("broken", map[string][]byte{"ca.crt": broken}, "ca.crt: ")
	f("one of two broken", map[string][]byte{"ca.crt": both(ca, broken)}, "ca.crt: ")
	f("list without PEM", map[string][]byte{"ca.crt": ca, "ca.crl": []byte("x")}, "ca.crl holds no")
	f("a certificate for a list", map[string][]byte{"ca.crt": ca, "ca.crl": ca}, "ca.crl holds no")
	f("broken list", map[string][]byte{"ca.crt": ca, "ca.crl": both(crl, brokenList)}, "ca.crl: ")

	if _, problem := NewCertificates().Authority(view.NewStore().View(), nameOfSecret); problem == nil || problem.Reason != verdict.SecretNotFound {
		t.Errorf("no Secret: %v", problem)
	}
}

// TestAuthorityFlaws: an authority that is lost bars its clients, and lets nobody in:
// the others are trusted, with a word.
func TestAuthorityFlaws(t *testing.T) {
	ca, _ := authority(t)
	f := func(cas []byte, want string) {
		t.Helper()
		got, problem := NewCertificates().Authority(viewWith(opaque(map[string][]byte{"ca.crt": cas})), nameOfSecret)
		if problem != nil {
			t.Fatal(problem)
		}
		if text := fmt.Sprint(got.Flaws); (len(got.Flaws) == 0) != (want == "") || !strings.Contains(text, want) {
			t.Errorf("%s, want %q", text, want)
		}
	}
	f(ca, "")
	f(bytes.Join([][]byte{ca, ca}, nil), "")
	f(bytes.Join([][]byte{ca, ca[:len(ca)-40]}, nil), "of 2 PEM blocks in ca.crt only 1 can be read")
	f(bytes.Join([][]byte{ca, bytes.ReplaceAll(ca, []byte(" CERT"), []byte(" TRUSTED CERT"))}, nil), `type "TRUSTED CERTIFICATE"`)
}

// TestAuthorityIsForgotten: what is not read between two Sweeps does not stay
// in memory.
func TestAuthorityIsForgotten(t *testing.T) {
	ca, _ := authority(t)
	c := NewCertificates()
	v := viewWith(opaque(map[string][]byte{"ca.crt": ca}))
	c.Authority(v, nameOfSecret)
	c.Sweep()
	if len(c.authorities) != 1 {
		t.Errorf("%d remembered after the first Sweep", len(c.authorities))
	}
	c.Sweep()
	if len(c.authorities) != 0 {
		t.Errorf("%d remembered after the second", len(c.authorities))
	}
}

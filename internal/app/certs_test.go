package app

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/pem"
	"fmt"
	"math/big"
	"strings"
	"sync"
	"testing"
	"time"
)

// rsaKeys are made once: they take long.
var rsaKeys = sync.OnceValue(func() [2]*rsa.PrivateKey {
	var keys [2]*rsa.PrivateKey
	for i := range keys {
		k, err := rsa.GenerateKey(rand.Reader, 2048)
		if err != nil {
			panic(err)
		}
		keys[i] = k
	}
	return keys
})

// authority issues the certificates of a test and knows them again.
type authority struct {
	t      testing.TB
	ca     *demoCA
	serial int64
	issued map[string]string // DER of the leaf: the Secret it was made for
}

func newAuthority(t testing.TB) *authority {
	ca, err := newDemoCA(time.Now())
	if err != nil {
		t.Fatal(err)
	}
	return &authority{t: t, ca: ca, serial: 100, issued: map[string]string{}}
}

func (a *authority) pool() *x509.CertPool {
	p := x509.NewCertPool()
	p.AddCert(a.ca.cert)
	return p
}

// secret makes the manifest of a Secret from a line such as
//
//	ns/name hosts=a.example.com,b.example.com key=rsa
//
// Words that may follow: expired, mismatch (the key of another certificate),
// nokey, garbage, type=Opaque, as=NAME (what requests call the certificate,
// for when a Secret gets a new one; default ns/name).
func (a *authority) secret(line string) (name, manifest string) {
	a.t.Helper()
	words := strings.Fields(line)
	name = words[0]
	namespace, short, ok := strings.Cut(name, "/")
	if !ok {
		a.t.Fatalf("certs: %q: begin with namespace/name", line)
	}
	as, typ, kind := name, "kubernetes.io/tls", "ecdsa"
	var hosts []string
	flags := map[string]bool{}
	for _, w := range words[1:] {
		key, value, _ := strings.Cut(w, "=")
		switch key {
		case "hosts":
			hosts = strings.Split(value, ",")
		case "key":
			kind = value
		case "type":
			typ = value
		case "as":
			as = value
		case "expired", "mismatch", "nokey", "garbage":
			flags[key] = true
		default:
			a.t.Fatalf("certs: %q: unknown word %q", line, w)
		}
	}
	chain, key := a.issue(as, hosts, kind, flags["expired"])
	switch {
	case flags["mismatch"]:
		_, key = a.issue("", hosts, kind, false)
	case flags["nokey"]:
		key = nil
	case flags["garbage"]:
		chain = []byte("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n")
	}
	encode := base64.StdEncoding.EncodeToString
	return name, fmt.Sprintf("apiVersion: v1\nkind: Secret\nmetadata: {namespace: %s, name: %s}\ntype: %s\ndata:\n  tls.crt: %q\n  tls.key: %q\n",
		namespace, short, typ, encode(chain), encode(key))
}

func (a *authority) issue(as string, hosts []string, kind string, expired bool) (chain, key []byte) {
	a.t.Helper()
	var k crypto.Signer
	var err error
	switch kind {
	case "ecdsa":
		k, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	case "rsa":
		k = rsaKeys()[0]
		if as == "" {
			k = rsaKeys()[1]
		}
	default:
		a.t.Fatalf("certs: key=%s: give ecdsa or rsa", kind)
	}
	if err != nil {
		a.t.Fatal(err)
	}
	a.serial++
	template := &x509.Certificate{
		SerialNumber: big.NewInt(a.serial), Subject: pkix.Name{CommonName: as}, DNSNames: hosts,
		NotBefore: time.Now().Add(-48 * time.Hour), NotAfter: time.Now().Add(24 * time.Hour),
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	if expired {
		template.NotAfter = time.Now().Add(-24 * time.Hour)
	}
	der, err := x509.CreateCertificate(rand.Reader, template, a.ca.cert, k.Public(), a.ca.key)
	if err != nil {
		a.t.Fatal(err)
	}
	a.issued[string(der)] = as
	pk, err := x509.MarshalPKCS8PrivateKey(k)
	if err != nil {
		a.t.Fatal(err)
	}
	return pemBlock("CERTIFICATE", der), pemBlock("PRIVATE KEY", pk)
}

// nameOf says which certificate this is: "default" for one that was not made
// here.
func (a *authority) nameOf(der []byte) string {
	if as, ok := a.issued[string(der)]; ok {
		return as
	}
	return "default"
}

func pemBlock(kind string, der []byte) []byte {
	var b bytes.Buffer
	if err := pem.Encode(&b, &pem.Block{Type: kind, Bytes: der}); err != nil {
		panic(err)
	}
	return b.Bytes()
}

package app

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/pem"
	"fmt"
	"io"
	"log"
	"math/big"
	"slices"
	"strconv"
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
	t       testing.TB
	ca      *demoCA
	others  map[string]*demoCA // by name, made when first named
	serial  int64
	issued  map[string]string          // DER of the leaf: the Secret it was made for
	clients map[string]tls.Certificate // of the section "clients"
}

// discardLog is for servers whose clients break off on purpose.
func discardLog() *log.Logger { return log.New(io.Discard, "", 0) }

// issued says what certificate to make.
type issued struct {
	as      string // what it is called, and its common name
	hosts   []string
	kind    string // of key: ecdsa or rsa
	expired bool
	from    string // name of the CA, "" for the usual one
	client  bool   // for a client, not a server
	via     int    // intermediate authorities between the CA and it
	self    bool   // signed by itself
	root    bool   // shown with the CA's own certificate
}

// by gives the CA with the name.
func (a *authority) by(name string) *demoCA {
	a.t.Helper()
	if name == "" {
		return a.ca
	}
	if a.others[name] == nil {
		ca, err := newDemoCA(time.Now())
		if err != nil {
			a.t.Fatal(err)
		}
		a.others[name] = ca
	}
	return a.others[name]
}

// addClient makes a client certificate from a line such as
//
//	alice cn=Alice
//
// Words that may follow: from=CA, expired, via=N (intermediate authorities), root
// (it shows the CA's certificate too), self (it has signed itself).
func (a *authority) addClient(line string) {
	a.t.Helper()
	words := strings.Fields(line)
	i := issued{as: words[0], kind: "ecdsa", client: true}
	for _, w := range words[1:] {
		switch key, value, _ := strings.Cut(w, "="); key {
		case "cn":
			i.as = value
		case "from":
			i.from = value
		case "expired":
			i.expired = true
		case "via":
			i.via, _ = strconv.Atoi(value)
		case "root":
			i.root = true
		case "self":
			i.self = true
		default:
			a.t.Fatalf("clients: %q: unknown word %q", line, w)
		}
	}
	pair, err := tls.X509KeyPair(a.issue(i))
	if err != nil {
		a.t.Fatal(err)
	}
	a.clients[words[0]] = pair
}

// revoke makes a revocation list with the client's certificate.
func (a *authority) revoke(client, from string) []byte {
	a.t.Helper()
	leaf, err := x509.ParseCertificate(a.clients[client].Certificate[0])
	if err != nil {
		a.t.Fatalf("certs: revokes=%s: %v", client, err)
	}
	ca := a.by(from)
	der, err := x509.CreateRevocationList(rand.Reader, &x509.RevocationList{
		Number: big.NewInt(1), ThisUpdate: time.Now().Add(-time.Hour), NextUpdate: time.Now().Add(24 * time.Hour),
		RevokedCertificateEntries: []x509.RevocationListEntry{{SerialNumber: leaf.SerialNumber, RevocationTime: time.Now().Add(-time.Hour)}},
	}, ca.cert, ca.key)
	if err != nil {
		a.t.Fatal(err)
	}
	return pemBlock("X509 CRL", der)
}

func newAuthority(t testing.TB) *authority {
	ca, err := newDemoCA(time.Now())
	if err != nil {
		t.Fatal(err)
	}
	return &authority{t: t, ca: ca, serial: 100, issued: map[string]string{}, others: map[string]*demoCA{}, clients: map[string]tls.Certificate{}}
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
// for when a Secret gets a new one; default ns/name), from=CA (of another
// authority, with any name), ca and ca=NAME (it has the ca.crt of the usual or
// the named authority), only-ca (and no certificate), revokes=CLIENT (it has a
// ca.crl with that client's certificate).
func (a *authority) secret(line string) (name, manifest string) {
	a.t.Helper()
	words := strings.Fields(line)
	name = words[0]
	namespace, short, ok := strings.Cut(name, "/")
	if !ok {
		a.t.Fatalf("certs: %q: begin with namespace/name", line)
	}
	encode := base64.StdEncoding.EncodeToString
	as, typ, kind := name, "kubernetes.io/tls", "ecdsa"
	var hosts []string
	flags := map[string]bool{}
	more, from := "", ""
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
		case "from":
			from = value
		case "ca":
			more += fmt.Sprintf("  ca.crt: %q\n", encode(pemBlock("CERTIFICATE", a.by(value).der)))
		case "revokes":
			more += fmt.Sprintf("  ca.crl: %q\n", encode(a.revoke(value, "")))
		case "expired", "mismatch", "nokey", "garbage", "only-ca":
			flags[key] = true
		default:
			a.t.Fatalf("certs: %q: unknown word %q", line, w)
		}
	}
	if flags["only-ca"] {
		return name, fmt.Sprintf("apiVersion: v1\nkind: Secret\nmetadata: {namespace: %s, name: %s}\ntype: Opaque\ndata:\n%s", namespace, short, more)
	}
	chain, key := a.issue(issued{as: as, hosts: hosts, kind: kind, expired: flags["expired"], from: from})
	switch {
	case flags["mismatch"]:
		_, key = a.issue(issued{hosts: hosts, kind: kind})
	case flags["nokey"]:
		key = nil
	case flags["garbage"]:
		chain = []byte("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n")
	}
	return name, fmt.Sprintf("apiVersion: v1\nkind: Secret\nmetadata: {namespace: %s, name: %s}\ntype: %s\ndata:\n  tls.crt: %q\n  tls.key: %q\n%s",
		namespace, short, typ, encode(chain), encode(key), more)
}

func (a *authority) issue(i issued) (chain, key []byte) {
	a.t.Helper()
	var k crypto.Signer
	var err error
	switch i.kind {
	case "ecdsa":
		k, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	case "rsa":
		k = rsaKeys()[0]
		if i.as == "" {
			k = rsaKeys()[1]
		}
	default:
		a.t.Fatalf("certs: key=%s: give ecdsa or rsa", i.kind)
	}
	if err != nil {
		a.t.Fatal(err)
	}
	a.serial++
	template := &x509.Certificate{
		SerialNumber: big.NewInt(a.serial), Subject: pkix.Name{CommonName: i.as}, DNSNames: i.hosts,
		NotBefore: time.Now().Add(-48 * time.Hour), NotAfter: time.Now().Add(24 * time.Hour),
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	if i.client {
		template.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}
	}
	if i.expired {
		template.NotAfter = time.Now().Add(-24 * time.Hour)
	}
	ca := a.by(i.from)
	if i.root {
		chain = pemBlock("CERTIFICATE", ca.der)
	}
	for range i.via {
		ca = a.below(ca)
		chain = slices.Concat(pemBlock("CERTIFICATE", ca.der), chain)
	}
	parent, signer := ca.cert, crypto.Signer(ca.key)
	if i.self {
		parent, signer = template, k
	}
	der, err := x509.CreateCertificate(rand.Reader, template, parent, k.Public(), signer)
	if err != nil {
		a.t.Fatal(err)
	}
	a.issued[string(der)] = i.as
	pk, err := x509.MarshalPKCS8PrivateKey(k)
	if err != nil {
		a.t.Fatal(err)
	}
	return slices.Concat(pemBlock("CERTIFICATE", der), chain), pemBlock("PRIVATE KEY", pk)
}

// below makes an authority under another.
func (a *authority) below(ca *demoCA) *demoCA {
	a.t.Helper()
	made, err := newDemoCA(time.Now())
	if err != nil {
		a.t.Fatal(err)
	}
	a.serial++
	template := *made.cert
	template.SerialNumber, template.Subject.CommonName = big.NewInt(a.serial), fmt.Sprintf("intermediate %d", a.serial)
	template.RawSubject = nil // which would win
	if made.der, err = x509.CreateCertificate(rand.Reader, &template, ca.cert, made.key.Public(), ca.key); err != nil {
		a.t.Fatal(err)
	}
	if made.cert, err = x509.ParseCertificate(made.der); err != nil {
		a.t.Fatal(err)
	}
	return made
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

package certs

import (
	"bytes"
	"crypto/x509"
	"errors"
	"fmt"
	"slices"
	"time"
)

// What nginx lets pass under ssl_verify_client optional_no_ca, in the words in
// which it tells the backend (OpenSSL 3's). Its fifth, "certificate not trusted",
// needs a CA file with OpenSSL's own trust settings.
const (
	selfSigned        = "self-signed certificate"
	selfSignedInChain = "self-signed certificate in certificate chain"
	issuerUnknown     = "unable to get local issuer certificate"
	leafUnverifiable  = "unable to verify the first certificate"
)

var errUsage = errors.New("the certificate may not be used for signatures")

// unverified judges a certificate that verifyClient refused with err, where the
// issuer need not be known. It gives the reason to let it pass with, or what else
// is wrong with it: then it is refused for that.
//
// As OpenSSL does, it follows the issuers' names. When they lead to a CA that is
// known, err stands. Else what is shown is judged as if its end were trusted.
func (v *verifier) unverified(shown []*x509.Certificate, err error, now time.Time) (reason string, _ error) {
	path, known := v.path(shown)
	if known {
		return "", err
	}
	leaf, top := path[0], path[len(path)-1]
	switch own := issued(top, top); {
	case !own && len(path) == 1:
		// There is nothing to judge it by, and nginx looks at its time only: what
		// else OpenSSL finds, this reason replaces.
		if now.Before(leaf.NotBefore) || now.After(leaf.NotAfter) {
			return "", x509.CertificateInvalidError{Cert: leaf, Reason: x509.Expired, Detail: fmt.Sprintf("it is for %s to %s", leaf.NotBefore, leaf.NotAfter)}
		}
		return leafUnverifiable, nil
	case !own:
		reason = issuerUnknown
	case len(path) == 1:
		reason = selfSigned
	default:
		reason = selfSignedInChain
	}
	alone := verifier{roots: x509.NewCertPool(), depth: -1}
	alone.roots.AddCert(top)
	if err := alone.verifyClient(path, now); err != nil {
		return "", err
	}
	if len(v.crls) == 0 {
		return reason, nil
	}
	for i, c := range path {
		if err := v.revoked(c, path[min(i+1, len(path)-1)], now); err != nil {
			return "", err
		}
	}
	return reason, nil
}

// path follows the issuers of a client's certificate through those it shows, at
// most as far as the depth goes; known: it leads to a CA.
func (v *verifier) path(shown []*x509.Certificate) (path []*x509.Certificate, known bool) {
	path = shown[:1:1]
	for v.depth < 0 || len(path) < v.depth+2 {
		c := path[len(path)-1]
		if issued(c, c) {
			// It issued itself: a CA of the same name is another one.
			return path, slices.ContainsFunc(v.cas, c.Equal)
		}
		isIssuer := func(parent *x509.Certificate) bool { return issued(parent, c) }
		if slices.ContainsFunc(v.cas, isIssuer) {
			return path, true
		}
		i := slices.IndexFunc(shown, isIssuer)
		if i < 0 || slices.Contains(path, shown[i]) {
			break
		}
		path = append(path, shown[i])
	}
	return path, false
}

// issued reports whether the certificate names the parent as its issuer. Whether
// the parent has signed it is another question.
func issued(parent, c *x509.Certificate) bool {
	return bytes.Equal(parent.RawSubject, c.RawIssuer) &&
		(len(c.AuthorityKeyId) == 0 || len(parent.SubjectKeyId) == 0 || bytes.Equal(parent.SubjectKeyId, c.AuthorityKeyId))
}

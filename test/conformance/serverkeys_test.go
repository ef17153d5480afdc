package conformance

import (
	"crypto/rand"
	"crypto/rsa"
	"crypto/tls"
	"fmt"
	"strings"
	"testing"
	"time"
)

// TestServerKeys: certificates of every kind of key, with the suites and the
// signatures that go with them; of two for one name each client gets the one that
// it can use.
func TestServerKeys(t *testing.T) {
	judge(t, "tls-clients", "OpenSSL, curl: RSA certificates of 2048 and 3072 bits, RSA-PSS and PKCS #1 signatures, TLS 1.2 suites")
	ca := newAuthority(t, "judge")
	var objects []object
	for _, bits := range []int{2048, 3072} {
		key, err := rsa.GenerateKey(rand.Reader, bits)
		if err != nil {
			t.Fatal(err)
		}
		host := fmt.Sprintf("rsa%d.test", bits)
		objects = append(objects, tlsSecret(host, ca.issueFor(key, time.Hour, host, "both.test"))...)
		objects = append(objects, ingress(host, host, "mirror", host)...)
	}
	e := startEdge(t, documents(objects,
		tlsSecret("ec.test", ca.issue(time.Hour, "ec.test", "both.test")),
		ingress("ec.test", "ec.test", "mirror", "ec.test"),
		ingress("both-ec", "both.test", "mirror", "ec.test"),
		ingress("both-rsa", "both.test", "mirror", "rsa2048.test"),
		service("mirror", "", startMirror(t, nil)),
	))
	openssl, cafile := tool(t, "openssl", "openssl"), file(t, ca.pem())
	// f completes a handshake, or is refused when it wants nothing of it.
	f := func(host string, want []string, args ...string) {
		t.Helper()
		args = append([]string{"s_client", "-connect", e.https, "-servername", host, "-verify_hostname", host, "-CAfile", cafile, "-verify_return_error"}, args...)
		out, err := output(t, "", openssl, args...)
		if (err == nil) != (want != nil) {
			t.Errorf("openssl %s: %v\n%s", strings.Join(args, " "), err, out)
			return
		}
		for _, w := range want {
			if !strings.Contains(out, w) {
				t.Errorf("openssl %s: no %q in\n%s", strings.Join(args, " "), w, out)
			}
		}
	}
	pss, pkcs, ec := "signature type: RSA-PSS", "signature type: RSA\n", "signature type: ECDSA"
	if v, _ := output(t, "", openssl, "version"); strings.HasPrefix(v, "OpenSSL 3.") && !strings.HasPrefix(v, "OpenSSL 3.0") {
		pss, pkcs, ec = "signature type: rsa_pss", "signature type: rsa_pkcs1", "signature type: ecdsa"
	}
	for _, bits := range []string{"2048", "3072"} {
		host := "rsa" + bits + ".test"
		size := "Server public key is " + bits + " bit"
		f(host, []string{"TLSv1.3", size, pss}, "-tls1_3")
		f(host, []string{"TLSv1.3", size, pss, "Cipher is TLS_CHACHA20_POLY1305_SHA256"}, "-tls1_3", "-ciphersuites", "TLS_CHACHA20_POLY1305_SHA256")
		f(host, []string{"TLSv1.2", size, pss}, "-tls1_2")
		f(host, []string{"TLSv1.2", size, pss}, "-tls1_2", "-sigalgs", "RSA-PSS+SHA256:RSA-PSS+SHA384:RSA-PSS+SHA512")
		f(host, []string{"TLSv1.2", size, pkcs}, "-tls1_2", "-sigalgs", "RSA+SHA256:RSA+SHA384")
		// TLS 1.3 has no PKCS #1 signatures in handshakes (RFC 8446, section 4.2.3).
		f(host, nil, "-tls1_3", "-sigalgs", "RSA+SHA256")
		for _, suite := range []string{"AES128-GCM-SHA256", "AES256-GCM-SHA384", "CHACHA20-POLY1305"} {
			f(host, []string{"Cipher is ECDHE-RSA-" + suite}, "-tls1_2", "-cipher", "ECDHE-RSA-"+suite)
			f(host, nil, "-tls1_2", "-cipher", "ECDHE-ECDSA-"+suite)
		}
		for _, suite := range []string{"AES128-GCM-SHA256", "AES128-SHA", "DES-CBC3-SHA", "DHE-RSA-AES128-GCM-SHA256"} {
			f(host, nil, "-tls1_2", "-cipher", suite+":@SECLEVEL=0") // no forward secrecy, or not Go's
		}
	}
	f("ec.test", []string{"TLSv1.3", ec}, "-tls1_3")
	f("ec.test", nil, "-tls1_2", "-cipher", "ECDHE-RSA-AES128-GCM-SHA256")
	for _, suite := range []string{"AES128-GCM-SHA256", "AES256-GCM-SHA384", "CHACHA20-POLY1305"} {
		f("ec.test", []string{"Cipher is ECDHE-ECDSA-" + suite}, "-tls1_2", "-cipher", "ECDHE-ECDSA-"+suite)
		f("both.test", []string{"Cipher is ECDHE-ECDSA-" + suite, ec}, "-tls1_2", "-cipher", "ECDHE-ECDSA-"+suite)
		f("both.test", []string{"Cipher is ECDHE-RSA-" + suite, "2048 bit"}, "-tls1_2", "-cipher", "ECDHE-RSA-"+suite)
	}
	f("both.test", []string{"2048 bit", pss}, "-tls1_3", "-sigalgs", "RSA-PSS+SHA256")
	f("both.test", []string{ec}, "-tls1_3", "-sigalgs", "ECDSA+SHA256")

	curl := tool(t, "curl", "curl")
	for _, host := range []string{"rsa2048.test", "rsa3072.test", "both.test"} {
		for _, version := range []string{"1.2", "1.3"} {
			out, err := output(t, "", curl, "-sS", "--http2", "--cacert", cafile, "-o", "/dev/null", "-w", "%{http_version} %{http_code}", "--tlsv"+version, "--tls-max", version,
				"--resolve", host+":"+port(e.https)+":127.0.0.1", "https://"+host+":"+port(e.https)+"/")
			if err != nil || out != "2 200" {
				t.Errorf("curl, %s, TLS %s: %q, %v", host, version, out, err)
			}
		}
		c, err := tls.Dial("tcp", e.https, &tls.Config{RootCAs: ca.pool(), ServerName: host})
		if err != nil {
			t.Errorf("Go, %s: %v", host, err)
			continue
		}
		c.Close()
	}
}

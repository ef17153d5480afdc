package conformance

import (
	"encoding/json"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"
)

// TestTestSSL lets testssl.sh look for weaknesses of TLS: nothing above LOW, but
// for what it says of the certificate, which is the test's own, and of fields
// that are the backend's to set.
func TestTestSSL(t *testing.T) {
	judge(t, "testssl", "Protocols, ciphers, forward secrecy, known weaknesses: nothing above LOW")
	testssl := tool(t, "testssl", "testssl.sh")
	tool(t, "hexdump", "bsdextrautils")
	e, ca := offloadingEdge(t)
	report := filepath.Join(t.TempDir(), "report.json")
	out, _ := outputWithin(t, 8*time.Minute, "", testssl, "--quiet", "--color", "0", "--warnings", "off", "--add-ca", file(t, ca.pem()),
		"--ip", "127.0.0.1", "--jsonfile", report, "-p", "-s", "-f", "-P", "-S", "-h", "-U", "off.test:"+port(e.https))
	text, err := os.ReadFile(report)
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	var findings []struct{ ID, Severity, Finding string }
	if err := json.Unmarshal(text, &findings); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	seen := map[string]string{}
	excused := regexp.MustCompile(`^cert_(chain_of_trust|trust|revocation|crl|ocsp|expiration|validityPeriod|notAfter|extlife|caIssuers)|^engine_problem|^DNS_CAArecord|^security_headers`)
	for _, f := range findings {
		seen[f.ID] = f.Severity + " " + f.Finding
		switch f.Severity {
		case "OK", "INFO", "LOW", "DEBUG":
		default:
			if !excused.MatchString(f.ID) {
				t.Errorf("%s: %s: %s", f.ID, f.Severity, f.Finding)
			}
		}
	}
	// It has really looked.
	for id, want := range map[string]string{
		"SSLv3": "OK not offered", "TLS1": "INFO not offered", "TLS1_2": "OK offered", "TLS1_3": "OK offered", "ALPN_HTTP2": "OK h2",
		"heartbleed": "OK not vulnerable", "ROBOT": "OK not vulnerable", "LUCKY13": "", "SWEET32": "OK not vulnerable", "HSTS_time": "OK",
	} {
		if got, ok := seen[id]; !ok || !strings.HasPrefix(got, want) {
			t.Errorf("%s: %q, want %q", id, got, want)
		}
	}
	if t.Failed() {
		t.Log(out)
	}
}

// TestNGHTTP2 lets the tools of nghttp2 speak HTTP/2.
func TestNGHTTP2(t *testing.T) {
	judge(t, "http2-clients", "nghttp and h2load")
	nghttp, h2load := tool(t, "nghttp", "nghttp2-client"), tool(t, "h2load", "nghttp2-client")
	e, _ := offloadingEdge(t)
	secure, plain := "https://"+e.https, "http://"+e.http
	body := file(t, strings.Repeat("0123456789abcdef", 1<<16))
	f := func(want string, path string, args ...string) {
		t.Helper()
		out, err := output(t, "", path, args...)
		if err != nil || !regexp.MustCompile(want).MatchString(out) {
			t.Errorf("%s %s: %v, no %q in\n%s", filepath.Base(path), strings.Join(args, " "), err, want, out[max(0, len(out)-2000):])
		}
	}
	for _, url := range []string{secure + "/a", plain + "/b"} {
		f(`:status: 200`, nghttp, "-nvy", url)
		f(`:status: 200`, nghttp, "-nvy", "-H:method: POST", "-d", body, url)
		f(`:status: 200`, nghttp, "-nvy", "-d", body, "--trailer", "x-sum: 1", url)
		f(`:status: 200`, nghttp, "-nvy", "--continuation", url)
		f(`(?s)\s200 .*\s200 `, nghttp, "-nsy", url, url+"?2")
		f(`4000 succeeded, 0 failed, 0 errored, 0 timeout`, h2load, "-n4000", "-c10", "-m32", "-t2", url)
		f(`40 succeeded, 0 failed, 0 errored, 0 timeout`, h2load, "-n40", "-c4", "-m10", "-d", body, url)
		f(`1000 succeeded, 0 failed, 0 errored, 0 timeout`, h2load, "-n1000", "-c10", "--h1", url)
		f(`1000 succeeded, 0 failed, 0 errored, 0 timeout`, h2load, "-n1000", "-c10", "-m10", "-w16", "-W16", url)
	}
}

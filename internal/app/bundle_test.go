package app

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"gatehouse.dev/gatehouse/internal/proxy/certs"
)

// unpack reads a bundle.
func unpack(t *testing.T, archive []byte) map[string]string {
	t.Helper()
	gz, err := gzip.NewReader(bytes.NewReader(archive))
	if err != nil {
		t.Fatal(err)
	}
	files := map[string]string{}
	for tr := tar.NewReader(gz); ; {
		h, err := tr.Next()
		if err == io.EOF {
			return files
		}
		if err != nil {
			t.Fatal(err)
		}
		data, err := io.ReadAll(tr)
		if err != nil {
			t.Fatal(err)
		}
		if h.Mode != 0o644 || time.Since(h.ModTime) > time.Hour {
			t.Errorf("%s has mode %o and time %v", h.Name, h.Mode, h.ModTime)
		}
		name, ok := strings.CutPrefix(h.Name, "gatehouse-bundle/")
		if !ok {
			t.Errorf("%q does not stay in a directory of its own", h.Name)
		}
		files[name] = string(data)
	}
}

// runBundle is the command, with what it writes to both streams.
func runBundle(t *testing.T, args ...string) (out []byte, errs string, err error) {
	t.Helper()
	var o, e bytes.Buffer
	cmd := Command("v-test", Streams{In: strings.NewReader(""), Out: &o, Err: &e})
	cmd.SetArgs(append([]string{"bundle"}, args...))
	err = cmd.ExecuteContext(t.Context())
	return o.Bytes(), e.String(), err
}

// secretive is a Gateway with secrets of every kind, and they.
func secretive(t *testing.T) (g *Gateway, secrets []string) {
	t.Setenv("DATABASE_URL", "postgres://gatehouse:envsecret@db")
	dir := t.TempDir()
	pair, err := certs.SelfSigned(time.Now(), "shop.test")
	if err != nil {
		t.Fatal(err)
	}
	enc := base64.StdEncoding.EncodeToString
	const hash = "$2y$05$c4WoMPo3SXsafkva.HHa6uXQZWr7oboPiC2bT/r7q1BB8I2s0BRqC" // of "myPassword"
	m := newManifests(t, dir)
	m.write("shop.yaml", fmt.Sprintf(`
apiVersion: v1
kind: Secret
metadata: {name: tls}
type: kubernetes.io/tls
data: {tls.crt: %s, tls.key: %s}
---
apiVersion: v1
kind: Secret
metadata: {name: users}
stringData: {auth: "ann:%s\nbob:{PLAIN}plainsecret\n"}
---
apiVersion: v1
kind: Service
metadata: {name: shop}
spec: {ports: [{port: 80}]}
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: shop-1, labels: {kubernetes.io/service-name: shop}}
addressType: IPv4
endpoints: [{addresses: [127.0.0.1]}]
ports: [{name: "", port: %d}]
---
apiVersion: networking.k8s.io/v1
kind: Ingress
metadata:
  name: shop
  annotations: {nginx.ingress.kubernetes.io/auth-type: basic, nginx.ingress.kubernetes.io/auth-secret: users, nginx.ingress.kubernetes.io/ssl-redirect: "false"}
spec:
  tls: [{hosts: [shop.test], secretName: tls}]
  rules: [{host: shop.test, http: {paths: [{path: /, pathType: Prefix, backend: {service: {name: shop, port: {number: 80}}}}]}}]
`, enc(pair.Chain), enc(pair.Key), hash, closedPort(t)))
	o := testOptions(dir)
	o.AdminAddr, o.PProf = "127.0.0.1:0", true
	o.Flags = map[string]string{"manifests": dir}
	g = startGateway(t, o)
	m.wait(g)
	req, err := http.NewRequest("GET", "http://"+g.Addr(false).String()+"/basket?token=querysecret", nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Host = "shop.test"
	req.SetBasicAuth("bob", "plainsecret")
	req.Header.Set("Cookie", "session=cookiesecret")
	tr := &http.Transport{DisableKeepAlives: true}
	res, err := tr.RoundTrip(req)
	if err != nil {
		t.Fatal(err)
	}
	res.Body.Close()
	if res.StatusCode != http.StatusBadGateway {
		t.Fatalf("status %d, want 502: the password or the endpoint is not what it should be", res.StatusCode)
	}
	block, _ := pem.Decode([]byte(pair.Key))
	return g, []string{
		"PRIVATE KEY", string(block.Bytes[40:60]), enc(block.Bytes)[60:100], enc(pair.Key)[60:100], string(pair.Key[60:100]),
		hash, hash[10:40], enc([]byte(hash))[20:40], "plainsecret", enc([]byte("bob:plainsecret")), "querysecret", "cookiesecret", "envsecret",
	}
}

// closedPort is one at which nobody listens.
func closedPort(t *testing.T) int {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().(*net.TCPAddr).Port
}

func TestBundle(t *testing.T) {
	g, secrets := secretive(t)
	out, errs, err := runBundle(t, "-o", "-", "--admin-addr", g.adminListener.Addr().String())
	if err != nil {
		t.Fatalf("%v: %s", err, errs)
	}
	files := unpack(t, out)
	for name, data := range files {
		for i, s := range secrets {
			if strings.Contains(data, s) {
				t.Errorf("%s shows secret %d: %q", name, i, s)
			}
		}
	}
	want := []string{"README.txt"}
	for _, p := range parts {
		want = append(want, p.name)
		if !strings.Contains(files["README.txt"], "\n  "+p.name+" ") {
			t.Errorf("README.txt does not say what %s is", p.name)
		}
	}
	for _, name := range want {
		if files[name] == "" {
			t.Errorf("%s is missing or empty; there are %v", name, slices.Sorted(maps.Keys(files)))
		}
		if strings.HasSuffix(name, ".json") && !json.Valid([]byte(files[name])) {
			t.Errorf("%s is no JSON", name)
		}
	}
	f := func(name, text string) {
		t.Helper()
		if !strings.Contains(files[name], text) {
			t.Errorf("%s lacks %q: %.2000s", name, text, files[name])
		}
	}
	f("readyz.txt", "200 OK\nok\n")
	f("process.json", `"manifests": "`)
	f("process.json", `"DATABASE_URL": "(set, not shown)"`)
	f("log.jsonl", `"msg":"listening"`)
	f("failures.jsonl", `"target":"/basket","protocol"`)
	f("failures.jsonl", `"reason":"ConnectFailed"`)
	f("upstreams.json", `"why": "Refused"`)
	f("config.json", "REDACTED")
	f("metrics.txt", "gatehouse_upstream_ejections_total 1\n")
	f("heap.txt", "heap profile")
	f("goroutines.txt", "goroutine profile")
	f("README.txt", "v-test")
}

// What cannot be had is named; the rest is there.
func TestBundleIncomplete(t *testing.T) {
	g := startGateway(t, func() Options {
		o := testOptions(t.TempDir())
		o.AdminAddr = "127.0.0.1:0"
		return o
	}())
	addr := g.adminListener.Addr().String()
	out, errs, err := runBundle(t, "-o", "-", "--admin-addr", addr)
	if err != nil || strings.Contains(errs, "missing") {
		t.Errorf("without --pprof: %v %q", err, errs)
	}
	if files := unpack(t, out); files["heap.txt"] != "" || !strings.Contains(files["README.txt"], "not there: only with --pprof") {
		t.Errorf("README: %s", files["README.txt"])
	}

	// An older program, which lacks some of what is asked for.
	old, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	srv := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/readyz":
			w.WriteHeader(503)
			io.WriteString(w, "not ready: draining\n")
		case "/metrics":
			io.WriteString(w, "gatehouse_build_info 1\n")
		case "/debug/config":
			w.Header().Set("Content-Length", "1000")
			io.WriteString(w, "half of it")
		default:
			http.NotFound(w, r)
		}
	})}
	go srv.Serve(old)
	defer srv.Close()
	out, errs, err = runBundle(t, "-o", "-", "--admin-addr", old.Addr().String())
	files := unpack(t, out)
	if !errors.Is(err, ErrIncomplete) || !strings.Contains(errs, "missing: config.json: cut off after 10 bytes") || !strings.Contains(errs, "missing: verdicts.json: 404") {
		t.Errorf("%v %q", err, errs)
	}
	if files["readyz.txt"] != "503 Service Unavailable\nnot ready: draining\n" || files["metrics.txt"] == "" || files["config.json"] != "" ||
		!strings.Contains(files["README.txt"], "verdicts.json    MISSING") {
		t.Errorf("%v", files)
	}
}

// Against nothing there is one line, and neither a file nor a byte of an archive:
// it would hold nothing but the same error a dozen times.
func TestBundleOfNothing(t *testing.T) {
	addr := fmt.Sprintf("127.0.0.1:%d", closedPort(t))
	t.Chdir(t.TempDir())
	for _, args := range [][]string{nil, {"-o", "b.tar.gz"}, {"-o", "-"}} {
		out, errs, err := runBundle(t, append(args, "--admin-addr", addr)...)
		if err == nil || errors.Is(err, ErrIncomplete) || strings.Contains(err.Error(), "\n") ||
			!strings.Contains(err.Error(), addr) || !strings.Contains(err.Error(), "refused") || !strings.Contains(err.Error(), "--admin-addr") {
			t.Errorf("%q: %v", args, err)
		}
		if len(out) > 0 || errs != "" {
			t.Errorf("%q: wrote %q and %q", args, out, errs)
		}
	}
	if left, err := os.ReadDir("."); err != nil || len(left) > 0 {
		t.Errorf("left behind: %v, %v", left, err)
	}
}

func TestBundleFile(t *testing.T) {
	o := testOptions(t.TempDir())
	o.AdminAddr = "127.0.0.1:0"
	addr := startGateway(t, o).adminListener.Addr().String()
	name := filepath.Join(t.TempDir(), "b.tar.gz")
	if _, errs, err := runBundle(t, "-o", name, "--admin-addr", addr); err != nil || !strings.Contains(errs, name) {
		t.Fatalf("%v %q", err, errs)
	}
	data, err := os.ReadFile(name)
	if err != nil || unpack(t, data)["metrics.txt"] == "" {
		t.Errorf("%v", err)
	}
	if i, _ := os.Stat(name); i.Mode().Perm() != 0o600 {
		t.Errorf("mode %v", i.Mode())
	}
	t.Chdir(t.TempDir())
	if _, _, err := runBundle(t, "--admin-addr", addr); err != nil {
		t.Fatal(err)
	}
	if found, _ := filepath.Glob("gatehouse-bundle-2*Z.tar.gz"); len(found) != 1 {
		t.Errorf("files: %v", found)
	}
	_, errs, err := runBundle(t, "-o", filepath.Join(name, "x"), "--admin-addr", addr)
	if err == nil || errors.Is(err, ErrIncomplete) || !strings.Contains(err.Error(), "--output -") {
		t.Errorf("a place that cannot be written: %v %q", err, errs)
	}
	for _, bad := range []string{"off", "nonsense", "example.com:1"} {
		if _, _, err := runBundle(t, "-o", "-", "--admin-addr", bad); err == nil || !strings.Contains(err.Error(), "--admin-addr") {
			t.Errorf("%s: %v", bad, err)
		}
	}
	if got, err := adminURL(":9090"); got != "http://127.0.0.1:9090" || err != nil {
		t.Errorf("%q %v", got, err)
	}
	if got, err := adminURL("[::1]:1"); got != "http://[::1]:1" || err != nil {
		t.Errorf("%q %v", got, err)
	}
}

func TestAdminAddrOf(t *testing.T) {
	file := filepath.Join(t.TempDir(), "cmdline")
	f := func(want string, args ...string) {
		t.Helper()
		if err := os.WriteFile(file, []byte(strings.Join(args, "\x00")+"\x00"), 0o600); err != nil {
			t.Fatal(err)
		}
		if got := adminAddrOf(file, "otherwise"); got != want {
			t.Errorf("%q: %q, want %q", args, got, want)
		}
	}
	f("127.0.0.1:1", "/gatehouse", "serve", "--admin-addr=127.0.0.1:1", "--pprof")
	f("127.0.0.1:2", "gatehouse", "serve", "--admin-addr", "127.0.0.1:2")
	f("otherwise", "/gatehouse", "serve")
	f("otherwise", "/gatehouse", "serve", "--admin-addr")
	f("otherwise", "/pause", "--admin-addr=127.0.0.1:1")
	f("otherwise", "")
	if got := adminAddrOf(file+"x", "otherwise"); got != "otherwise" {
		t.Errorf("without a file: %q", got)
	}
}

// A program that hangs costs its first part's time once.
func TestBundleOfHungProgram(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := &bundle{from: "http://127.0.0.1:9090", timeout: partTimeout, client: &http.Client{Transport: hung{}}}
		began := time.Now()
		if err := b.write(t.Context(), io.Discard); err != nil || len(b.missing) != len(parts)-1 {
			t.Errorf("%v, missing %q", err, b.missing)
		}
		if took, want := time.Since(began), partTimeout+time.Duration(len(parts)-1)*hungTimeout; took != want {
			t.Errorf("took %v, want %v", took, want)
		}
	})
}

// hung never answers.
type hung struct{}

func (hung) RoundTrip(r *http.Request) (*http.Response, error) {
	<-r.Context().Done()
	return nil, r.Context().Err()
}

package app

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"
)

// output is where a command or Gateway under test writes.
type output struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (o *output) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.b.Write(p)
}

func (o *output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.b.String()
}

// startCommand runs a command line until the test ends and expects no error.
func startCommand(t *testing.T, args ...string) (out, errs *output, done <-chan error) {
	t.Helper()
	out, errs = &output{}, &output{}
	cmd := Command("test", Streams{In: strings.NewReader(""), Out: out, Err: errs})
	cmd.SetArgs(args)
	ctx, stop := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() {
		err := cmd.ExecuteContext(ctx)
		ended <- err
		close(ended)
	}()
	t.Cleanup(func() {
		stop()
		if err, ok := <-ended; ok && err != nil {
			t.Errorf("gatehouse %s: %v", strings.Join(args, " "), err)
		}
		if t.Failed() {
			t.Logf("gatehouse %s\noutput:\n%s\nerrors:\n%s", strings.Join(args, " "), out, errs)
		}
	})
	return out, errs, ended
}

// startDemo runs `gatehouse demo` on a directory that does not exist yet, with
// the flags given, and waits for what it prints.
func startDemo(t *testing.T, flags ...string) (dir, printed string) {
	t.Helper()
	dir = filepath.Join(t.TempDir(), "shop")
	out, _, done := startCommand(t, append([]string{"demo", "--manifests", dir}, flags...)...)
	eventually(t, "the demo has printed how to try it", func() bool {
		select {
		case err := <-done:
			t.Fatalf("the demo ended: %v", err)
		default:
		}
		return strings.Contains(out.String(), "Ctrl-C ends the demo")
	})
	return dir, out.String()
}

// curl is a command line that the demo prints, as far as it prints any.
type curl struct {
	line, url, ca  string
	resolve        map[string]string // host:port: where to connect
	user, password string
	want           string // of its answer, until that is printed
}

func parseCurl(t *testing.T, line string) *curl {
	t.Helper()
	c := &curl{line: line, resolve: map[string]string{}}
	words := strings.Fields(line)
	for i := 1; i < len(words); i++ {
		switch w := words[i]; w {
		case "--resolve":
			i++
			m := regexp.MustCompile(`^([^:]+):(\d+):(.+)$`).FindStringSubmatch(words[i])
			if m == nil {
				t.Fatalf("%s\n--resolve is not HOST:PORT:ADDRESS", line)
			}
			c.resolve[m[1]+":"+m[2]] = net.JoinHostPort(m[3], m[2])
		case "--cacert":
			i++
			c.ca = words[i]
		case "-u":
			i++
			c.user, c.password, _ = strings.Cut(words[i], ":")
		default:
			if strings.HasPrefix(w, "-") || c.url != "" {
				t.Fatalf("%s\nunexpected word %q", line, w)
			}
			c.url = w
		}
	}
	return c
}

// do sends the request as curl would: to where --resolve says, trusting the CA
// and nothing else.
func (c *curl) do() (*http.Response, string, error) {
	tr := &http.Transport{
		DisableKeepAlives: true,
		DialContext: func(ctx context.Context, network, addr string) (net.Conn, error) {
			to, ok := c.resolve[addr]
			if !ok {
				return nil, fmt.Errorf("--resolve does not cover %s", addr)
			}
			return (&net.Dialer{}).DialContext(ctx, network, to)
		},
	}
	if c.ca != "" {
		pem, err := os.ReadFile(c.ca)
		if err != nil {
			return nil, "", err
		}
		pool := x509.NewCertPool()
		if !pool.AppendCertsFromPEM(pem) {
			return nil, "", fmt.Errorf("%s holds no certificate", c.ca)
		}
		tr.TLSClientConfig = &tls.Config{RootCAs: pool}
	}
	client := &http.Client{Transport: tr, Timeout: patience}
	client.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	req, err := http.NewRequest(http.MethodGet, c.url, nil)
	if err != nil {
		return nil, "", err
	}
	if c.user != "" {
		req.SetBasicAuth(c.user, c.password)
	}
	resp, err := client.Do(req)
	if err != nil {
		return nil, "", err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	return resp, string(body), err
}

// answer is the status and, of the demo's backends, the first word that they
// answer.
func (c *curl) answer(t *testing.T) (text string, resp *http.Response) {
	t.Helper()
	resp, body, err := c.do()
	if err != nil {
		t.Fatalf("%s\n%v", c.line, err)
	}
	text = fmt.Sprint(resp.StatusCode)
	if name, _, ok := strings.Cut(body, ":"); ok && resp.StatusCode == http.StatusOK {
		text += " " + name
	}
	return text, resp
}

// TestDemo runs the demo as a newcomer does: every curl line that it prints
// must work, and answer what is printed below it, which is what the manifests
// say.
func TestDemo(t *testing.T) {
	dir, printed := startDemo(t, "--http-addr", "127.0.0.1:0", "--https-addr", "127.0.0.1:0", "--admin-addr", "127.0.0.1:0")
	port := regexp.MustCompile(`:\d+/`)
	want := map[string]string{
		"http://foo.example.com/": "200 login", "http://bar.example.com/": "200 checkout", "http://elsewhere.test/": "200 login",
		"http://example.com/login":  "308",
		"https://example.com/login": "200 login", "https://example.com/checkout": "200 checkout", "https://example.com/payments": "200 payments",
		"https://any.bar.com/":        "200 payments",
		"https://bridge.example.com/": "200 vault", "https://vault.example.com/": "200 vault",
		"https://admin.example.com/": "401", "https://admin.example.com/ demo": "200 login",
	}
	// Whose certificate it is tells who ends TLS.
	certificates := map[string]string{
		"https://example.com/login": "example.com", "https://any.bar.com/": "*.bar.com",
		"https://bridge.example.com/": "example.com", "https://vault.example.com/": "vault.shop.svc",
	}
	curls := map[string]*curl{}
	var last *curl
	for line := range strings.Lines(printed) {
		line = strings.TrimSpace(line)
		if strings.HasPrefix(line, "curl ") {
			last = parseCurl(t, line)
			key := strings.TrimSpace(port.ReplaceAllString(last.url, "/") + " " + last.user)
			curls[key] = last
			got, resp := last.answer(t)
			if want[key] == "" || got != want[key] {
				t.Errorf("%s\nanswered %q, want %q", line, got, want[key])
			}
			if cn := certificates[key]; cn != "" && resp.TLS.PeerCertificates[0].Subject.CommonName != cn {
				t.Errorf("%s\nshows the certificate of %s, want %s", line, resp.TLS.PeerCertificates[0].Subject.CommonName, cn)
			}
			last.want = want[key]
			continue
		}
		if promised, ok := strings.CutPrefix(line, "-> "); ok && last != nil {
			if !strings.HasPrefix(promised, last.want) {
				t.Errorf("%s\npromises %q, want %q", last.line, promised, last.want)
			}
			last.want = ""
		}
	}
	for key := range want {
		if curls[key] == nil || curls[key].want != "" {
			t.Errorf("no curl line for %s, or nothing said about its answer", key)
		}
	}
	for _, s := range []string{dir, "http   127.0.0.1:", "https  127.0.0.1:", "admin  http://127.0.0.1:",
		"example.com", "foo.example.com", "bar.example.com", "*.bar.com", "shop/payments:80",
		"offloaded with Secret shop/example-com\n", "bridged to shop/vault:443 (verified)", "passed through to shop/vault:443"} {
		if !strings.Contains(printed, s) {
			t.Errorf("the demo does not print %q", s)
		}
	}
	if t.Failed() {
		t.FailNow()
	}
	admin := regexp.MustCompile(`http://127\.0\.0\.1:\d+/\n`).FindString(printed)
	resp, err := http.Get(strings.TrimSpace(admin) + "readyz")
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	http.DefaultClient.CloseIdleConnections()
	if resp.StatusCode != http.StatusOK {
		t.Errorf("/readyz: %s", resp.Status)
	}
	demoPage(t, dir, printed)
	demoEdits(t, dir, curls["http://foo.example.com/"])
}

// demoPage opens the page that the demo names, as a browser does, and clicks all
// its links: each must lead to what is written beside it.
func demoPage(t *testing.T, dir, printed string) {
	t.Helper()
	m := regexp.MustCompile(`Open (http://localhost:\d+/) in a browser`).FindStringSubmatch(printed)
	if m == nil {
		t.Fatal("the demo names no page")
	}
	browse := func(link string) (*http.Response, string) {
		t.Helper()
		tr := &http.Transport{DisableKeepAlives: true}
		tr.DialContext = func(ctx context.Context, network, addr string) (net.Conn, error) {
			_, port, err := net.SplitHostPort(addr)
			if err != nil {
				return nil, err
			}
			// Browsers look up no name below localhost.
			return (&net.Dialer{}).DialContext(ctx, network, "127.0.0.1:"+port)
		}
		ca, err := os.ReadFile(filepath.Join(dir, demoCAFile))
		if err != nil {
			t.Fatal(err)
		}
		tr.TLSClientConfig = &tls.Config{RootCAs: x509.NewCertPool()}
		tr.TLSClientConfig.RootCAs.AppendCertsFromPEM(ca)
		req, err := http.NewRequest(http.MethodGet, link, nil)
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Accept", "text/html,application/xhtml+xml,*/*;q=0.8")
		resp, err := (&http.Client{Transport: tr, Timeout: patience, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}).Do(req)
		if err != nil {
			t.Fatalf("%s: %v", link, err)
		}
		defer resp.Body.Close()
		body, err := io.ReadAll(resp.Body)
		if err != nil {
			t.Fatalf("%s: %v", link, err)
		}
		return resp, string(body)
	}
	resp, page := browse(m[1])
	if resp.StatusCode != http.StatusOK || !strings.HasPrefix(resp.Header.Get("Content-Type"), "text/html") {
		t.Fatalf("the page: %s %s", resp.Status, page)
	}
	links := regexp.MustCompile(`<a href="([^"]+)">[^<]*</a></td><td>(\d+) ?(login|checkout|payments|vault)?[^<]*</td>`).FindAllStringSubmatch(page, -1)
	if len(links) != len(demoLinks) {
		t.Fatalf("%d links, want %d: %s", len(links), len(demoLinks), page)
	}
	for _, l := range links {
		resp, body := browse(l[1])
		status := fmt.Sprint(resp.StatusCode)
		if status != l[2] || status == "200" && !strings.Contains(body, "<b>"+l[3]+"</b>") {
			t.Errorf("%s promises %s %s: %s %s", l[1], l[2], l[3], status, body)
		}
		if to := resp.Header.Get("Location"); to != "" {
			if resp, body := browse(to); resp.StatusCode != 200 || !strings.Contains(body, "<b>checkout</b>") {
				t.Errorf("%s: %s %s", to, resp.Status, body)
			}
		}
	}
	if !strings.Contains(page, "<td>foo.example.com</td><td>/</td><td>shop/login:80</td>") || strings.Contains(page, "What is wrong") {
		t.Errorf("the page does not say what serves: %s", page)
	}
}

// The demo moves off ports that are taken, its backends' and its own, and listens
// on loopback only; what is given by flag is not moved.
func TestDemoMovesOffBusyPorts(t *testing.T) {
	held := map[string]bool{}
	hold := func(addr string) {
		// Another program, or another clone's test, may have it, and give it back at
		// any time: then nothing is known of it.
		if l, err := net.Listen("tcp", addr); err == nil {
			t.Cleanup(func() { l.Close() })
			held[addr] = true
		}
	}
	for _, b := range demoBackends {
		hold(b.addr)
	}
	own := map[string]string{"http-addr": "127.0.0.1:8080", "https-addr": "127.0.0.1:8443", "admin-addr": "127.0.0.1:9090"}
	for _, addr := range own {
		hold(addr)
	}
	_, printed := startDemo(t)
	f := func(want string) {
		t.Helper()
		if !regexp.MustCompile(want).MatchString(printed) {
			t.Errorf("not printed: %s\n%s", want, printed)
		}
	}
	for flag, addr := range own {
		if held[addr] {
			f(`(?m)^` + regexp.QuoteMeta(addr) + ` is taken: --` + flag + ` is 127\.0\.0\.1:\d+$`)
		}
	}
	f(`(?m)^  http   127\.0\.0\.1:`)
	f(`(?m)^  https  127\.0\.0\.1:`)
	for line := range strings.Lines(printed) {
		if line = strings.TrimSpace(line); strings.Contains(line, "http://foo.example.com") {
			if got, _ := parseCurl(t, line).answer(t); got != "200 login" {
				t.Errorf("%s: %s", line, got)
			}
		}
	}
	busy, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer busy.Close()
	cmd := Command("test", Streams{Out: &output{}, Err: &output{}})
	cmd.SetArgs([]string{"demo", "--manifests", filepath.Join(t.TempDir(), "shop"), "--http-addr", busy.Addr().String(), "--admin-addr", "off"})
	ctx, stop := context.WithTimeout(t.Context(), patience)
	defer stop()
	if err := cmd.ExecuteContext(ctx); err == nil || !strings.Contains(err.Error(), "--http-addr") {
		t.Errorf("a port that was asked for and is taken: %v", err)
	}
}

// TestDemoIsAccepted states that nothing is wrong with the demo's manifests.
func TestDemoIsAccepted(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "shop")
	if _, err := demoDirectory(dir, io.Discard); err != nil {
		t.Fatal(err)
	}
	var ports []uint16
	for _, b := range demoBackends {
		ports = append(ports, netip.MustParseAddrPort(b.addr).Port())
	}
	if err := writeDemoEndpoints(dir, ports); err != nil {
		t.Fatal(err)
	}
	out, _, err := run("", "check", dir)
	if err != nil || strings.Contains(out, "Warning") || strings.Contains(out, "Ignored") {
		t.Errorf("%v\n%s", err, out)
	}
}

// demoEdits edits the manifest as an editor does, in place, while clients ask.
func demoEdits(t *testing.T, dir string, foo *curl) {
	ingress := filepath.Join(dir, "ingress.yaml")
	original, err := os.ReadFile(ingress)
	if err != nil {
		t.Fatal(err)
	}
	// The first rule for foo.example.com leads to login: let it lead elsewhere.
	before, after, ok := strings.Cut(string(original), "host: foo.example.com")
	if !ok || !strings.Contains(after, "name: login") {
		t.Fatal("the demo's ingress.yaml has changed: adapt this test")
	}
	edited := before + "host: foo.example.com" + strings.Replace(after, "name: login", "name: payments", 1)

	var asking sync.WaitGroup
	halt := make(chan struct{})
	defer func() {
		close(halt)
		asking.Wait()
	}()
	var to string
	for _, a := range foo.resolve {
		to = a
	}
	for range 3 {
		asking.Go(func() {
			if n, err := demoClient(to, halt); err != nil {
				t.Errorf("while a manifest was edited, after %d answers: %v", n, err)
			}
		})
	}
	for i := range 6 {
		text, want := original, "login"
		if i%2 == 0 {
			text, want = []byte(edited), "payments"
		}
		start := time.Now()
		if err := os.WriteFile(ingress, text, 0o644); err != nil {
			t.Fatal(err)
		}
		eventually(t, "the edit is effective", func() bool {
			got, _ := foo.answer(t)
			return got == "200 "+want
		})
		t.Logf("edit %d was effective after %s", i, time.Since(start).Round(time.Millisecond))
	}
}

// demoClient asks for foo.example.com on one connection and never repeats a
// request.
func demoClient(addr string, halt <-chan struct{}) (n int, err error) {
	w := &hammerWorker{addr: addr}
	conn, err := w.dial()
	if err != nil {
		return 0, err
	}
	defer conn.Close()
	for {
		select {
		case <-halt:
			return n, nil
		default:
		}
		if err := demoRequest(conn); err != nil {
			return n, err
		}
		n++
	}
}

func demoRequest(conn net.Conn) error {
	conn.SetDeadline(time.Now().Add(patience))
	if _, err := io.WriteString(conn, "POST / HTTP/1.1\r\nHost: foo.example.com\r\nContent-Length: 4\r\n\r\nbody"); err != nil {
		return err
	}
	resp, body, err := readAnswer(conn)
	if err != nil {
		return err
	}
	if resp.StatusCode != http.StatusOK || !strings.HasPrefix(body, "login: ") && !strings.HasPrefix(body, "payments: ") {
		return fmt.Errorf("%s: %s", resp.Status, body)
	}
	return nil
}

// TestDemoDirectory states what the demo writes, and that it writes over
// nothing.
func TestDemoDirectory(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "shop")
	out := &output{}
	read := func(name string) string {
		t.Helper()
		b, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil {
			t.Fatal(err)
		}
		return string(b)
	}
	if _, err := demoDirectory(dir, out); err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(out.String(), dir) {
		t.Errorf("it does not say where it wrote: %q", out)
	}
	info, err := os.Stat(filepath.Join(dir, demoTLSFile))
	if err != nil {
		t.Fatal(err)
	}
	if info.Mode().Perm() != 0o600 {
		t.Errorf("private keys can be read by others: %s", info.Mode())
	}
	if strings.Contains(read(demoCAFile), "PRIVATE KEY") {
		t.Error("the CA's key was written")
	}
	ca, secrets := read(demoCAFile), read(demoTLSFile)
	if err := os.WriteFile(filepath.Join(dir, "ingress.yaml"), []byte("# mine\n"), 0o644); err != nil {
		t.Fatal(err)
	}

	// A second run leaves all as it is.
	if _, err := demoDirectory(dir, out); err != nil {
		t.Fatal(err)
	}
	if read("ingress.yaml") != "# mine\n" || read(demoCAFile) != ca || read(demoTLSFile) != secrets {
		t.Error("the second run changed what was there")
	}
	// Certificates that are about to expire are made anew.
	if err := ensureDemoSecrets(dir, time.Now().Add(demoLife-time.Hour)); err != nil {
		t.Fatal(err)
	}
	if read(demoCAFile) == ca || read(demoTLSFile) == secrets {
		t.Error("certificates were not renewed")
	}
	// So are deleted ones.
	ca = read(demoCAFile)
	if err := os.Remove(filepath.Join(dir, demoTLSFile)); err != nil {
		t.Fatal(err)
	}
	if _, err := demoDirectory(dir, out); err != nil {
		t.Fatal(err)
	}
	if read(demoCAFile) == ca {
		t.Error("Secrets were not made anew")
	}
	// So is what an older version wrote, which holds less.
	if err := os.WriteFile(filepath.Join(dir, demoTLSFile), []byte("# Made by `gatehouse demo`; delete this file\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := demoDirectory(dir, out); err != nil {
		t.Fatal(err)
	}
	if !strings.HasPrefix(read(demoTLSFile), demoHeader) {
		t.Error("Secrets of an older version were not made anew")
	}
}

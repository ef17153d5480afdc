package main

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// asProgram tells the test binary to be the program.
const asProgram = "TEST_AS_GATEHOUSE"

func TestMain(m *testing.M) {
	if os.Getenv(asProgram) != "" {
		main()
		os.Exit(0)
	}
	os.Exit(m.Run())
}

func program(t *testing.T, args ...string) *exec.Cmd {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(self, args...)
	// The race detector would wait a second at every exit.
	cmd.Env = append(os.Environ(), asProgram+"=1", "GORACE=atexit_sleep_ms=0 "+os.Getenv("GORACE"))
	return cmd
}

const service = "apiVersion: v1\nkind: Service\nmetadata: {name: s}\nspec: {ports: [{port: 80}]}\n"

// TestExitStatus states the contract with scripts: 0 when all is well, 1 when
// check rejects something (and says no more than its output), 2 for every other
// mistake, which standard error names.
func TestExitStatus(t *testing.T) {
	f := func(in string, status int, wantOut, wantErr string, args ...string) {
		t.Helper()
		cmd := program(t, args...)
		cmd.Stdin = strings.NewReader(in)
		var out, errs bytes.Buffer
		cmd.Stdout, cmd.Stderr = &out, &errs
		err := cmd.Run()
		var exit *exec.ExitError
		if err != nil && !errors.As(err, &exit) {
			t.Fatal(err)
		}
		if got := cmd.ProcessState.ExitCode(); got != status {
			t.Errorf("gatehouse %q: exit status %d, want %d\n%s%s", args, got, status, &out, &errs)
		}
		if !strings.Contains(out.String(), wantOut) || !strings.Contains(errs.String(), wantErr) || wantErr == "" && errs.Len() > 0 {
			t.Errorf("gatehouse %q: output %q, errors %q; want %q, %q", args, &out, &errs, wantOut, wantErr)
		}
	}
	f("", 0, "gatehouse ", "", "version")
	f("", 0, "Usage:", "", "--help")
	f(service, 0, "1 objects, 0 rejected", "", "check", "-")
	f("{", 1, "1 rejected", "", "check", "-")
	f("", 2, "", "gatehouse: ", "check", filepath.Join(t.TempDir(), "absent"))
	f("", 2, "", "unknown flag: --nonsense", "serve", "--nonsense")
	f("", 2, "", "--http-addr", "serve", "--manifests", t.TempDir(), "--http-addr", "nonsense")
	f("", 2, "", "unknown command", "nonsense")
}

// TestTerminate states that SIGTERM ends the program in order: an open request
// is answered, readiness fails meanwhile, the exit status is 0.
func TestTerminate(t *testing.T) {
	held, release := make(chan struct{}), make(chan struct{})
	backend, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	srv := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		close(held)
		<-release
		io.WriteString(w, "done")
	})}
	go srv.Serve(backend)
	defer srv.Close()
	dir := t.TempDir()
	_, port, _ := net.SplitHostPort(backend.Addr().String())
	manifests := service + `---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: s-1, labels: {kubernetes.io/service-name: s}}
addressType: IPv4
ports: [{port: ` + port + `}]
endpoints: [{addresses: [127.0.0.1]}]
---
apiVersion: networking.k8s.io/v1
kind: Ingress
metadata: {name: i}
spec: {defaultBackend: {service: {name: s, port: {number: 80}}}}
`
	if err := os.WriteFile(filepath.Join(dir, "all.yaml"), []byte(manifests), 0o644); err != nil {
		t.Fatal(err)
	}
	cmd := program(t, "serve", "--manifests", dir, "--http-addr", "127.0.0.1:0", "--https-addr", "off", "--admin-addr", "127.0.0.1:0")
	stderr, err := cmd.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer cmd.Process.Kill()
	log := bufio.NewScanner(stderr)
	addr := map[string]string{}
	for addr["http"] == "" || addr["admin"] == "" {
		line := next(t, log)
		if line.Msg == "listening" {
			addr[line.Bind] = line.Address
		}
	}
	type answer struct {
		resp *http.Response
		body []byte
		err  error
	}
	answered := make(chan answer, 1)
	go func() {
		resp, err := http.Get("http://" + addr["http"] + "/")
		if err != nil {
			answered <- answer{err: err}
			return
		}
		defer resp.Body.Close()
		body, err := io.ReadAll(resp.Body)
		answered <- answer{resp, body, err}
	}()
	select {
	case <-held:
	case a := <-answered:
		t.Fatalf("answered early: %+v", a)
	}
	if err := cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	for next(t, log).Msg != "draining" {
	}
	// It stays that way until the open request is answered.
	for start := time.Now(); ; {
		resp, err := http.Get("http://" + addr["admin"] + "/readyz")
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		if resp.StatusCode == http.StatusServiceUnavailable {
			break
		}
		if time.Since(start) > 30*time.Second {
			t.Fatalf("/readyz while draining: %s", resp.Status)
		}
	}
	close(release)
	a := <-answered
	if a.err != nil || string(a.body) != "done" || !a.resp.Close {
		t.Errorf("the open request: %q, %v; it must be answered, with Connection: close", a.body, a.err)
	}
	for log.Scan() {
	}
	if err := cmd.Wait(); err != nil {
		t.Errorf("the program ends with %v", err)
	}
}

type logLine struct {
	Msg     string `json:"msg"`
	Bind    string `json:"bind"`
	Address string `json:"address"`
}

// next reads the program's next log line.
func next(t *testing.T, log *bufio.Scanner) (line logLine) {
	t.Helper()
	watchdog := time.AfterFunc(30*time.Second, func() { panic("the program says nothing") })
	defer watchdog.Stop()
	if !log.Scan() {
		t.Fatalf("the program's log ends: %v", log.Err())
	}
	if err := json.Unmarshal(log.Bytes(), &line); err != nil {
		t.Fatalf("not a log line: %s", log.Bytes())
	}
	return line
}

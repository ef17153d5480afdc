package app

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// terminal is a pseudo-terminal: what is written to the second comes out of the
// first.
func terminal(t *testing.T) (master, slave *os.File) {
	t.Helper()
	master, err := os.OpenFile("/dev/ptmx", os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { master.Close() })
	fd := int(master.Fd())
	number, err := unix.IoctlGetInt(fd, unix.TIOCGPTN)
	if err == nil {
		err = unix.IoctlSetPointerInt(fd, unix.TIOCSPTLCK, 0)
	}
	if err != nil {
		t.Fatal(err)
	}
	slave, err = os.OpenFile(fmt.Sprintf("/dev/pts/%d", number), os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { slave.Close() })
	return master, slave
}

// The log is text where people read it, and JSON where programs do; durations
// are written as people write them in both.
func TestLogFormat(t *testing.T) {
	master, slave := terminal(t)
	f := func(format string, w io.Writer, read func() string, want string) {
		t.Helper()
		log, err := newLogger(w, "info", format)
		if err != nil {
			t.Fatal(err)
		}
		log.Info("applied", "took", time.Minute, "field", "")
		if got := read(); !regexp.MustCompile(want).MatchString(got) {
			t.Errorf("%s: %q, want %q", format, got, want)
		}
	}
	onTerminal := func() string {
		line, err := bufio.NewReader(master).ReadString('\n')
		if err != nil {
			t.Fatal(err)
		}
		return line
	}
	const text, json = `^time=\d\d:\d\d:\d\d\.\d\d\d level=INFO msg=applied took=1m\r?\n$`, `^{"time":"[^"]+","level":"INFO","msg":"applied","took":"1m","field":""}\r?\n$`
	f("auto", slave, onTerminal, text)
	f("text", slave, onTerminal, text)
	f("json", slave, onTerminal, json)
	var b bytes.Buffer
	buffered := func() string { s := b.String(); b.Reset(); return s }
	f("auto", &b, buffered, json)
	f("", &b, buffered, json)
	f("text", &b, buffered, text)
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	f("auto", w, func() string { w.Close(); s, _ := io.ReadAll(r); return string(s) }, json)
}

// After an edit the log says that it is effective, which verdicts are new and
// which hold no more.
func TestAppliedAndResolved(t *testing.T) {
	dir := t.TempDir()
	write := func(backend string) {
		t.Helper()
		if err := os.WriteFile(filepath.Join(dir, "a.yaml"), []byte(oneService+"---\n"+strings.ReplaceAll(fmt.Sprintf(oneIngress, "/"), "name: s,", "name: "+backend+",")), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	write("s")
	out, errs, _ := startCommand(t, "serve", "--manifests", dir, "--backend", "default/s=127.0.0.1:1", "--http-addr", "127.0.0.1:0", "--https-addr", "off", "--admin-addr", "off", "--log-format", "text")
	_ = out
	says := func(pattern string) {
		t.Helper()
		eventually(t, "the log says "+pattern, func() bool { return regexp.MustCompile(pattern).MatchString(errs.String()) })
	}
	says(`msg=applied generation=\d+ edits=1 took=\S+ verdicts=\d+ new=\d+ resolved=0 rejected=0`)
	write("absent")
	says(`level=WARN msg=verdict object="?Ingress default/i"? severity=Rejected reason=ServiceNotFound`)
	says(`msg=applied .* new=1 resolved=0 rejected=1`)
	write("s")
	says(`level=INFO msg=resolved object="?Ingress default/i"? reason=ServiceNotFound field=\S+`)
	says(`msg=applied .* new=0 resolved=1 rejected=0`)
}

// A misspelt variable is told; those that Kubernetes sets for Services are not.
func TestStrayVariables(t *testing.T) {
	f := func(want string, environ ...string) {
		t.Helper()
		hints := strayVariables(Command("test", Streams{}), environ)
		if got := strings.Join(hints, "\n"); got != want {
			t.Errorf("%q: %q, want %q", environ, got, want)
		}
	}
	f("", "PATH=/bin", "GATEHOUSE_HTTP_ADDR=:80", "GATEHOUSE_OUTPUT=json", "GATEHOUSE_KUBECONFIG=x", "GATEHOUSE_PUBLIC_HTTP_PORT=80")
	f("the environment variable GATEHOUSE_HTTP_ADR is no flag's; did you mean GATEHOUSE_HTTP_ADDR?", "GATEHOUSE_HTTP_ADR=:80")
	f("the environment variable GATEHOUSE_HTTP_ADDRESS is no flag's; did you mean GATEHOUSE_HTTP_ADDR?", "GATEHOUSE_HTTP_ADDRESS=:80")
	f("the environment variable GATEHOUSE_PUBLIC_HTPP_PORT is no flag's; did you mean GATEHOUSE_PUBLIC_HTTP_PORT?", "GATEHOUSE_PUBLIC_HTPP_PORT=80")
	f("the environment variable GATEHOUSE_TRUSTED_PROXY is no flag's; did you mean GATEHOUSE_TRUSTED_PROXIES?", "GATEHOUSE_TRUSTED_PROXY=10.0.0.0/8")
	f("the environment variable GATEHOUSE_XYZZY is no flag's", "GATEHOUSE_XYZZY=1")
	f("", "GATEHOUSE_PORT=tcp://10.0.0.1:80", "GATEHOUSE_SERVICE_HOST=10.0.0.1", "GATEHOUSE_SERVICE_PORT=80", "GATEHOUSE_SERVICE_PORT_HTTP=80",
		"GATEHOUSE_PORT_80_TCP=tcp://10.0.0.1:80", "GATEHOUSE_PORT_80_TCP_PROTO=tcp", "GATEHOUSE_PORT_80_TCP_PORT=80", "GATEHOUSE_PORT_80_TCP_ADDR=10.0.0.1",
		"GATEHOUSE_METRICS_SERVICE_HOST=10.0.0.2", "GATEHOUSE_METRICS_PORT=tcp://10.0.0.2:9090", "GATEHOUSE_METRICS_PORT_9090_TCP_PORT=9090")

	// Both kinds of command tell of it, where they tell the rest.
	t.Setenv("GATEHOUSE_LOG_LEVLE", "debug")
	_, errs, err := runBundle(t, "--admin-addr", "nonsense")
	if err == nil || errs != "gatehouse: warning: the environment variable GATEHOUSE_LOG_LEVLE is no flag's; did you mean GATEHOUSE_LOG_LEVEL?\n" {
		t.Errorf("bundle: %q, %v", errs, err)
	}
	log := &output{}
	cmd := find(t, "serve")
	if _, err := (&Options{LogLevel: "info"}).newLogger(cmd, Streams{Err: log}); err != nil || !strings.Contains(log.String(), "did you mean GATEHOUSE_LOG_LEVEL?") {
		t.Errorf("serve: %q, %v", log, err)
	}
}

// What ingress-nginx's flags are called here must exist here, and not there.
func TestForeignFlags(t *testing.T) {
	names := flagNames(find(t, "serve"))
	meant := regexp.MustCompile(`--[a-z-]+`)
	for name, hint := range foreignFlags {
		if slices.Contains(names, name) {
			t.Errorf("--%s is a flag here", name)
		}
		for _, m := range meant.FindAllString(hint, -1) {
			if !slices.Contains(names, strings.TrimPrefix(m, "--")) {
				t.Errorf("--%s: there is no flag %s", name, m)
			}
		}
	}
}

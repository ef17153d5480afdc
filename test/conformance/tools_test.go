package conformance

import (
	"bytes"
	"context"
	"os"
	"os/exec"
	"strings"
	"sync"
	"testing"
	"time"
)

// aptOnce keeps two tests from installing at the same time; flock does so for two
// runs on one machine, since apt does not wait for the lock of its lists.
var aptOnce sync.Mutex

// tool gives the path of a program, and installs its Debian package where it is
// missing: a judge that is not there is a failure, never a reason to skip.
func tool(t testing.TB, name, pkg string) string {
	t.Helper()
	aptOnce.Lock()
	defer aptOnce.Unlock()
	if path, err := exec.LookPath(name); err == nil {
		return path
	}
	for _, args := range [][]string{{"update", "-qq"}, {"install", "-y", "-qq", "--no-install-recommends", pkg}} {
		cmd := exec.Command("flock", append([]string{"-o", "/var/lib/apt", "apt-get", "-o", "DPkg::Lock::Timeout=600"}, args...)...)
		cmd.Env = append(os.Environ(), "DEBIAN_FRONTEND=noninteractive")
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("%s is needed: install the package %s, or run as root where apt-get is: %v\n%s", name, pkg, err, out)
		}
	}
	path, err := exec.LookPath(name)
	if err != nil {
		t.Fatal(err)
	}
	return path
}

// output runs a program with stdin until it ends, and gives all that it says.
func output(t testing.TB, stdin, path string, args ...string) (string, error) {
	t.Helper()
	return outputWithin(t, 20*time.Second, stdin, path, args...)
}

func outputWithin(t testing.TB, limit time.Duration, stdin, path string, args ...string) (string, error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), limit)
	defer cancel()
	cmd := exec.CommandContext(ctx, path, args...)
	cmd.WaitDelay = time.Second
	var out bytes.Buffer
	cmd.Stdin, cmd.Stdout, cmd.Stderr = strings.NewReader(stdin), &out, &out
	err := cmd.Run()
	return out.String(), err
}

// file writes text into a file of the test's own.
func file(t testing.TB, text string) string {
	t.Helper()
	f, err := os.CreateTemp(t.TempDir(), "")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := f.WriteString(text); err != nil {
		t.Fatal(err)
	}
	return f.Name()
}

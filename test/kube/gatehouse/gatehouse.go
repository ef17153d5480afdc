// Package gatehouse runs the gatehouse binary of this repository for tests, as
// a process of its own, so that the product's dependencies never meet those of
// the test cluster. It takes the command line and gives the addresses to
// connect to; the test fails when the process ends badly or has a data race.
// It never looks inside the process.
package gatehouse

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"gatehouse.dev/gatehouse/test/kube/cluster"
	"gatehouse.dev/gatehouse/test/kube/internal/gobuild"
	"gatehouse.dev/gatehouse/test/kube/internal/poll"
	"gatehouse.dev/gatehouse/test/kube/internal/port"
	"gatehouse.dev/gatehouse/test/kube/internal/process"
)

// binaryEnv names a gatehouse that was built before, to be tested instead of
// the repository's sources.
const binaryEnv = "GATEHOUSE_TEST_BINARY"

const (
	defaultReadyTimeout = 30 * time.Second
	defaultStopTimeout  = 45 * time.Second // more than the default --drain-timeout
	tailLines           = 40               // of the output, when the test failed
)

// Options of Run. The zero value of each field but Args is fine.
type Options struct {
	// Args is the command line: the verb and its flags. Of --http-addr,
	// --https-addr and --admin-addr, those that are missing are added, with
	// free ports of 127.0.0.1; a given one must name its port.
	Args []string
	// Env is added to the environment, which else has none of the caller's
	// GATEHOUSE_*, KUBE* and *_PROXY variables.
	Env []string
	// Binary is the program; by default Build makes it.
	Binary      string
	stopTimeout time.Duration // from SIGTERM to the end; 45 s by default
}

// Process is a running gatehouse. Its methods may be called concurrently.
type Process struct {
	HTTPAddr, HTTPSAddr, AdminAddr string // HOST:PORT

	proc        *process.Process
	log         string
	stopTimeout time.Duration

	mu     sync.Mutex
	killed bool // by the test: the exit status means nothing
}

// Build builds ./cmd/gatehouse of the repository and returns the binary's path.
// It has the race detector when the test has it; flags are further ones of go
// build. It lies in os.UserCacheDir()/gatehouse-test, and the go command makes
// it anew when sources changed. $GATEHOUSE_TEST_BINARY is returned as it is.
func Build(t testing.TB, flags ...string) string {
	t.Helper()
	path, err := BuildBinary(t.Context(), flags...)
	if err != nil {
		t.Fatal(err)
	}
	return path
}

// BuildBinary is Build for a TestMain.
func BuildBinary(ctx context.Context, flags ...string) (string, error) {
	if path := os.Getenv(binaryEnv); path != "" {
		return path, nil
	}
	module, err := cluster.ModuleDir(ctx)
	if err != nil {
		return "", err
	}
	flags = append([]string{"-buildvcs=false"}, flags...)
	if raceEnabled && !slices.Contains(flags, "-race") {
		flags = append(flags, "-race")
	}
	return gobuild.Current(ctx, gobuild.Target{
		Name:    "gatehouse",
		Dir:     filepath.Join(module, "..", ".."),
		Package: "./cmd/gatehouse",
		Flags:   flags,
	})
}

// Start is Run with a command line only, and waits until the process is ready,
// at most 30 s.
func Start(t testing.TB, args ...string) *Process {
	t.Helper()
	p := Run(t, Options{Args: args})
	ctx, cancel := context.WithTimeout(t.Context(), defaultReadyTimeout)
	defer cancel()
	if err := p.WaitReady(ctx); err != nil {
		t.Fatal(err)
	}
	return p
}

// Run starts gatehouse without waiting for anything. When t ends, the process is
// stopped, if it was not before, and t fails if it does not end within
// 45 s, has an exit status other than 0 or reports a data race. When t
// fails, the end of the output is in its log.
func Run(t testing.TB, opts Options) *Process {
	t.Helper()
	if opts.Binary == "" {
		opts.Binary = Build(t)
	}
	p, err := launch(opts, filepath.Join(t.TempDir(), "gatehouse.log"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := p.Stop(); err != nil {
			t.Error(err)
		}
		if t.Failed() {
			t.Logf("--- the end of gatehouse's output, without requests that went well:\n%s", p.logTail())
		}
	})
	return p
}

// logTail is the end of the log without the lines that would hide the failure.
func (p *Process) logTail() string {
	const window = 20_000 // lines to look at
	all := strings.Split(process.Tail(p.log, window), "\n")
	telling := slices.DeleteFunc(all, func(line string) bool {
		return strings.Contains(line, `"status":2`) || strings.Contains(line, `"level":"DEBUG"`)
	})
	return strings.Join(telling[max(0, len(telling)-tailLines):], "\n")
}

func launch(opts Options, log string) (*Process, error) {
	p := &Process{log: log, stopTimeout: opts.stopTimeout}
	if p.stopTimeout == 0 {
		p.stopTimeout = defaultStopTimeout
	}
	args, err := p.addresses(opts.Args)
	if err != nil {
		return nil, err
	}
	p.proc, err = process.Start(process.Spec{
		Name: "gatehouse",
		Path: opts.Binary,
		Args: args,
		Env:  append(environment(os.Environ()), opts.Env...),
		Log:  log,
	})
	return p, err
}

// addresses finds the addresses in args, adds those that are missing, and
// returns the whole command line.
func (p *Process) addresses(args []string) ([]string, error) {
	free, err := port.Free(3)
	if err != nil {
		return nil, err
	}
	args = slices.Clone(args)
	for i, flag := range []struct {
		name string
		addr *string
	}{
		{"--http-addr", &p.HTTPAddr}, {"--https-addr", &p.HTTPSAddr}, {"--admin-addr", &p.AdminAddr},
	} {
		if *flag.addr = value(args, flag.name); *flag.addr == "" {
			*flag.addr = free[i]
			args = append(args, flag.name+"="+free[i])
		}
	}
	return args, nil
}

// value is that of a flag in args, in either spelling; empty when it is missing.
func value(args []string, flag string) string {
	for i, arg := range args {
		if v, ok := strings.CutPrefix(arg, flag+"="); ok {
			return v
		}
		if arg == flag && i+1 < len(args) {
			return args[i+1]
		}
	}
	return ""
}

// environment is env without what would configure gatehouse or its client.
func environment(env []string) []string {
	return slices.DeleteFunc(slices.Clone(env), func(entry string) bool {
		name, _, _ := strings.Cut(entry, "=")
		return strings.HasPrefix(name, "GATEHOUSE_") || strings.HasPrefix(name, "KUBE") ||
			strings.HasSuffix(strings.ToUpper(name), "_PROXY")
	})
}

// WaitReady waits until /readyz of the admin address answers 200. It is an
// error when the process ends, or ctx.
func (p *Process) WaitReady(ctx context.Context) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	err := poll.Until(ctx, 20*time.Millisecond, func(ctx context.Context) error {
		if p.proc.Exited() {
			cancel(errors.New("it ended: " + p.exit()))
		}
		return p.Ready(ctx)
	})
	if err != nil {
		return fmt.Errorf("gatehouse does not get ready: %w", err)
	}
	return nil
}

// Ready is nil when /readyz answers 200 now, and tells the answer otherwise.
func (p *Process) Ready(ctx context.Context) error {
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	return poll.Get(ctx, client, "http://"+p.AdminAddr+"/readyz")
}

// PID is the process id, for /proc. It means nothing once Done is closed.
func (p *Process) PID() int { return p.proc.PID() }

// Done is closed when the process has ended.
func (p *Process) Done() <-chan struct{} { return p.proc.Done() }

// Signal sends sig and does not wait. After SIGKILL use Kill instead, or the
// test fails.
func (p *Process) Signal(sig os.Signal) error { return p.proc.Signal(sig) }

// Output is all the process has written so far, to standard output and error.
func (p *Process) Output() (string, error) {
	text, err := os.ReadFile(p.log)
	if err != nil {
		return "", fmt.Errorf("cannot read gatehouse's output: %w", err)
	}
	return string(text), nil
}

// Stop sends SIGTERM, waits for the end, at most 45 s, and judges it: it
// is an error when the process had to be killed, has an exit status other than
// 0, or reported a data race. It may be called again, and says the same.
func (p *Process) Stop() error {
	ctx, cancel := context.WithTimeout(context.Background(), p.stopTimeout)
	defer cancel()
	// With the lock: an end seen by two callers is judged once it is known
	// whether the test itself killed the process.
	p.mu.Lock()
	defer p.mu.Unlock()
	if err := p.proc.Stop(ctx); err != nil {
		return err
	}
	var errs []error
	if p.proc.Err() != nil && !p.killed {
		errs = append(errs, errors.New("gatehouse ended badly: "+p.exit()))
	}
	return errors.Join(append(errs, p.race())...)
}

// Kill sends SIGKILL and waits for the end: a crash, which Stop does not hold
// against the process.
func (p *Process) Kill() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.killed = p.killed || !p.proc.Exited()
	return p.proc.Kill()
}

// race is an error when the output has a report of the race detector.
func (p *Process) race() error {
	text, err := os.ReadFile(p.log)
	if err != nil {
		return fmt.Errorf("cannot read gatehouse's output: %w", err)
	}
	_, report, found := bytes.Cut(text, []byte("WARNING: DATA RACE"))
	if !found {
		return nil
	}
	const most = 8 << 10
	return fmt.Errorf("gatehouse has a data race:%s", report[:min(len(report), most)])
}

// exit says how the process ended.
func (p *Process) exit() string {
	if err := p.proc.Err(); err != nil {
		return err.Error()
	}
	return "exit status 0"
}

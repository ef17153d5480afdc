package judge

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"syscall"
	"time"

	"gatehouse.dev/gatehouse/test/judges"
)

// Options of Run.
type Options struct {
	Kubeconfig string // of an administrator
	Class      string // the GatewayClass that Gatehouse serves; it must be there
	Debug      bool   // every request in the output
	Keep       bool   // leave the objects of the suite's base manifests in the cluster
	// Output is a file that all that the suite says is written to.
	Output string
}

// Run runs the tests of Expected and returns what docs/CONFORMANCE.md says of
// them. If any ends otherwise than expected, it is an error with the end of the
// suite's output. The program's main must call Suite.
func Run(ctx context.Context, opts Options) (judges.Result, error) {
	ended, output, err := run(ctx, opts, Expected)
	if err != nil {
		return judges.Result{}, err
	}
	if err := compare(Expected, ended); err != nil {
		return judges.Result{}, fmt.Errorf("%w\n--- the end of the suite's output, %s:\n%s", err, opts.Output, tail(output))
	}
	return summary(ended), nil
}

// run runs tests in a child process.
func run(ctx context.Context, opts Options, expected []Expectation) (ended map[string]Outcome, output []byte, err error) {
	dir, err := os.MkdirTemp("", "gatehouse-gateway-api-")
	if err != nil {
		return nil, nil, fmt.Errorf("cannot run the suite: %w", err)
	}
	defer os.RemoveAll(dir)
	o := order{Class: opts.Class, Expected: expected, Debug: opts.Debug, Keep: opts.Keep, Report: filepath.Join(dir, "report.json")}
	text, err := json.Marshal(o)
	if err != nil {
		return nil, nil, fmt.Errorf("cannot run the suite: %w", err)
	}
	self, err := os.Executable()
	if err != nil {
		return nil, nil, fmt.Errorf("cannot run the suite: %w", err)
	}
	var out bytes.Buffer
	cmd := exec.CommandContext(ctx, self)
	cmd.Env = append(os.Environ(), orderEnv+"="+string(text), "KUBECONFIG="+opts.Kubeconfig)
	cmd.Stdout, cmd.Stderr = &out, &out
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	cmd.WaitDelay = time.Second
	failed := cmd.Run()
	if opts.Output != "" {
		if err := os.WriteFile(opts.Output, out.Bytes(), 0o644); err != nil {
			return nil, nil, fmt.Errorf("cannot keep the suite's output: %w", err)
		}
	}
	var exit *exec.ExitError
	if failed != nil && !errors.As(failed, &exit) {
		return nil, nil, fmt.Errorf("cannot run the suite: %w", failed)
	}
	text, err = os.ReadFile(o.Report)
	if err != nil {
		return nil, nil, fmt.Errorf("the suite left no report: %w (%v)\n%s", err, failed, tail(out.Bytes()))
	}
	var r report
	if err := json.Unmarshal(text, &r); err != nil {
		return nil, nil, fmt.Errorf("cannot read the suite's report: %w", err)
	}
	return r.ended(expected), out.Bytes(), nil
}

// ended is how each of the tests ended.
func (r report) ended(expected []Expectation) map[string]Outcome {
	ended := map[string]Outcome{}
	for _, e := range expected {
		how, begun := r.Tests[e.Test]
		switch {
		case r.Setup != Passed:
			how = r.Setup
		case !begun:
			how = NotRun
		}
		ended[e.Test] = how
	}
	return ended
}

var digits = regexp.MustCompile(`[0-9]+`)

// tail is the end of the suite's output, where a line that it says ten times a
// second while it waits stands only once.
func tail(text []byte) []byte {
	var short bytes.Buffer
	said := map[string]bool{}
	for line := range bytes.Lines(text) {
		if key := string(digits.ReplaceAll(line, nil)); !said[key] {
			said[key] = true
			short.Write(line)
		}
	}
	return short.Bytes()[max(0, short.Len()-8000):]
}

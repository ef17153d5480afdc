package load

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"gatehouse.dev/gatehouse/test/kube/internal/poll"
	"gatehouse.dev/gatehouse/test/kube/testserver"
)

// Report is what the clients of a Load saw.
type Report struct {
	Run      string
	Duration time.Duration
	Flows    []FlowReport
}

// FlowReport is what the clients of a Flow saw. Sent is the sum of Succeeded,
// Failed, Unprocessed, Unanswered and what is still open; a failure that belongs
// to no request (a connection that ended) is in Failed alone.
type FlowReport struct {
	Name string
	Kind Kind

	Sent        int // requests, handshakes and messages begun
	Succeeded   int
	Failed      int
	Unprocessed int // the server said, by GOAWAY, that it did not begin them
	Unanswered  int // messages on the way when a stream came to its right end
	Connections int // opened
	IdleClosed  int // connections that the server ended between two requests, without a word

	Failures []Failure // the first ones, in full
	Ends     []End     // right ends of streams

	P50, P99, Max time.Duration  // from the first byte sent to the last one received
	Pods          map[string]int // answers by pod

	succeeded, unprocessed []string // numbers
}

// Failure is a request that was not answered as it should be, or a connection
// that ended as it should not.
type Failure struct {
	At     time.Time
	Begun  time.Time // when the request was sent; zero for none
	Local  string    // the connection's own address and port; empty when there is none
	Number string    // the request's; empty for none
	Cause  string
	Read   string // the last that was read on the connection
}

func (f Failure) String() string {
	text := fmt.Sprintf("%s from %s number %q: %s", f.At.Format("15:04:05.000000"), f.Local, f.Number, f.Cause)
	if !f.Begun.IsZero() {
		text += fmt.Sprintf(" (after %s)", f.At.Sub(f.Begun).Round(time.Microsecond))
	}
	if f.Read != "" {
		text += fmt.Sprintf("; read: %q", f.Read)
	}
	return text
}

// End is a right end of a stream by the server.
type End struct {
	At    time.Time
	Local string // the connection's own address and port
	Pod   string
	Cause string // such as "Close 1001 the pod is ending"
}

// Err is nil when nothing failed, and lists the first failures otherwise. A
// flow in which nothing succeeded is an error too.
func (r Report) Err() error {
	const most = 10
	var errs []error
	for _, f := range r.Flows {
		if f.Succeeded == 0 {
			errs = append(errs, fmt.Errorf("%s: nothing succeeded", f.Name))
		}
		if f.Failed == 0 {
			continue
		}
		errs = append(errs, fmt.Errorf("%s: %d of %d failed", f.Name, f.Failed, f.Sent))
		for _, failure := range f.Failures[:min(len(f.Failures), most)] {
			errs = append(errs, fmt.Errorf("  %s", failure))
		}
	}
	return errors.Join(errs...)
}

// String is a table, with a line for each flow.
func (r Report) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%-28s %8s %8s %6s %6s %6s %5s %5s %9s %9s %9s  pods\n", "after "+r.Duration.Round(time.Millisecond).String(),
		"sent", "ok", "failed", "unproc", "unansw", "conns", "ends", "p50", "p99", "max")
	for _, f := range r.Flows {
		fmt.Fprintf(&b, "%-28s %8d %8d %6d %6d %6d %5d %5d %9s %9s %9s ", f.Name, f.Sent, f.Succeeded, f.Failed,
			f.Unprocessed, f.Unanswered, f.Connections, len(f.Ends), short(f.P50), short(f.P99), short(f.Max))
		for _, pod := range slices.Sorted(maps.Keys(f.Pods)) {
			fmt.Fprintf(&b, " %s:%d", pod, f.Pods[pod])
		}
		b.WriteByte('\n')
	}
	return b.String()
}

func short(d time.Duration) string { return d.Round(10 * time.Microsecond).String() }

// Compare compares what the clients saw with what the backends executed, of
// which all numbers must be there (Counter.Seen(run, true)): nothing twice,
// all that succeeded, nothing of what was said to be unprocessed.
func (r Report) Compare(seen testserver.Seen) error {
	const most = 10
	var errs []error
	complain := func(what string, numbers []string) {
		if len(numbers) == 0 {
			return
		}
		slices.Sort(numbers)
		errs = append(errs, fmt.Errorf("%d requests %s: %s", len(numbers), what, strings.Join(numbers[:min(len(numbers), most)], " ")))
	}
	complain("were executed more than once", slices.Collect(maps.Keys(seen.Duplicates)))
	var missing, executed []string
	for _, f := range r.Flows {
		for _, number := range f.succeeded {
			if seen.Numbers[number] == 0 {
				missing = append(missing, number)
			}
		}
		for _, number := range f.unprocessed {
			if seen.Numbers[number] > 0 {
				executed = append(executed, number)
			}
		}
	}
	complain("were answered but never executed", missing)
	complain("were executed though a GOAWAY said otherwise", executed)
	return errors.Join(errs...)
}

// CompareWith is Compare with what collector knows, once all that succeeded has
// reached it, which takes a moment; when ctx ends before, what is missing is in
// the error.
func (r Report) CompareWith(ctx context.Context, collector *testserver.Collector) error {
	_ = poll.Until(ctx, 50*time.Millisecond, func(context.Context) error {
		seen := collector.Seen(r.Run, true).Numbers
		for _, f := range r.Flows {
			for _, number := range f.succeeded {
				if seen[number] == 0 {
					return fmt.Errorf("%s is missing", number)
				}
			}
		}
		return nil
	})
	return r.Compare(collector.Seen(r.Run, true))
}

// recorder takes what the workers of a flow see.
type recorder struct {
	mu          sync.Mutex
	flow        FlowReport
	latencies   []time.Duration
	maxFailures int
}

func newRecorder(maxFailures int) *recorder {
	return &recorder{maxFailures: maxFailures, flow: FlowReport{Pods: map[string]int{}}}
}

func (r *recorder) report(name string, kind Kind) FlowReport {
	r.mu.Lock()
	defer r.mu.Unlock()
	f := r.flow
	f.Name, f.Kind = name, kind
	f.Failures, f.Ends, f.Pods = slices.Clone(f.Failures), slices.Clone(f.Ends), maps.Clone(f.Pods)
	f.succeeded, f.unprocessed = slices.Clone(f.succeeded), slices.Clone(f.unprocessed)
	if n := len(r.latencies); n > 0 {
		sorted := slices.Sorted(slices.Values(r.latencies))
		f.P50, f.P99, f.Max = sorted[n/2], sorted[n*99/100], sorted[n-1]
	}
	return f
}

func (r *recorder) opened() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.flow.Connections++
}

func (r *recorder) sent() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.flow.Sent++
}

// succeed records an answer; number is empty for a message of a stream.
func (r *recorder) succeed(number, pod string, begun time.Time) {
	latency := time.Since(begun)
	r.mu.Lock()
	defer r.mu.Unlock()
	r.flow.Succeeded++
	r.flow.Pods[pod]++
	r.latencies = append(r.latencies, latency)
	if number != "" {
		r.flow.succeeded = append(r.flow.succeeded, number)
	}
}

func (r *recorder) fail(f Failure) {
	f.At = time.Now()
	r.mu.Lock()
	defer r.mu.Unlock()
	r.flow.Failed++
	if len(r.flow.Failures) < r.maxFailures {
		r.flow.Failures = append(r.flow.Failures, f)
	}
}

// skip records a request that the server said it did not begin; number is empty
// when the client sent it again.
func (r *recorder) skip(number string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.flow.Unprocessed++
	if number != "" {
		r.flow.unprocessed = append(r.flow.unprocessed, number)
	}
}

func (r *recorder) idleClosed() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.flow.IdleClosed++
}

// end records the right end of a stream, with messages on the way.
func (r *recorder) end(e End, unanswered int) {
	e.At = time.Now()
	r.mu.Lock()
	defer r.mu.Unlock()
	r.flow.Ends = append(r.flow.Ends, e)
	r.flow.Unanswered += unanswered
}

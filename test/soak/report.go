package main

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"os"
	"os/exec"
	"slices"
	"time"
)

// report is what a run has shown.
type report struct {
	options
	observed
	// Of the kernel, by namespace, while the load lasted.
	Clients, Edge, Endpoints counters
	Dropped                  int64 // packets, by the machine
	KernelPages, Pressure    int64 // TCP memory of the machine at its most, and where it becomes stingy
	// Said is what Gatehouse's access log says of the responses that broke off.
	Said map[string]int
	// Resident MiB of Gatehouse at the end of the load, and of the quiet after it.
	ResidentLoad, ResidentRest, AnonymousRest int64
	CPU                                       time.Duration // of Gatehouse
}

// soak runs one load.
func soak(ctx context.Context, o options, dir, self string) (*report, error) {
	w, err := newWorld(ctx, o, dir, self)
	defer w.end()
	if err != nil {
		return nil, err
	}
	r := &report{options: o}
	watched := make(chan struct{})
	watching, stop := context.WithCancel(ctx)
	defer func() { stop(); <-watched }()
	go func() {
		defer close(watched)
		r.watchMemory(watching)
	}()
	// Nothing was counted before: the namespaces are new. Those of the clients end
	// with them, so that they are read in time.
	read := make(chan counters, 1)
	before := dropped()
	reading := time.AfterFunc(o.Length, func() {
		clients, _ := count(w.clients.Process.Pid)
		read <- clients
	})
	seen, err := w.load(o)
	if err != nil {
		reading.Stop()
		return nil, err
	}
	var clients counters
	if !reading.Stop() { // else the load has ended before its time
		clients = <-read
	}
	r.observed, r.Clients, r.Dropped = *seen, clients, dropped()-before
	if r.Edge, err = count(w.edge.Process.Pid); err != nil {
		return nil, err
	}
	if r.Endpoints, err = count(w.endpoints.Process.Pid); err != nil {
		return nil, err
	}
	r.ResidentLoad, _ = resident(w.edge.Process.Pid)
	select {
	case <-ctx.Done():
	case <-time.After(o.Rest):
	}
	r.ResidentRest, r.AnonymousRest = resident(w.edge.Process.Pid)
	_ = w.edge.Process.Signal(os.Interrupt) // its log is whole then
	_ = w.edge.Wait()
	if s := w.edge.ProcessState; s != nil {
		r.CPU = s.UserTime() + s.SystemTime()
	}
	return r, r.readLog(w.log)
}

// watchMemory keeps the most that sockets have taken.
func (r *report) watchMemory(ctx context.Context) {
	tick := time.NewTicker(200 * time.Millisecond)
	defer tick.Stop()
	for {
		var pages int64
		pages, r.Pressure = kernelMemory()
		r.KernelPages = max(r.KernelPages, pages)
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

// readLog finds what was logged of the requests whose responses broke off.
func (r *report) readLog(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	r.Said = map[string]int{}
	missing := maps.Clone(r.Broken)
	lines := bufio.NewScanner(f)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		var l struct {
			ID       string `json:"request_id"`
			Status   int    `json:"status"`
			Reason   string `json:"reason"`
			BytesOut int64  `json:"bytes_out"`
			Level    string `json:"level"`
			Message  string `json:"msg"`

			Duration float64 `json:"duration_seconds"`
			Upstream float64 `json:"upstream_duration_seconds"`
			Attempts int     `json:"attempts"`
		}
		if json.Unmarshal(lines.Bytes(), &l) != nil {
			continue
		}
		if l.Level == "ERROR" || l.Level == "WARN" {
			r.Said["log: "+l.Message]++
		}
		if when, ok := r.Slowest[l.ID]; ok {
			r.Slowest[l.ID] = fmt.Sprintf("%s; Gatehouse: %.1f s, of these %.1f s for the endpoint, %d attempts", when, l.Duration, l.Upstream, l.Attempts)
		}
		how, ok := missing[l.ID]
		if !ok {
			continue
		}
		delete(missing, l.ID)
		said := l.Reason
		if said == "" {
			said = "sent whole"
		}
		r.Said[fmt.Sprintf("%s; Gatehouse: %d %s", how, l.Status, said)]++
	}
	for _, how := range missing {
		r.Said[how+"; Gatehouse knows nothing of it"]++
	}
	return lines.Err()
}

// print writes the report for people.
func (r *report) print(w io.Writer) {
	fmt.Fprintf(w, "load %v: %d closing clients (%d half-closed, TLS %v) of %d bytes with pauses of %v, %d streams that stall on %d bytes, %d timed clients\n",
		r.Length, r.Closing, r.HalfShut, r.TLS, r.Size, r.Pause, r.options.Stalled, r.Stall, r.Paced)
	for _, how := range slices.Sorted(maps.Keys(r.Ended)) {
		fmt.Fprintf(w, "  %-40s %d\n", how, r.Ended[how])
	}
	for _, said := range slices.Sorted(maps.Keys(r.Said)) {
		fmt.Fprintf(w, "  %-40s %d\n", said, r.Said[said])
	}
	if n := len(r.Slow); n > 0 {
		at := func(p int) float64 { return r.Slow[min(n-1, n*p/1000)] }
		fmt.Fprintf(w, "timed: %d, median %.1f ms, 99 %% %.1f ms, most %.1f ms, failed %v; %d streams stalled\n",
			n, at(500), at(990), r.Slow[n-1], r.Failed, r.observed.Stalled)
	}
	for _, id := range slices.Sorted(maps.Keys(r.Slowest)) {
		fmt.Fprintf(w, "  %s: %s\n", id, r.Slowest[id])
	}
	fmt.Fprintf(w, "%-32s %10s %10s %10s\n", "kernel", "clients", "gatehouse", "endpoints")
	for _, name := range telling {
		if r.Clients[name]+r.Edge[name]+r.Endpoints[name] > 0 {
			fmt.Fprintf(w, "%-32s %10d %10d %10d\n", name, r.Clients[name], r.Edge[name], r.Endpoints[name])
		}
	}
	fmt.Fprintf(w, "packets dropped by the machine: %d; TCP memory: %d MiB at most, pressure from %d MiB\n", r.Dropped, r.KernelPages>>8, r.Pressure>>8)
	fmt.Fprintf(w, "resident: %d MiB under load, %d MiB after %v (%d MiB of it anonymous); CPU %v\n",
		r.ResidentLoad, r.ResidentRest, r.Rest, r.AnonymousRest, r.CPU.Round(time.Millisecond))
}

// available reports why no soak can be run here, or "".
func available() string {
	if os.Geteuid() != 0 {
		return "network namespaces need root"
	}
	for _, tool := range []string{"ip", "nsenter"} {
		if _, err := exec.LookPath(tool); err != nil {
			return tool + " is not installed"
		}
	}
	return ""
}

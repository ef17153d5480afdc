// Command scale measures Gatehouse in clusters of several sizes: how long from
// the start to Ready, memory, how long from a change to the first request that
// it serves, and CPU while nothing happens. It gives JSON.
//
// It runs the binary as users do, on a directory with one file for each Ingress
// and what belongs to it, and edits files. So the times of changes include what
// the directory costs: to be told, to wait until it is quiet (20 ms), and to
// look at all files. What a change costs behind that is BenchmarkScale in
// internal/app.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"gatehouse.dev/gatehouse/test/scale/objects"
)

// result is what was measured with so many Ingresses; times are in
// milliseconds, memory in MiB.
type result struct {
	Ingresses    int     `json:"ingresses"`
	Certificates int     `json:"certificates"`
	Ready        float64 `json:"readyMs"`
	RSSAtReady   float64 `json:"rssAtReadyMiB"`
	RSSAtEnd     float64 `json:"rssAtEndMiB"`
	Changes      int     `json:"changes"`
	P50          float64 `json:"changeP50Ms"`
	P99          float64 `json:"changeP99Ms"`
	// IdleCPU is the part of one core, in percent.
	IdleCPU float64 `json:"idleCPUPercent"`
}

func main() {
	binary := flag.String("binary", "bin/gatehouse", "what to measure")
	sizes := flag.String("n", "100,1000,10000,50000", "numbers of Ingresses; half of them have a certificate")
	changes := flag.Int("changes", 50, "how many changes to time")
	flag.Parse()
	if err := run(*binary, *sizes, *changes); err != nil {
		fmt.Fprintln(os.Stderr, "scale:", err)
		os.Exit(1)
	}
}

func run(binary, sizes string, changes int) error {
	var all []result
	for s := range strings.SplitSeq(sizes, ",") {
		n, err := strconv.Atoi(s)
		if err != nil {
			return fmt.Errorf("cannot read --n: %w", err)
		}
		r, err := measure(binary, n, changes)
		if err != nil {
			return fmt.Errorf("cannot measure %d Ingresses: %w", n, err)
		}
		fmt.Fprintf(os.Stderr, "%+v\n", *r)
		all = append(all, *r)
	}
	out := json.NewEncoder(os.Stdout)
	out.SetIndent("", "  ")
	return out.Encode(all)
}

// edge is a Gatehouse under test.
type edge struct {
	plan                objects.Plan
	dir                 string
	cmd                 *exec.Cmd
	http, https, health string
	client              *http.Client
}

func measure(binary string, n, changes int) (*result, error) {
	dir, err := os.MkdirTemp("", "scale")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	backend, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	defer backend.Close()
	go http.Serve(backend, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "ok") }))
	e := &edge{
		dir: dir, client: &http.Client{
			Timeout:       time.Second,
			CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		},
		plan: objects.Plan{Seed: 1, Ingresses: n, Certificates: n / 2, Endpoint: netip.MustParseAddrPort(backend.Addr().String())},
	}
	if err := e.writeAll(); err != nil {
		return nil, err
	}
	r := &result{Ingresses: n, Certificates: n / 2, Changes: changes}
	begin := time.Now()
	if err := e.start(binary); err != nil {
		return nil, err
	}
	defer func() {
		e.cmd.Process.Kill()
		e.cmd.Wait()
	}()
	if err := e.waitReady(); err != nil {
		return nil, err
	}
	r.Ready = milliseconds(time.Since(begin))
	if r.RSSAtReady, err = e.rss(); err != nil {
		return nil, err
	}
	var times []time.Duration
	for i := range changes {
		d, err := e.change(i)
		if err != nil {
			return nil, err
		}
		times = append(times, d)
	}
	slices.Sort(times)
	r.P50, r.P99 = milliseconds(times[len(times)/2]), milliseconds(times[len(times)*99/100])
	before, err := e.cpu()
	if err != nil {
		return nil, err
	}
	const idle = 10 * time.Second
	time.Sleep(idle)
	after, err := e.cpu()
	if err != nil {
		return nil, err
	}
	r.IdleCPU = 100 * float64(after-before) / float64(idle)
	r.RSSAtEnd, err = e.rss()
	return r, err
}

func milliseconds(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }

// writeAll writes one file for each Ingress, which comes last of its objects.
func (e *edge) writeAll() error {
	var docs []metav1.Object
	i := 0
	for _, o := range e.plan.All() {
		docs = append(docs, o)
		if _, last := o.(*networkingv1.Ingress); !last {
			continue
		}
		if err := e.write(i, docs); err != nil {
			return err
		}
		docs, i = nil, i+1
	}
	return nil
}

func (e *edge) write(i int, docs []metav1.Object) error {
	list := struct {
		APIVersion string          `json:"apiVersion"`
		Kind       string          `json:"kind"`
		Items      []metav1.Object `json:"items"`
	}{"v1", "List", docs}
	data, err := json.Marshal(list)
	if err != nil {
		return err
	}
	path := filepath.Join(e.dir, fmt.Sprintf("app-%05d.json", i))
	if err := os.WriteFile(path+".new", data, 0o600); err != nil {
		return err
	}
	return os.Rename(path+".new", path)
}

func (e *edge) start(binary string) error {
	for _, a := range []*string{&e.http, &e.https, &e.health} {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			return err
		}
		*a = l.Addr().String()
		l.Close()
	}
	e.cmd = exec.Command(binary, "serve", "--manifests", e.dir, "--http-addr", e.http, "--https-addr", e.https,
		"--admin-addr", "", "--health-addr", e.health, "--allow-local-endpoints", "--access-log", "off")
	return e.cmd.Start()
}

func (e *edge) waitReady() error {
	return e.until(time.Minute, func() bool {
		resp, err := e.client.Get("http://" + e.health + "/readyz")
		if err != nil {
			return false
		}
		resp.Body.Close()
		return resp.StatusCode == http.StatusOK
	})
}

// change adds an Ingress to the file of another, and times how long it takes
// until a request is served by it.
func (e *edge) change(k int) (time.Duration, error) {
	i := k * 7919 % e.plan.Ingresses
	ing := e.plan.Ingress(i, false)
	ing.Name, ing.Annotations = fmt.Sprintf("change-%d", k), nil
	ing.Spec.Rules = ing.Spec.Rules[:1]
	ing.Spec.Rules[0].Host = fmt.Sprintf("change-%d.example.com", k)
	docs := []metav1.Object{objects.Service(i), e.plan.Slice(i, 0), e.plan.Ingress(i, false), ing}
	begin := time.Now()
	if err := e.write(i, docs); err != nil {
		return 0, err
	}
	err := e.until(time.Minute, func() bool {
		req, err := http.NewRequestWithContext(context.Background(), http.MethodGet, "http://"+e.http+"/", nil)
		if err != nil {
			return false
		}
		req.Host = ing.Spec.Rules[0].Host
		resp, err := e.client.Do(req)
		if err != nil {
			return false
		}
		io.Copy(io.Discard, resp.Body)
		resp.Body.Close()
		return resp.StatusCode == http.StatusOK
	})
	return time.Since(begin), err
}

func (e *edge) until(limit time.Duration, done func() bool) error {
	for end := time.Now().Add(limit); !done(); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			return errors.New("waited in vain")
		}
	}
	return nil
}

func (e *edge) rss() (float64, error) {
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/statm", e.cmd.Process.Pid))
	if err != nil {
		return 0, err
	}
	pages, err := strconv.Atoi(strings.Fields(string(data))[1])
	return float64(pages) * float64(os.Getpagesize()) / (1 << 20), err
}

// cpu is what the process has used.
func (e *edge) cpu() (time.Duration, error) {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", e.cmd.Process.Pid))
	if err != nil {
		return 0, err
	}
	fields := strings.Fields(string(stat[strings.LastIndexByte(string(stat), ')')+2:]))
	user, err := strconv.Atoi(fields[11])
	if err != nil {
		return 0, err
	}
	system, err := strconv.Atoi(fields[12])
	const tick = 10 * time.Millisecond // USER_HZ
	return time.Duration(user+system) * tick, err
}

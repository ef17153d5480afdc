package result

import (
	"encoding/xml"
	"io"
	"math"
	"slices"
	"strings"
	"testing"
	"time"
)

func TestOf(t *testing.T) {
	f := func(in []float64, want Stats) {
		t.Helper()
		if got := Of(in); got != want {
			t.Errorf("Of(%v) = %v, want %v", in, got, want)
		}
	}
	f([]float64{3}, Stats{1, 3, 3, 3})
	f([]float64{3, 1, 2}, Stats{3, 2, 1, 3})
	f([]float64{4, 1, 2, 10}, Stats{4, 3, 1, 10})
	if got := Of(nil); got.N != 0 || !math.IsNaN(got.Median) {
		t.Errorf("Of(nil) = %v", got)
	}
	in := []float64{3, 1}
	if Of(in); in[0] != 3 {
		t.Error("the values were sorted in place")
	}
}

func TestQuantile(t *testing.T) {
	var d []time.Duration
	for i := range 100 {
		d = append(d, time.Duration(100-i))
	}
	for q, want := range map[float64]time.Duration{0: 1, 0.5: 50, 0.99: 99, 1: 100} {
		if got := Quantile(d, q); got != want {
			t.Errorf("Quantile %v is %d, want %d", q, got, want)
		}
	}
	if Quantile(nil, 0.5) != 0 {
		t.Error("a quantile of nothing")
	}
}

// rounds: a is the reference; b is twice as dear in every set, though both
// differ from set to set.
func rounds() []Round {
	r := func(set int, peer string, cpu float64, dropped string) Round {
		return Round{Set: set, Workload: "w", Peer: peer, Requests: 1e6, Seconds: 2, CPU: cpu, P50: 1000, P99: cpu * 100, Dropped: dropped}
	}
	return []Round{
		r(0, "a", 10, ""), r(0, "b", 20, ""),
		r(1, "a", 30, ""), r(1, "b", 90, "foreign work"), r(1, "b", 60, ""),
		r(2, "a", 50, ""), r(2, "b", 100, "failed: status 502"),
		r(3, "a", 5, "foreign work"), r(3, "b", 7, ""),
		{Set: 0, Workload: "other", Peer: "b", Requests: 1, Seconds: 1, CPU: 1},
	}
}

func TestRatios(t *testing.T) {
	f := func(peer, ref string, m Metric, want ...float64) {
		t.Helper()
		if got := Ratios(rounds(), "w", peer, ref, m); !slices.Equal(got, want) {
			t.Errorf("%s of %s to %s: %v, want %v", m.Name, peer, ref, got, want)
		}
	}
	// Sets without a good round of both give nothing.
	f("b", "a", CPUPerRequest, 2, 2)
	f("a", "b", CPUPerRequest, 0.5, 0.5)
	f("b", "a", PerSecond, 1, 1)
	f("a", "a", CPUPerRequest, 1, 1, 1)
	f("none", "a", CPUPerRequest)
	if got := Values(rounds(), "w", "b", CPUPerRequest); !slices.Equal(got, []float64{20, 60, 7}) {
		t.Errorf("values are %v", got)
	}
	if a, all := Dropped(rounds(), "w", "a"), Dropped(rounds(), "w", ""); a != 1 || all != 3 {
		t.Errorf("dropped %d of a, %d in all", a, all)
	}
}

func report() *Report {
	return &Report{
		Peers: []Peer{{"a", "1.0", "as it comes"}, {"b", "2.0", ""}},
		Work: []Workload{{Name: "w", Title: "Small answers", Group: "All", Targets: []Target{
			{To: "a", Metric: CPUPerRequest.Name, Most: 1.2}, {To: "a", Metric: P99.Name, Most: 3}, {To: "nobody", Metric: CPUPerRequest.Name, Most: 1}}}},
		Idle:     []Idle{{"b", false, 10000, 1 << 20, 7000, 6144}},
		Rounds:   rounds(),
		Changes:  []Change{{"a file", 1000, 50, 5 * time.Millisecond, 250 * time.Millisecond, time.Second, 200 * time.Millisecond}},
		Settings: Settings{Rounds: 4, Length: time.Second, MaxForeign: 0.08, Ours: "b", Reference: "a"},
		Missing:  []Missing{{"w", "c", "cannot start\nlog"}, {"apply", "", "no time"}},
	}
}

func TestTable(t *testing.T) {
	got := report().Table(report().Work[0])
	for _, want := range []string{
		"\n| a  ", "\n| b  ", "20.00 µs", "2.00x", "(range)", "2.00–2.00", "500,000", "1.00 ms",
	} {
		if !strings.Contains(got, want) {
			t.Errorf("no %q in\n%s", want, got)
		}
	}
	lines := strings.Split(strings.TrimSpace(got), "\n")
	if len(lines) != 4 || len([]rune(lines[0])) != len([]rune(lines[3])) || !strings.HasPrefix(lines[1], "|:--") {
		t.Errorf("not a table:\n%s", got)
	}
}

func TestTargets(t *testing.T) {
	r := report()
	cpu, p99 := r.TargetTable(CPUPerRequest), r.TargetTable(P99)
	if !strings.Contains(cpu, "2.00x (≤ 1.20x MISSED)") || !strings.Contains(cpu, "- (≤ 1.00x)") || strings.Contains(cpu, "met") {
		t.Errorf("CPU:\n%s", cpu)
	}
	if !strings.Contains(p99, "≤ 3.00x met") || strings.Contains(p99, "MISSED") {
		t.Errorf("p99:\n%s", p99)
	}
	if strings.Contains(p99, "°") {
		t.Errorf("busy proxies are said to be idle:\n%s", p99)
	}
	for i := range r.Rounds {
		r.Rounds[i].Seconds *= 100
	}
	if p99 := r.TargetTable(P99); !strings.Contains(p99, "≤ 3.00x met) °") || len(r.Unsaturated()) != 2 {
		t.Errorf("idle proxies are not said to be:\n%s\n%s", p99, r.Unsaturated())
	}
	r.Work[0].Targets = append(r.Work[0].Targets, Target{"b", "a", CPUPerRequest.Name, 3}, Target{"a", "b", CPUPerRequest.Name, 3})
	if own := r.TargetTable(CPUPerRequest); !strings.Contains(own, "b to a: 2.00x (≤ 3.00x met); a to b: 0.50x (≤ 3.00x met)") {
		t.Errorf("two of one row:\n%s", own)
	}
	got := strings.Join(r.Missed(), "\n")
	if !strings.Contains(got, "CPU per request of b is 2.00x that of a") || strings.Contains(got, "p99") || !strings.Contains(got, "6.8 KiB each, target 6.0 KiB") {
		t.Errorf("missed: %q", got)
	}
	if !r.Complete("w", 2) || r.Complete("w", 3) || r.Complete("other", 2) {
		t.Error("complete without rounds of all peers, or incomplete with them")
	}
	if a, b := r.Worse(1.4), r.Worse(1.7); len(a) != 1 || a[0] != "w" || len(b) != 0 {
		t.Errorf("far off: %q and %q", a, b)
	}
}

func TestPaced(t *testing.T) {
	r := report()
	if r.PacedTable() != "" {
		t.Error("a table of nothing")
	}
	before := r.Table(r.Work[0])
	r.Rounds = append(r.Rounds, Round{Workload: "w", Peer: "b", Requests: 1000, Seconds: 1, CPU: 0.5, P50: 2000, P99: 3000, P999: 9000, Rate: 1000})
	if got := r.PacedTable(); !strings.Contains(got, "9.00 ms") || !strings.Contains(got, "1,000") {
		t.Errorf("got:\n%s", got)
	}
	if r.Table(r.Work[0]) != before {
		t.Error("a paced round counts at saturation")
	}
	r.Rounds = append(r.Rounds, Round{Workload: "w", Peer: "a", Requests: 1000, Seconds: 1, CPU: 0.5, P99: 2000, Rate: 1000})
	if got := r.PacedRatios(); !strings.Contains(got, "1.50x (1.50–1.50)") {
		t.Errorf("ratios:\n%s", got)
	}
}

func TestDocument(t *testing.T) {
	got, err := report().Document("## Found out\n\nThis.\n")
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"### All", "| Small answers ", "3 of 10 were", "more than 8 % of", "≤ 200.0 ms, MISSED", "2.00x that of a", "- Small answers, c: cannot start\n", "- apply: no time\n", "\n\n## Found out\n\nThis.\n\n", "≤ 6.0 KiB MISSED"} {
		if !strings.Contains(got, want) {
			t.Errorf("no %q in\n%s", want, got)
		}
	}
}

func TestPicture(t *testing.T) {
	r := report()
	r.Work[0].Title = "first <one>"
	got := r.Picture(CPUPerRequest)
	d := xml.NewDecoder(strings.NewReader(got))
	for {
		if _, err := d.Token(); err == io.EOF {
			break
		} else if err != nil {
			t.Fatalf("not XML: %v\n%s", err, got)
		}
	}
	for _, want := range []string{"first &lt;one&gt;", "2.00 · 20.0 µs", `class="ours"`, `class="target"`} {
		if !strings.Contains(got, want) {
			t.Errorf("no %q in\n%s", want, got)
		}
	}
}

func TestAdopt(t *testing.T) {
	r, earlier := report(), report()
	earlier.Date, earlier.Work[0].Name = "before", "v"
	for i := range earlier.Rounds {
		earlier.Rounds[i].Workload = "v"
	}
	earlier.Calls = []Calls{{"v", "a", 4}}
	earlier.Missing = []Missing{{"v", "a", "ended"}, {"w", "", "no time"}}
	earlier.Changes = append(earlier.Changes, Change{Way: "another"})
	n, all := len(r.Rounds), r.Clone()
	if err := all.Adopt(earlier, []string{"v", "w"}); err != nil || len(r.Work) != 1 || len(r.Rounds) != n {
		t.Errorf("a clone shares what is added: %+v, %v", r, err)
	}
	if err := r.Adopt(earlier, []string{"v", "w"}); err != nil {
		t.Fatal(err)
	}
	if len(r.Work) != 2 || r.Work[0].Name != "v" || len(r.Rounds) != 2*n || len(r.Calls) != 1 || len(r.Adopted()) != 1 ||
		len(r.Missing) != 3 || len(r.Changes) != 2 || !r.Has("v") || r.Has("u") {
		t.Errorf("adopted: %+v", r)
	}
	earlier.Settings.Rounds++
	if err := r.Adopt(earlier, nil); err == nil {
		t.Error("rows with other settings were adopted")
	}
}

func TestComplaint(t *testing.T) {
	r := report()
	if err := r.Complaint(); err == nil || !strings.Contains(err.Error(), "w, b: a round failed: status 502") || strings.Contains(err.Error(), "no round") {
		t.Errorf("complaint is %v", err)
	}
	r.Rounds = r.Rounds[:2]
	if err := r.Complaint(); err == nil || !strings.Contains(err.Error(), "apply, all was not measured: no time") {
		t.Errorf("complaint is %v", err)
	}
	r.Missing = nil
	if err := r.Complaint(); err != nil {
		t.Error(err)
	}
	r.Rounds[1].Dropped = "others"
	if err := r.Complaint(); err == nil || !strings.Contains(err.Error(), "w, b: no round") {
		t.Errorf("complaint is %v", err)
	}
}

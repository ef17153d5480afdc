package result

import (
	"cmp"
	"errors"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Report is all that a run of the benchmark found out.
type Report struct {
	Date     string     `json:"date"`
	Machine  []Fact     `json:"machine"`
	Peers    []Peer     `json:"peers"` // the first is the reference
	Work     []Workload `json:"workloads"`
	Rounds   []Round    `json:"rounds"`
	Calls    []Calls    `json:"systemCalls,omitempty"`
	Idle     []Idle     `json:"idle,omitempty"`
	Changes  []Change   `json:"changes,omitempty"`
	Missing  []Missing  `json:"missing,omitempty"`
	Settings Settings   `json:"settings"`
}

// Clone is a Report to which more can be added without changing r.
func (r *Report) Clone() *Report {
	c := *r
	c.Machine, c.Peers, c.Work, c.Rounds = slices.Clone(r.Machine), slices.Clone(r.Peers), slices.Clone(r.Work), slices.Clone(r.Rounds)
	c.Calls, c.Idle, c.Changes, c.Missing = slices.Clone(r.Calls), slices.Clone(r.Idle), slices.Clone(r.Changes), slices.Clone(r.Missing)
	return &c
}

// Has says whether a workload was measured.
func (r *Report) Has(workload string) bool {
	return slices.ContainsFunc(r.Work, func(w Workload) bool { return w.Name == workload })
}

// Fact is a name and a value.
type Fact struct{ Name, Value string }

// Peer is one of the proxies.
type Peer struct{ Name, Version, About string }

// Workload is one row of the benchmark.
type Workload struct {
	Name, Title string
	Group       string   // of rows under one heading
	Targets     []Target `json:",omitempty"`
	Date        string   `json:",omitempty"` // of an earlier run that the row is from
}

// Target is the largest ratio that is aimed at.
type Target struct {
	Of     string `json:",omitempty"` // peer; empty: Ours
	To     string // peer
	Metric string // name of CPUPerRequest or P99
	Most   float64
}

// Calls are the system calls that a request took, from a round of its own.
type Calls struct {
	Workload   string  `json:"workload"`
	Peer       string  `json:"peer"`
	PerRequest float64 `json:"perRequest"`
}

// Idle is what idle connections hold.
type Idle struct {
	Peer        string  `json:"peer"`
	TLS         bool    `json:"tls"`
	Connections int     `json:"connections"`
	Before      int64   `json:"beforeBytes"` // resident, of the proxy
	Each        float64 `json:"eachBytes"`
	Target      float64 `json:"targetBytes,omitempty"`
}

// Complete says whether a workload has rounds that count of so many peers.
func (r *Report) Complete(workload string, peers int) bool {
	for _, p := range r.Peers {
		if len(Values(Saturated(r.Rounds), workload, p.Name, CPUPerRequest)) > 0 {
			peers--
		}
	}
	return peers <= 0
}

// Missing is what was to be measured and was not.
type Missing struct {
	What string `json:"what"`           // name of a workload, or of another part of the run
	Peer string `json:"peer,omitempty"` // empty: all
	Why  string `json:"why"`
}

// Adopt takes the workloads that this run did not measure from an earlier one of
// the same machine and settings, in the order of names. A row is of one run alone:
// rounds of different runs never meet.
func (r *Report) Adopt(earlier *Report, names []string) error {
	if !slices.Equal(r.Machine, earlier.Machine) || r.Settings != earlier.Settings {
		return errors.New("cannot take rows from the earlier run: another machine, or other settings")
	}
	if len(r.Work) == 0 {
		r.Date = earlier.Date
	}
	for _, p := range earlier.Peers {
		if !slices.ContainsFunc(r.Peers, func(own Peer) bool { return own.Name == p.Name }) {
			r.Peers = append(r.Peers, p)
		}
	}
	if len(r.Idle) == 0 {
		r.Idle = earlier.Idle
	}
	for _, c := range earlier.Changes {
		if !slices.ContainsFunc(r.Changes, func(own Change) bool { return own.Way == c.Way }) {
			r.Changes = append(r.Changes, c)
		}
	}
	for _, w := range earlier.Work {
		if r.Has(w.Name) {
			continue
		}
		// What a row that is there still lacks stays missing.
		for _, m := range earlier.Missing {
			if m.What == w.Name {
				r.Missing = append(r.Missing, m)
			}
		}
		if w.Date == "" && r.Date != earlier.Date {
			w.Date = earlier.Date
		}
		r.Work = append(r.Work, w)
		for _, round := range earlier.Rounds {
			if round.Workload == w.Name {
				r.Rounds = append(r.Rounds, round)
			}
		}
		for _, c := range earlier.Calls {
			if c.Workload == w.Name {
				r.Calls = append(r.Calls, c)
			}
		}
	}
	slices.SortStableFunc(r.Work, func(a, b Workload) int {
		return slices.Index(names, a.Name) - slices.Index(names, b.Name)
	})
	return nil
}

// Adopted are the rows of earlier runs, in words.
func (r *Report) Adopted() []string {
	var out []string
	for _, w := range r.Work {
		if w.Date != "" {
			out = append(out, w.Title+" ("+w.Date+")")
		}
	}
	return out
}

// Settings are what a run was told.
type Settings struct {
	Rounds         int
	WarmUp, Length time.Duration
	MaxForeign     float64 // share of the proxy's core
	Ours           string  // the peer that all this is about
	Reference      string  // the peer in whose units pictures are
}

// Change is how long changes took until a client saw them.
type Change struct {
	Way     string        `json:"way"` // how the change was made
	Objects int           `json:"ingresses"`
	N       int           `json:"changes"`
	P50     time.Duration `json:"p50ns"`
	P99     time.Duration `json:"p99ns"`
	Max     time.Duration `json:"maxns"`
	Target  time.Duration `json:"targetns,omitempty"`
}

// table is rows of cells under a header, written as Markdown that is aligned
// enough to be read in a terminal.
type table [][]string

func (t table) String() string {
	widths := make([]int, len(t[0]))
	for _, row := range t {
		for i, cell := range row {
			widths[i] = max(widths[i], len([]rune(cell)))
		}
	}
	var b strings.Builder
	for n, row := range t {
		for i, cell := range row {
			pad := strings.Repeat(" ", widths[i]-len([]rune(cell)))
			if i == 0 {
				b.WriteString("| " + cell + pad)
			} else {
				b.WriteString(" | " + pad + cell) // figures to the right
			}
		}
		b.WriteString(" |\n")
		if n > 0 {
			continue
		}
		for i, w := range widths {
			if i == 0 {
				b.WriteString("|:" + strings.Repeat("-", w+1))
			} else {
				b.WriteString("|" + strings.Repeat("-", w+1) + ":")
			}
		}
		b.WriteString("|\n")
	}
	return b.String()
}

// Group is rows under one heading.
type Group struct {
	Title string
	Work  []Workload
}

// Groups are the workloads by their Group, in order.
func (r *Report) Groups() []Group {
	var all []Group
	for _, w := range r.Work {
		if n := len(all); n > 0 && all[n-1].Title == w.Group {
			all[n-1].Work = append(all[n-1].Work, w)
		} else {
			all = append(all, Group{w.Group, []Workload{w}})
		}
	}
	return all
}

// median is that of a metric at saturation, NaN when nothing was measured.
func (r *Report) median(w Workload, peer string, m Metric) float64 {
	return Of(Values(Saturated(r.Rounds), w.Name, peer, m)).Median
}

// ratio divides one peer's figures by another's, at saturation.
func (r *Report) ratio(w Workload, of, to string, m Metric) Stats {
	return Of(Ratios(Saturated(r.Rounds), w.Name, of, to, m))
}

// present are the peers that a workload was measured with.
func (r *Report) present(w Workload) []Peer {
	var out []Peer
	for _, p := range r.Peers {
		if count(r.Rounds, func(o Round) bool { return o.Workload == w.Name && o.Peer == p.Name }) > 0 {
			out = append(out, p)
		}
	}
	return out
}

// Table is the medians of a workload at saturation.
func (r *Report) Table(w Workload) string {
	t := table{{w.Title, "CPU/request", "gatehouse to it", "(range)", "system calls", "requests/s", "p50", "p99", "p99.9", "memory", "core used", "load's", "rounds", "dropped"}}
	t[0][2] = r.Settings.Ours + " to it"
	for _, p := range r.present(w) {
		val := func(m Metric) float64 { return r.median(w, p.Name, m) }
		cpu := r.ratio(w, r.Settings.Ours, p.Name, CPUPerRequest)
		t = append(t, []string{
			p.Name, unit(val(CPUPerRequest), 2, " µs"), times(cpu.Median), span(cpu), unit(r.calls(w, p.Name), 2, ""),
			unit(val(PerSecond), 0, ""), unit(val(P50)/1000, 2, " ms"), unit(val(P99)/1000, 2, " ms"), unit(val(P999)/1000, 2, " ms"),
			unit(val(Resident)/(1<<20), 0, " MiB"), unit(val(CoreUse)*100, 0, " %"), unit(val(LoadUse)*100, 0, " %"),
			strconv.Itoa(len(Values(Saturated(r.Rounds), w.Name, p.Name, CPUPerRequest))), strconv.Itoa(Dropped(r.Rounds, w.Name, p.Name)),
		})
	}
	return t.String()
}

func (r *Report) calls(w Workload, peer string) float64 {
	for _, c := range r.Calls {
		if c.Workload == w.Name && c.Peer == peer {
			return c.PerRequest
		}
	}
	return math.NaN()
}

// PacedTable is the latencies at a fixed rate; "" without such rounds.
func (r *Report) PacedTable() string {
	t := table{{"", "proxy", "requests/s due", "p50", "p99", "p99.9", "CPU/request", "core used"}}
	paced := Paced(r.Rounds)
	for _, w := range r.Work {
		for _, p := range r.present(w) {
			val := func(m Metric) float64 { return Of(Values(paced, w.Name, p.Name, m)).Median }
			rate := val(Metric{Of: func(r Round) float64 { return r.Rate }})
			if math.IsNaN(rate) {
				continue
			}
			t = append(t, []string{w.Title, p.Name, unit(rate, 0, ""), unit(val(P50)/1000, 2, " ms"), unit(val(P99)/1000, 2, " ms"),
				unit(val(P999)/1000, 2, " ms"), unit(val(CPUPerRequest), 2, " µs"), unit(val(CoreUse)*100, 0, " %")})
		}
	}
	if len(t) == 1 {
		return ""
	}
	return t.String()
}

// PacedRatios are those of our p99 to the first three peers' at half load, where
// the load has time to spare; "" without such rounds.
func (r *Report) PacedRatios() string {
	paced := Paced(r.Rounds)
	var columns []string
	for _, w := range r.Work {
		for _, t := range w.Targets {
			if t.Metric == P99.Name && t.Of == "" && !slices.Contains(columns, t.To) {
				columns = append(columns, t.To)
			}
		}
	}
	t := table{append([]string{"p99 at half load: " + r.Settings.Ours + " to"}, columns...)}
	for _, w := range r.Work {
		row, any := []string{w.Title}, false
		for _, to := range columns {
			s := Of(Ratios(paced, w.Name, r.Settings.Ours, to, P99))
			any = any || s.N > 0
			row = append(row, times(s.Median)+" ("+span(s)+")")
		}
		if any {
			t = append(t, row)
		}
	}
	if len(t) == 1 {
		return ""
	}
	return t.String()
}

// outcome is what became of a target.
type outcome struct {
	Workload
	Target
	Stats
}

func (o outcome) missed() bool { return o.N > 0 && o.Median > o.Most }

// cell is the outcome in few words.
func (o outcome) cell() string {
	switch {
	case o.N == 0:
		return "- (≤ " + times(o.Most) + ")"
	case o.missed():
		return times(o.Median) + " (≤ " + times(o.Most) + " MISSED)"
	default:
		return times(o.Median) + " (≤ " + times(o.Most) + " met)"
	}
}

var byName = map[string]Metric{CPUPerRequest.Name: CPUPerRequest, P99.Name: P99}

// outcomes are those of all targets to peers that the workload was measured with.
func (r *Report) outcomes() []outcome {
	var out []outcome
	for _, w := range r.Work {
		for _, t := range w.Targets {
			of := t.Of
			if of == "" {
				of = r.Settings.Ours
			}
			out = append(out, outcome{w, t, r.ratio(w, of, t.To, byName[t.Metric])})
		}
	}
	return out
}

// TargetTable is all targets and what became of them: one row for each workload,
// one column for each peer, once for CPU and once for p99.
func (r *Report) TargetTable(m Metric) string {
	var columns []string
	cells := map[[2]string]string{}
	for _, o := range r.outcomes() {
		if o.Target.Metric != m.Name {
			continue
		}
		to := o.To
		if o.Of != "" {
			to = "itself"
		}
		if !slices.Contains(columns, to) {
			columns = append(columns, to)
		}
		key, cell := [2]string{o.Name, to}, o.cell()
		if m.Name == P99.Name && o.N > 0 && (r.idled(o.Workload, o.Of) || r.idled(o.Workload, o.To)) {
			cell += " °"
		}
		if o.Of != "" {
			cell = o.Of + " to " + o.To + ": " + cell
		}
		if cells[key] != "" {
			cell = cells[key] + "; " + cell
		}
		cells[key] = cell
	}
	t := table{append([]string{m.Name + ": " + r.Settings.Ours + " to"}, columns...)}
	for _, w := range r.Work {
		row, any := []string{w.Title}, false
		for _, c := range columns {
			cell := cells[[2]string{w.Name, c}]
			any = any || cell != ""
			row = append(row, cell)
		}
		if any {
			t = append(t, row)
		}
	}
	return t.String()
}

// Missed are the targets that were, in words.
func (r *Report) Missed() []string {
	var out []string
	for _, o := range r.outcomes() {
		if !o.missed() {
			continue
		}
		of := o.Of
		if of == "" {
			of = r.Settings.Ours
		}
		out = append(out, fmt.Sprintf("%s: %s of %s is %s that of %s (%s over %d rounds), target %s.",
			o.Title, o.Target.Metric, of, times(o.Median), o.To, span(o.Stats), o.N, times(o.Most)))
	}
	for _, i := range r.Idle {
		if i.Target > 0 && i.Each > i.Target {
			out = append(out, fmt.Sprintf("Idle connections of %s, TLS %t: %s each, target %s.", i.Peer, i.TLS, kib(i.Each), kib(i.Target)))
		}
	}
	return out
}

// Absent is what is missing, in words.
func (r *Report) Absent() []string {
	var out []string
	for _, m := range r.Missing {
		what := m.What
		if i := slices.IndexFunc(r.Work, func(w Workload) bool { return w.Name == m.What }); i >= 0 {
			what = r.Work[i].Title
		}
		if m.Peer != "" {
			what += ", " + m.Peer
		}
		why, _, _ := strings.Cut(m.Why, "\n")
		out = append(out, what+": "+why)
	}
	return out
}

// Worse is the missed targets of CPU whose ratio is larger than so many times the
// target: what a gate fails for.
func (r *Report) Worse(factor float64) []string {
	var out []string
	for _, o := range r.outcomes() {
		if o.Target.Metric == CPUPerRequest.Name && o.N > 0 && o.Median > o.Most*factor {
			out = append(out, o.Name)
		}
	}
	slices.Sort(out)
	return slices.Compact(out)
}

// busy is the share of its core that a proxy uses at least which the load keeps busy.
const busy = 0.9

// idled says whether a peer (empty: ours) had time to spare at saturation.
func (r *Report) idled(w Workload, peer string) bool {
	return r.median(w, cmp.Or(peer, r.Settings.Ours), CoreUse) < busy
}

// Unsaturated are the rows whose proxy had time to spare, in words: their
// requests per second and latencies are the load's.
func (r *Report) Unsaturated() []string {
	var out []string
	for _, w := range r.Work {
		for _, p := range r.present(w) {
			if r.idled(w, p.Name) {
				use := r.median(w, p.Name, CoreUse)
				out = append(out, fmt.Sprintf("%s, %s: %s of its core, %s of the load's", w.Title, p.Name, unit(use*100, 0, " %"), unit(r.median(w, p.Name, LoadUse)*100, 0, " %")))
			}
		}
	}
	return out
}

// IdleTable is what idle connections hold; "" when it was not measured.
func (r *Report) IdleTable() string {
	t := table{{"", "TLS", "connections", "before them", "each", "target"}}
	for _, i := range r.Idle {
		target := ""
		switch {
		case i.Target > 0 && i.Each > i.Target:
			target = "≤ " + kib(i.Target) + " MISSED"
		case i.Target > 0:
			target = "≤ " + kib(i.Target) + " met"
		}
		t = append(t, []string{i.Peer, strconv.FormatBool(i.TLS), unit(float64(i.Connections), 0, ""), unit(float64(i.Before)/(1<<20), 0, " MiB"), kib(i.Each), target})
	}
	if len(t) == 1 {
		return ""
	}
	return t.String()
}

func kib(bytes float64) string { return unit(bytes/1024, 1, " KiB") }

// Complaint is an error when figures are missing or something failed, which a
// table alone might hide.
func (r *Report) Complaint() error {
	var errs []error
	for _, round := range r.Rounds {
		if strings.HasPrefix(round.Dropped, Failed) {
			errs = append(errs, fmt.Errorf("%s, %s: a round %s", round.Workload, round.Peer, round.Dropped))
		}
	}
	for _, m := range r.Missing {
		errs = append(errs, fmt.Errorf("%s, %s was not measured: %s", m.What, cmp.Or(m.Peer, "all"), m.Why))
	}
	for _, w := range r.Work {
		for _, p := range r.present(w) {
			if len(Values(r.Rounds, w.Name, p.Name, CPUPerRequest)) == 0 {
				errs = append(errs, fmt.Errorf("%s, %s: no round without much foreign work; repeat on a quiet machine", w.Name, p.Name))
			}
		}
	}
	return errors.Join(errs...)
}

// ChangeTable is how long changes took.
func (r *Report) ChangeTable() string {
	t := table{{"change made", "Ingresses", "changes", "p50", "p99", "longest", "target (p99)"}}
	for _, c := range r.Changes {
		target := "none"
		if c.Target > 0 {
			target = "≤ " + millis(c.Target)
			if c.P99 > c.Target {
				target += ", MISSED"
			} else {
				target += ", met"
			}
		}
		t = append(t, []string{c.Way, strconv.Itoa(c.Objects), strconv.Itoa(c.N), millis(c.P50), millis(c.P99), millis(c.Max), target})
	}
	return t.String()
}

func millis(d time.Duration) string { return unit(d.Seconds()*1000, 1, " ms") }

func times(v float64) string { return unit(v, 2, "x") }

func span(s Stats) string {
	if s.N == 0 {
		return "-"
	}
	return unit(s.Min, 2, "") + "–" + unit(s.Max, 2, "")
}

func unit(v float64, digits int, unit string) string {
	if math.IsNaN(v) {
		return "-"
	}
	s := strconv.FormatFloat(v, 'f', digits, 64)
	if whole, _, _ := strings.Cut(s, "."); digits == 0 && len(whole) > 3 {
		s = whole[:len(whole)-3] + "," + whole[len(whole)-3:]
	}
	return s + unit
}

package result

import (
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
	Changes  []Change   `json:"changes,omitempty"`
	Settings Settings   `json:"settings"`
}

// Fact is a name and a value.
type Fact struct{ Name, Value string }

// Peer is one of the proxies.
type Peer struct{ Name, Version, About string }

// Workload is one row of the benchmark. Target is the ratio in CPU per request that
// Ours aims at: to the reference, or with TLS to the better of the others.
type Workload struct {
	Name, Title string
	Group       string `json:",omitempty"` // of rows in one table
	Target      float64
	Date        string `json:",omitempty"` // of an earlier run that the row is from
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
	for _, w := range earlier.Work {
		if slices.ContainsFunc(r.Work, func(own Workload) bool { return own.Name == w.Name }) {
			continue
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

// Table is the medians of a workload, and the ratios to the reference.
func (r *Report) Table(w Workload) string {
	ref := r.Peers[0].Name
	t := table{{"", "CPU/request", "to " + ref, "(range)", "requests/s", "to " + ref, "p50", "p99", "to " + ref, "core used", "rounds", "dropped"}}
	for _, p := range r.Peers {
		val := func(m Metric) float64 { return Of(Values(r.Rounds, w.Name, p.Name, m)).Median }
		ratio := func(m Metric) Stats { return Of(Ratios(r.Rounds, w.Name, p.Name, ref, m)) }
		cpu := ratio(CPUPerRequest)
		t = append(t, []string{
			p.Name,
			unit(val(CPUPerRequest), 2, " µs"), times(cpu.Median), span(cpu),
			unit(val(PerSecond), 0, ""), times(ratio(PerSecond).Median),
			unit(val(P50)/1000, 2, " ms"), unit(val(P99)/1000, 2, " ms"), times(ratio(P99).Median),
			unit(val(CoreUse)*100, 0, " %"),
			strconv.Itoa(cpu.N), strconv.Itoa(Dropped(r.Rounds, w.Name, p.Name)),
		})
	}
	return t.String()
}

// Against is ours divided by each other peer.
func (r *Report) Against(w Workload) string {
	t := table{{r.Settings.Ours + " divided by"}}
	for _, m := range Metrics {
		t[0] = append(t[0], m.Name)
	}
	for _, p := range r.Peers {
		if p.Name == r.Settings.Ours {
			continue
		}
		row := []string{p.Name}
		for _, m := range Metrics {
			row = append(row, times(Of(Ratios(r.Rounds, w.Name, r.Settings.Ours, p.Name, m)).Median))
		}
		t = append(t, row)
	}
	return t.String()
}

// Losses are the figures of a workload in which ours is worse than another
// peer, in words.
func (r *Report) Losses(w Workload) []string {
	var out []string
	for _, p := range r.Peers {
		if p.Name == r.Settings.Ours {
			continue
		}
		for _, m := range Metrics {
			ratio := Of(Ratios(r.Rounds, w.Name, r.Settings.Ours, p.Name, m))
			if ratio.N > 0 && !m.Better(ratio.Median) {
				out = append(out, fmt.Sprintf("%s: %s is %s %s's (%s over %d rounds).",
					w.Title, m.Name, times(ratio.Median), p.Name, span(ratio), ratio.N))
			}
		}
	}
	return out
}

// Verdict says whether a workload's target is met, or "" when it has none or
// was not measured.
func (r *Report) Verdict(w Workload) string {
	ratio := Of(Ratios(r.Rounds, w.Name, r.Settings.Ours, r.Peers[0].Name, CPUPerRequest))
	if w.Target == 0 || ratio.N == 0 {
		return ""
	}
	word := "met"
	if ratio.Median > w.Target {
		word = "MISSED"
	}
	return fmt.Sprintf("Target: at most %s %s's CPU per request. %s: %s.", times(w.Target), r.Peers[0].Name, word, times(ratio.Median))
}

// Complaint is an error when figures are missing or something failed, which a
// table alone might hide.
func (r *Report) Complaint() error {
	var errs []error
	for _, round := range r.Rounds {
		if strings.HasPrefix(round.Dropped, Failed) {
			errs = append(errs, fmt.Errorf("%s, %s: a round %s", round.Workload, round.Peer, round.Dropped))
		}
	}
	for _, w := range r.Work {
		for _, p := range r.Peers {
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

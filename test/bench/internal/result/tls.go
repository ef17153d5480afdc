package result

import (
	"fmt"
	"strconv"
)

// Group is rows that share a table.
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

// median is that of a metric, NaN when nothing was measured.
func (r *Report) median(w Workload, peer string, m Metric) float64 {
	return Of(Values(r.Rounds, w.Name, peer, m)).Median
}

// Best is the other peer that needs the least CPU for a request of a workload;
// "" when none was measured.
func (r *Report) Best(w Workload) string {
	best := ""
	for _, p := range r.Peers {
		if p.Name == r.Settings.Ours || len(Values(r.Rounds, w.Name, p.Name, CPUPerRequest)) == 0 {
			continue
		}
		if best == "" || r.median(w, p.Name, CPUPerRequest) < r.median(w, best, CPUPerRequest) {
			best = p.Name
		}
	}
	return best
}

// GroupTable is the medians of a group's workloads, side by side.
func (r *Report) GroupTable(g Group) string {
	t := table{{"", "proxy", "per CPU s, balancer", "per CPU s, backend", "per s", "p50", "p99", "core used", "load's core", "rounds", "dropped"}}
	for _, w := range g.Work {
		for _, p := range r.Peers {
			val := func(m Metric) float64 { return r.median(w, p.Name, m) }
			t = append(t, []string{
				w.Title, p.Name,
				unit(val(PerCPU), 0, ""), unit(val(PerBackendCPU), 0, ""), unit(val(PerSecond), 0, ""),
				unit(val(P50)/1000, 2, " ms"), unit(val(P99)/1000, 2, " ms"),
				unit(val(CoreUse)*100, 0, " %"), unit(val(LoadUse)*100, 0, " %"),
				strconv.Itoa(len(Values(r.Rounds, w.Name, p.Name, CPUPerRequest))), strconv.Itoa(Dropped(r.Rounds, w.Name, p.Name)),
			})
		}
	}
	return t.String()
}

// TargetTable is ours divided by the better of the others, for each workload.
func (r *Report) TargetTable() string {
	t := table{{"CPU per request", "proxy", "better peer", "", "ratio", "(range)", "target", ""}}
	t[0][1] = r.Settings.Ours
	for _, w := range r.Work {
		best := r.Best(w)
		ratio := Of(Ratios(r.Rounds, w.Name, r.Settings.Ours, best, CPUPerRequest))
		target, word := "none", ""
		if w.Target > 0 {
			target = "≤ " + times(w.Target)
			switch {
			case ratio.N == 0:
				word = "not measured"
			case ratio.Median > w.Target:
				word = "MISSED"
			default:
				word = "met"
			}
		}
		t = append(t, []string{
			w.Title, unit(r.median(w, r.Settings.Ours, CPUPerRequest), 2, " µs"),
			unit(r.median(w, best, CPUPerRequest), 2, " µs"), best, unit(ratio.Median, 3, "x"), span(ratio), target, word,
		})
	}
	return t.String()
}

// Unsaturated are the rows whose proxy had time to spare, in words: their
// requests per second and latencies are the load's.
func (r *Report) Unsaturated() []string {
	const busy = 0.9
	var out []string
	for _, w := range r.Work {
		for _, p := range r.Peers {
			if use := r.median(w, p.Name, CoreUse); use < busy {
				out = append(out, fmt.Sprintf("%s, %s: %s of its core, %s of the load's", w.Title, p.Name, unit(use*100, 0, " %"), unit(r.median(w, p.Name, LoadUse)*100, 0, " %")))
			}
		}
	}
	return out
}

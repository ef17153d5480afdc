package result

import (
	"encoding/xml"
	"io"
	"math"
	"strings"
	"testing"
)

// tlsReport: ours is b; c is the better of the others in w, a in v, which ours
// was not measured in.
func tlsReport() *Report {
	round := func(set int, work, peer string, cpu float64) Round {
		return Round{Set: set, Workload: work, Peer: peer, Requests: 1e6, Seconds: 20, CPU: cpu, Backend: 5, LoadCore: 0.5, P50: 1000, P99: 2000}
	}
	r := &Report{
		Date:  "today",
		Peers: []Peer{{"a", "1.0", "x"}, {"b", "2.0", "y"}, {"c", "3.0", "z"}},
		Work: []Workload{{Name: "w", Title: "first <one>", Group: "one", Target: 0.9}, {Name: "u", Title: "second", Group: "one"},
			{Name: "v", Title: "third", Group: "two", Target: 0.5}},
		Settings: Settings{Rounds: 2, Ours: "b", MaxForeign: 0.08},
	}
	for set := range 3 {
		r.Rounds = append(r.Rounds, round(set, "w", "a", 20), round(set, "w", "b", float64(8+set)), round(set, "w", "c", 10),
			round(set, "v", "a", 19), round(set, "v", "c", 25))
	}
	return r
}

func TestBest(t *testing.T) {
	r := tlsReport()
	for i, want := range []string{"c", "", "a"} {
		if got := r.Best(r.Work[i]); got != want {
			t.Errorf("better in %s is %q, want %q", r.Work[i].Name, got, want)
		}
	}
}

func TestTargetTable(t *testing.T) {
	r := tlsReport()
	got := r.TargetTable()
	lines := strings.Split(got, "\n")
	f := func(line int, want ...string) {
		t.Helper()
		for _, w := range want {
			if !strings.Contains(lines[line], w) {
				t.Errorf("no %q in %q", w, lines[line])
			}
		}
	}
	f(2, "first", "9.00 µs", "10.00 µs", " c ", "0.900x", "0.80–1.00", "≤ 0.90x", " met ")
	f(3, "second", "none")
	f(4, "third", "19.00 µs", " a ", "≤ 0.50x", "not measured")
	r.Work[0].Target = 0.8
	if got := r.TargetTable(); !strings.Contains(got, "MISSED") {
		t.Errorf("not missed:\n%s", got)
	}
}

func TestGroups(t *testing.T) {
	r := tlsReport()
	g := r.Groups()
	if len(g) != 2 || g[0].Title != "one" || len(g[0].Work) != 2 || len(g[1].Work) != 1 {
		t.Fatalf("groups are %+v", g)
	}
	got := r.GroupTable(g[0])
	for _, want := range []string{"100,000", "111,111", "200,000", "50,000", "1.00 ms", "2.00 ms", "50 %"} {
		if !strings.Contains(got, want) {
			t.Errorf("no %q in\n%s", want, got)
		}
	}
	if strings.Contains(got, "NaN") {
		t.Errorf("NaN in\n%s", got)
	}
	if got := strings.Join(r.Unsaturated(), "\n"); !strings.Contains(got, "first <one>, c: 50 % of its core, 50 % of the load's") || strings.Contains(got, ", a: 100") {
		t.Errorf("unsaturated: %s", got)
	}
}

func TestPicture(t *testing.T) {
	r := tlsReport()
	got := r.Picture()
	if got != r.Picture() {
		t.Error("not the same twice")
	}
	d := xml.NewDecoder(strings.NewReader(got))
	for {
		if _, err := d.Token(); err == io.EOF {
			break
		} else if err != nil {
			t.Fatalf("no XML: %v\n%s", err, got)
		}
	}
	scale := r.pictureScale()
	if want := math.Floor((pictureWidth - labelWidth - valueWidth) / 2.0); scale != want {
		t.Errorf("scale is %v, want %v", scale, want)
	}
	for _, want := range []string{"first &lt;one&gt;", "prefers-color-scheme: dark", "2.00 · 20.0 µs", "0.90 · 9.0 µs", "b: not measured",
		`<rect class="ours" x="190" y="79" width="198.0"`, `<line class="target" x1="388.0"`} {
		if !strings.Contains(got, want) {
			t.Errorf("no %q in\n%s", want, got)
		}
	}
	if strings.Contains(got, "NaN") || strings.Contains(got, "Inf") {
		t.Errorf("figures in\n%s", got)
	}
}

// TestParts sees that a run replaces its part, and only that.
func TestParts(t *testing.T) {
	first, err := report().Document(PartPlain, "an old document")
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(first, "Not measured yet.") || strings.Contains(first, "{{") || strings.Contains(first, "an old document") {
		t.Errorf("first document:\n%s", first)
	}
	both, err := tlsReport().Document(PartTLS, first)
	if err != nil {
		t.Fatal(err)
	}
	if section(both, PartPlain) != section(first, PartPlain) || !strings.Contains(section(both, PartTLS), "first <one>") || strings.Contains(both, "Not measured yet.") {
		t.Errorf("both parts:\n%s", both)
	}
	r := report()
	r.Date = "tomorrow"
	again, err := r.Document(PartPlain, both)
	if err != nil {
		t.Fatal(err)
	}
	if section(again, PartTLS) != section(both, PartTLS) || !strings.Contains(section(again, PartPlain), "Measured tomorrow") {
		t.Errorf("again:\n%s", again)
	}
}

func TestAdopt(t *testing.T) {
	r, earlier := tlsReport(), tlsReport()
	r.Work, r.Rounds = r.Work[2:], r.Rounds[:0]
	earlier.Date = "yesterday"
	if err := r.Adopt(earlier, []string{"u", "w", "v"}); err != nil {
		t.Fatal(err)
	}
	var order []string
	for _, w := range r.Work {
		order = append(order, w.Name)
	}
	if strings.Join(order, " ") != "u w v" || len(Values(r.Rounds, "w", "b", CPUPerRequest)) != 3 || len(Values(r.Rounds, "v", "a", CPUPerRequest)) != 0 {
		t.Errorf("workloads %v, rounds %v", order, r.Rounds)
	}
	if got := strings.Join(r.Adopted(), ", "); got != "second (yesterday), first <one> (yesterday)" {
		t.Errorf("adopted %q", got)
	}
	again := tlsReport()
	again.Work, again.Rounds = nil, nil
	if err := again.Adopt(earlier, []string{"u", "w", "v"}); err != nil || again.Date != "yesterday" || len(again.Adopted()) != 0 || len(again.Work) != 3 {
		t.Errorf("nothing measured anew: %s, %v, %v", again.Date, again.Adopted(), err)
	}
	earlier.Settings.MaxForeign = 1
	if r.Adopt(earlier, nil) == nil {
		t.Error("rows taken under other settings")
	}
}

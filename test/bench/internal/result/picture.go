package result

import (
	"fmt"
	"html"
	"math"
	"strings"
)

// Sizes of the picture, in pixels.
const (
	pictureWidth = 760
	labelWidth   = 170 // names of peers
	valueWidth   = 130 // figures at the ends of bars
	unitWidth    = 150 // of the reference's bar
	barHeight    = 13
	barGap       = 2
	rowGap       = 14
	topHeight    = 34 // title
)

// Picture is a metric of all peers as SVG, each workload in units of the
// reference. Colours follow the reader's light or dark scheme, and are readable in
// both where that is not known.
func (r *Report) Picture(m Metric) string {
	ref := r.Settings.Reference
	var work []Workload
	for _, w := range r.Work {
		if !math.IsNaN(r.median(w, ref, m)) {
			work = append(work, w)
		}
	}
	height := topHeight + 8
	for _, w := range work {
		height += r.rowHeight(w)
	}
	var b strings.Builder
	title := fmt.Sprintf("%s, in units of that of %s; shorter is better", m.Name, ref)
	fmt.Fprintf(&b, `<svg xmlns="http://www.w3.org/2000/svg" width="%d" height="%d" viewBox="0 0 %[1]d %[2]d" role="img" font-family="system-ui, sans-serif" font-size="12">
<title>%[3]s</title>
<style>
text { fill: #6e7781 } .name { fill: #6e7781; font-weight: 600 } .axis { stroke: #8b949e } .target { stroke: #cf222e; stroke-width: 2 }
.p0 { fill: #8b949e } .p1 { fill: #b08a3e } .p2 { fill: #7d6bb0 } .p3 { fill: #5a9e6f } .ours { fill: #2f81f7 }
@media (prefers-color-scheme: dark) { text { fill: #9da7b1 } .name { fill: #d1d7e0 } .axis { stroke: #656d76 } .target { stroke: #ff7b72 } }
@media (prefers-color-scheme: light) { text { fill: #57606a } .name { fill: #24292f } }
</style>
<text class="name" x="0" y="14">%[3]s (the line is the target to %[4]s)</text>
`, pictureWidth, height, html.EscapeString(title), html.EscapeString(ref))
	y := topHeight
	for _, w := range work {
		r.row(&b, w, m, y)
		y += r.rowHeight(w)
	}
	fmt.Fprintf(&b, "<line class=\"axis\" x1=\"%d\" x2=\"%[1]d\" y1=\"%d\" y2=\"%d\" stroke-dasharray=\"2 3\"/>\n</svg>\n", labelWidth+unitWidth, topHeight-8, height-8)
	return b.String()
}

func (r *Report) rowHeight(w Workload) int {
	return (len(r.present(w))+1)*(barHeight+barGap) + rowGap
}

// row is one workload: its title, and a bar for each peer.
func (r *Report) row(b *strings.Builder, w Workload, m Metric, y int) {
	ref := r.Settings.Reference
	fmt.Fprintf(b, "<text class=\"name\" x=\"0\" y=\"%d\">%s</text>\n", y+barHeight-2, html.EscapeString(w.Title))
	peers := r.present(w)
	for n, p := range peers {
		r.bar(b, w, p.Name, m, y+(n+1)*(barHeight+barGap), n)
	}
	for _, t := range w.Targets {
		if t.To == ref && t.Metric == m.Name {
			x := labelWidth + t.Most*unitWidth
			fmt.Fprintf(b, "<line class=\"target\" x1=\"%.1f\" x2=\"%.1[1]f\" y1=\"%d\" y2=\"%d\"/>\n", x, y+barHeight, y+(len(peers)+1)*(barHeight+barGap))
		}
	}
}

func (r *Report) bar(b *strings.Builder, w Workload, peer string, m Metric, y, n int) {
	fmt.Fprintf(b, "<text x=\"12\" y=\"%d\">%s</text>\n", y+barHeight-2, html.EscapeString(peer))
	v := r.median(w, peer, m)
	times := r.ratio(w, peer, r.Settings.Reference, m).Median
	if math.IsNaN(times) {
		fmt.Fprintf(b, "<text x=\"%d\" y=\"%d\">not measured</text>\n", labelWidth+4, y+barHeight-2)
		return
	}
	class, width := fmt.Sprintf("p%d", n%4), times*unitWidth
	if peer == r.Settings.Ours {
		class = "ours"
	}
	more := ""
	if most := float64(pictureWidth - labelWidth - valueWidth); width > most { // a bar that is cut says so
		width, more = most, "… "
	}
	fmt.Fprintf(b, "<rect class=\"%s\" x=\"%d\" y=\"%d\" width=\"%.1f\" height=\"%d\" rx=\"2\"/><text x=\"%.1f\" y=\"%d\">%s%s · %s</text>\n",
		class, labelWidth, y, width, barHeight, labelWidth+width+5, y+barHeight-2, more, unit(times, 2, ""), unit(v, 1, " "+m.Unit))
}

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
	labelWidth   = 190 // names of workloads
	valueWidth   = 130 // figures at the ends of bars
	barHeight    = 13
	barGap       = 2
	rowGap       = 14
	topHeight    = 64 // legend
)

// Picture is the CPU per request of all peers as SVG, each workload in units of
// the better of the others. Colours follow the reader's light or dark scheme,
// and are readable in both where that is not known.
func (r *Report) Picture() string {
	var b strings.Builder
	rowHeight := len(r.Peers)*(barHeight+barGap) + rowGap
	height := topHeight + len(r.Work)*rowHeight + 8
	fmt.Fprintf(&b, `<svg xmlns="http://www.w3.org/2000/svg" width="%d" height="%d" viewBox="0 0 %[1]d %[2]d" role="img" font-family="system-ui, sans-serif" font-size="12">
<title>CPU time per request, in units of the better peer</title>
<style>
text { fill: #6e7781 } .name { fill: #6e7781; font-weight: 600 } .axis { stroke: #8b949e } .target { stroke: #cf222e; stroke-width: 2 }
.p0 { fill: #8b949e } .p1 { fill: #b08a3e } .p2 { fill: #7d6bb0 } .p3 { fill: #5a9e6f } .ours { fill: #2f81f7 }
@media (prefers-color-scheme: dark) { text { fill: #9da7b1 } .name { fill: #d1d7e0 } .axis { stroke: #656d76 } .target { stroke: #ff7b72 } }
@media (prefers-color-scheme: light) { text { fill: #57606a } .name { fill: #24292f } }
</style>
`, pictureWidth, height)
	scale := r.pictureScale()
	one := float64(labelWidth) + scale
	r.legend(&b)
	for i, w := range r.Work {
		y := topHeight + i*rowHeight
		fmt.Fprintf(&b, "<text class=\"name\" x=\"0\" y=\"%d\">%s</text>\n", y+barHeight-2, html.EscapeString(w.Title))
		best := r.median(w, r.Best(w), CPUPerRequest)
		for n, p := range r.Peers {
			r.bar(&b, w, p.Name, best, scale, y+n*(barHeight+barGap), n)
		}
		if w.Target > 0 {
			x := float64(labelWidth) + w.Target*scale
			fmt.Fprintf(&b, "<line class=\"target\" x1=\"%.1f\" x2=\"%.1[1]f\" y1=\"%d\" y2=\"%d\"/>\n", x, y-3, y+rowHeight-rowGap+1)
		}
	}
	fmt.Fprintf(&b, "<line class=\"axis\" x1=\"%.1f\" x2=\"%.1[1]f\" y1=\"%d\" y2=\"%d\" stroke-dasharray=\"2 3\"/>\n</svg>\n", one, topHeight-8, height-8)
	return b.String()
}

// pictureScale is how wide the better peer's bar is.
func (r *Report) pictureScale() float64 {
	longest := 1.0
	for _, w := range r.Work {
		for _, p := range r.Peers {
			if v := r.median(w, p.Name, CPUPerRequest) / r.median(w, r.Best(w), CPUPerRequest); v > longest {
				longest = v
			}
		}
	}
	return math.Floor((pictureWidth - labelWidth - valueWidth) / longest)
}

// class is the colour of a peer.
func (r *Report) class(peer string, n int) string {
	if peer == r.Settings.Ours {
		return "ours"
	}
	return fmt.Sprintf("p%d", n%4)
}

func (r *Report) legend(b *strings.Builder) {
	fmt.Fprintf(b, "<text class=\"name\" x=\"0\" y=\"14\">CPU time per request at the balancer; the better peer is 1.00, shorter is better</text>\n")
	x := 0
	for n, p := range r.Peers {
		fmt.Fprintf(b, "<rect class=\"%s\" x=\"%d\" y=\"25\" width=\"12\" height=\"12\" rx=\"2\"/><text x=\"%d\" y=\"35\">%s</text>\n",
			r.class(p.Name, n), x, x+17, html.EscapeString(p.Name))
		x += 90
	}
	fmt.Fprintf(b, "<line class=\"target\" x1=\"%d\" x2=\"%[1]d\" y1=\"23\" y2=\"39\"/><text x=\"%d\" y=\"35\">target of %s</text>\n", x+6, x+17, html.EscapeString(r.Settings.Ours))
}

func (r *Report) bar(b *strings.Builder, w Workload, peer string, best, scale float64, y, n int) {
	v := r.median(w, peer, CPUPerRequest)
	if math.IsNaN(v) || math.IsNaN(best) {
		fmt.Fprintf(b, "<text x=\"%d\" y=\"%d\">%s: not measured</text>\n", labelWidth+4, y+barHeight-2, html.EscapeString(peer))
		return
	}
	width := v / best * scale
	fmt.Fprintf(b, "<rect class=\"%s\" x=\"%d\" y=\"%d\" width=\"%.1f\" height=\"%d\" rx=\"2\"/><text x=\"%.1f\" y=\"%d\">%s · %s</text>\n",
		r.class(peer, n), labelWidth, y, width, barHeight, labelWidth+width+5, y+barHeight-2, unit(v/best, 2, ""), unit(v, 1, " µs"))
}

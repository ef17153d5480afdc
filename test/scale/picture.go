package main

import (
	"fmt"
	"html"
	"math"
	"strings"
)

// Sizes of a picture, in pixels.
const (
	width, height     = 760, 300
	left, right       = 60, 20
	top, bottom       = 60, 34
	plotWide, plotTal = width - left - right, height - top - bottom
)

// picture draws rows over the number of Ingresses, both axes logarithmic. Colours
// follow the reader's light or dark scheme, and are readable in both where that is
// not known.
func (all results) picture(c chart) string {
	var b strings.Builder
	fmt.Fprintf(&b, `<svg xmlns="http://www.w3.org/2000/svg" width="%d" height="%d" viewBox="0 0 %[1]d %[2]d" role="img" font-family="system-ui, sans-serif" font-size="12">
<title>%[3]s, by the number of Ingresses</title>
<style>
text { fill: #6e7781 } .name { font-weight: 600 } .axis { stroke: #8b949e; stroke-opacity: .5 } path { fill: none; stroke-width: 2 }
.c0 { stroke: #2f81f7; fill: #2f81f7 } .c1 { stroke: #b08a3e; fill: #b08a3e } .c2 { stroke: #5a9e6f; fill: #5a9e6f } .c3 { stroke: #7d6bb0; fill: #7d6bb0 }
.target { stroke-dasharray: 5 3 } path { fill: none !important }
@media (prefers-color-scheme: dark) { text { fill: #9da7b1 } .name { fill: #d1d7e0 } }
@media (prefers-color-scheme: light) { text { fill: #57606a } .name { fill: #24292f } }
</style>
<text class="name" x="0" y="14">%[3]s (%[4]s), by the number of Ingresses</text>
`, width, height, html.EscapeString(c.title), html.EscapeString(c.rows[0].unit))
	if len(all) < 2 {
		return b.String() + "</svg>\n"
	}
	x, y := all.axes(c)
	all.grid(&b, x, y)
	for i, r := range c.rows {
		fmt.Fprintf(&b, "<rect class=\"c%d\" x=\"%d\" y=\"%d\" width=\"10\" height=\"10\"/><text x=\"%d\" y=\"%d\">%s</text>\n",
			i, left+(i%2)*330, 24+16*(i/2), left+16+(i%2)*330, 33+16*(i/2), html.EscapeString(r.name))
		var d strings.Builder
		for k, p := range all {
			fmt.Fprintf(&d, "%c%.1f %.1f", "ML"[min(k, 1)], x.at(float64(p.Ingresses)), y.at(r.value(p)))
		}
		fmt.Fprintf(&b, "<path class=\"c%d\" d=\"%s\"/>\n", i, d.String())
		for _, p := range all {
			fmt.Fprintf(&b, "<circle class=\"c%d\" cx=\"%.1f\" cy=\"%.1f\" r=\"3\"><title>%s: %.*f %s</title></circle>\n",
				i, x.at(float64(p.Ingresses)), y.at(r.value(p)), thousands(p.Ingresses), r.digits, r.value(p), html.EscapeString(r.unit))
		}
		if r.target > 0 { // a short line at the size for which it holds
			at, h := x.at(targetSize), y.at(r.target)
			fmt.Fprintf(&b, "<line class=\"c%d target\" x1=\"%.1f\" x2=\"%.1f\" y1=\"%.1f\" y2=\"%.1f\"/><text x=\"%.1f\" y=\"%.1f\" text-anchor=\"end\">target %g</text>\n",
				i, at-40, at+40, h, h, at-46, h+4, r.target)
		}
	}
	b.WriteString("</svg>\n")
	return b.String()
}

// axis maps values to pixels.
type axis struct{ low, high, from, to float64 }

func (a axis) at(v float64) float64 {
	v = min(max(v, a.low), a.high)
	return a.from + (a.to-a.from)*(math.Log10(v)-math.Log10(a.low))/(math.Log10(a.high)-math.Log10(a.low))
}

// axes hold all values and targets.
func (all results) axes(c chart) (x, y axis) {
	low, high := math.Inf(1), 0.0
	for _, r := range c.rows {
		for _, p := range all {
			if v := r.value(p); v > 0 {
				low, high = min(low, v), max(high, v)
			}
		}
		high = max(high, r.target)
	}
	low, high = math.Pow(10, math.Floor(math.Log10(low))), math.Pow(10, math.Ceil(math.Log10(high)))
	if !(low < high) {
		low, high = 1, 10
	}
	x = axis{float64(all[0].Ingresses), float64(all[len(all)-1].Ingresses), left, left + plotWide}
	return x, axis{low, high, top + plotTal, top}
}

func (all results) grid(b *strings.Builder, x, y axis) {
	for v := y.low; v <= y.high*1.001; v *= 10 {
		h := y.at(v)
		fmt.Fprintf(b, "<line class=\"axis\" x1=\"%d\" x2=\"%d\" y1=\"%.1f\" y2=\"%.1f\"/><text x=\"%d\" y=\"%.1f\" text-anchor=\"end\">%g</text>\n",
			left, left+plotWide, h, h, left-6, h+4, math.Round(v*1000)/1000)
	}
	for _, p := range all {
		fmt.Fprintf(b, "<text x=\"%.1f\" y=\"%d\" text-anchor=\"middle\">%s</text>\n", x.at(float64(p.Ingresses)), height-12, thousands(p.Ingresses))
	}
}

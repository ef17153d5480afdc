package app

import (
	"fmt"
	"html"
	"io"
	"net/http"
	"net/netip"
	"path/filepath"
	"strings"
)

// demoLinks are what the demo's page offers to click. All names below localhost
// lead browsers to this machine (RFC 6761, section 6.3).
var demoLinks = []struct {
	about, scheme, host, path string
	answer                    string // status and backend, and what else is worth a word
}{
	{"A path of a host", "http", "localhost", "/login", "200 login"},
	{"", "http", "localhost", "/checkout", "200 checkout"},
	{"", "http", "localhost", "/payments/cards", "200 payments: prefixes match whole elements of a path"},
	{"A host of its own", "http", "login.localhost", "/", "200 login"},
	{"A wildcard host, *.pay.localhost", "http", "any.pay.localhost", "/", "200 payments"},
	{"No host that is known", "http", "elsewhere.localhost", "/", "200 login, the default backend"},
	{"With a password", "http", "admin.localhost", "/", "401 until you are " + demoUser + " with the password " + demoPassword},
	{"Offloading: TLS ends at Gatehouse, plain HTTP is redirected", "http", "secure.localhost", "/", "308 to HTTPS, where checkout answers"},
	{"Passthrough: TLS ends at the endpoint", "https", "vault.localhost", "/", "200 vault, with its own certificate"},
}

const demoStyle = `body{font:16px/1.5 system-ui,sans-serif;max-width:54rem;margin:2rem auto;padding:0 1rem;color:#1b1f24;background:#fff}
h1{font-size:1.6rem}h2{font-size:1.15rem;margin-top:2rem}table{border-collapse:collapse;width:100%}
td,th{text-align:left;padding:.3rem .8rem .3rem 0;border-bottom:1px solid #d8dee4;vertical-align:top}
code{background:#f3f5f7;padding:.1rem .3rem}a{color:#0550ae}.about td{border-bottom:0;padding-top:1rem;font-weight:600}`

// writeDemoPage writes a page around a body of HTML.
func writeDemoPage(w http.ResponseWriter, title, body string) {
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	w.Header().Set("Cache-Control", "no-store")
	fmt.Fprintf(w, "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"><meta name=\"viewport\" content=\"width=device-width\">"+
		"<title>%s</title><style>%s</style></head>\n<body><h1>%[1]s</h1>\n", html.EscapeString(title), demoStyle)
	io.WriteString(w, body+"\n</body></html>\n")
}

// servePage is where a browser begins: what can be clicked, and what serves now.
func (d *demoRun) servePage(w http.ResponseWriter, _ *http.Request) {
	g := d.gateway.Load()
	if g == nil {
		http.Error(w, "not yet", http.StatusServiceUnavailable)
		return
	}
	plain, secure := g.Addr(false), g.Addr(true)
	var b strings.Builder
	b.WriteString("<p>This page came through Gatehouse from one of five small backends. Each link below takes another way. " +
		"Links with <code>https</code> show a certificate of the demo's own CA, of which browsers warn.</p>\n<h2>Try</h2>\n<table>\n")
	for _, l := range demoLinks {
		at := plain
		if l.scheme == "https" {
			at = secure
		}
		if !at.IsValid() {
			continue
		}
		if l.about != "" {
			fmt.Fprintf(&b, "<tr class=\"about\"><td colspan=\"2\">%s</td></tr>\n", html.EscapeString(l.about))
		}
		url := html.EscapeString(demoURL(l.scheme, l.host, at, l.path))
		fmt.Fprintf(&b, "<tr><td><a href=\"%s\">%[1]s</a></td><td>%s</td></tr>\n", url, html.EscapeString(l.answer))
	}
	b.WriteString("</table>\n<h2>What serves now</h2>\n<table>\n<tr><th>Host</th><th>Path</th><th>Leads to</th></tr>\n")
	for _, r := range demoRoutes(g.loop.state().config, secure.IsValid()) {
		fmt.Fprintf(&b, "<tr><td>%s</td><td>%s</td><td>%s</td></tr>\n", html.EscapeString(r.host), html.EscapeString(r.path), html.EscapeString(r.to))
	}
	b.WriteString("</table>\n")
	if all := g.Verdicts(); len(all) > 0 {
		b.WriteString("<h2>What is wrong</h2>\n<ul>\n")
		for _, v := range all {
			fmt.Fprintf(&b, "<li><b>%s</b> %s: %s</li>\n", html.EscapeString(v.Object.String()), html.EscapeString(string(v.Reason)), html.EscapeString(v.Message))
		}
		b.WriteString("</ul>\n")
	}
	fmt.Fprintf(&b, "<h2>Change it</h2>\n<p>Edit <code>%s</code>, save it, and load this page again.</p>", html.EscapeString(filepath.Join(g.s.Manifests, "ingress.yaml")))
	writeDemoPage(w, "Gatehouse demo", b.String())
}

// demoURL leaves out the port that goes without saying.
func demoURL(scheme, host string, at netip.AddrPort, path string) string {
	if scheme == "http" && at.Port() == 80 || scheme == "https" && at.Port() == 443 {
		return scheme + "://" + host + path
	}
	return fmt.Sprintf("%s://%s:%d%s", scheme, host, at.Port(), path)
}

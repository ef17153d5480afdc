package judges

import (
	"bytes"
	"fmt"
	"strings"
)

// Judge is a suite, a library or a program that Gatehouse is judged by.
type Judge struct {
	ID    string // of its result's file
	Title string
	About string // what it is, and what it asks: paragraphs of Markdown
}

// Judges are all there are, in the document's order.
var Judges = []Judge{
	{"gateway-api", "Gateway API conformance suite",
		"`sigs.k8s.io/gateway-api/conformance`, the official suite, with the custom resource definitions and the echo\n" +
			"backends of its own module. The counts are the suite's tests by profile: those that need core features only, and\n" +
			"those that need extended ones too; a test may count in several profiles."},
	{"h2spec", "h2spec", "`h2spec --strict`: every case about RFC 9113 and RFC 7541, against the HTTP/2 engine alone and against the\n" +
		"whole product with a backend behind it."},
	{"grpc", "gRPC", "grpc-go as client and as server, through Gatehouse."},
	{"websocket", "WebSocket", "github.com/coder/websocket as client and as server, over HTTP/1.1 and, by hand-made frames, over HTTP/2."},
	{"http2-clients", "HTTP/2 clients", "nghttp2, Go's HTTP/2 and hand-made frames."},
	{"tls-clients", "TLS clients", "Go, curl and OpenSSL, in the three TLS modes: offloading, bridging, passthrough; with client certificates (beside nginx)\n" +
		"and while certificates are replaced."},
	{"testssl", "testssl.sh", "The TLS scanner, against the default settings. What it says of the test's own certificate is left out."},
}

const introduction = `# Conformance

What other people's test suites, clients and scanners say about Gatehouse. This
page is generated (` + "`make docs`" + `) from the results in test/judges/results. The judges
run in ` + "`make test`" + `, and a run that says anything else than this page fails.

`

// Render makes the document of the results of Load.
func Render(results []Result) []byte {
	var b bytes.Buffer
	b.WriteString(introduction)
	b.WriteString("| Judge | Version | Passed |\n|---|---|---|\n")
	for i, r := range results {
		version := r.Version
		if version == "" {
			version = "as installed"
		}
		fmt.Fprintf(&b, "| [%s](#%s) | %s | %d of %d |\n", Judges[i].Title, anchor(Judges[i].Title), version, r.Passed, r.Of)
	}
	for i, r := range results {
		fmt.Fprintf(&b, "\n## %s\n%s\n\n| Asked | Passed |\n|---|---|\n", Judges[i].Title, Judges[i].About)
		for _, c := range r.Checks {
			fmt.Fprintf(&b, "| %s | %s |\n", c.Name, c.passed())
		}
	}
	return b.Bytes()
}

func (c Check) passed() string {
	switch {
	case c.Note != "":
		return fmt.Sprintf("%d of %d: %s", c.Passed, c.Of, c.Note)
	case c.Of == 1:
		return "yes"
	default:
		return fmt.Sprintf("%d of %d", c.Passed, c.Of)
	}
}

// anchor is the one that Markdown viewers give a heading.
func anchor(title string) string {
	var b strings.Builder
	for _, r := range strings.ToLower(title) {
		switch {
		case r == ' ':
			b.WriteByte('-')
		case r == '-' || r >= 'a' && r <= 'z' || r >= '0' && r <= '9':
			b.WriteRune(r)
		}
	}
	return b.String()
}

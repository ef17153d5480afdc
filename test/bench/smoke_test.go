package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"gatehouse.dev/gatehouse/test/bench/internal/peer"
	"gatehouse.dev/gatehouse/test/bench/internal/result"
)

// TestMain lets the test binary be the programs that the benchmark starts of
// itself.
func TestMain(m *testing.M) {
	if known, err := role(os.Args[1:]); known {
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// TestSmoke runs everything but the API server for a moment: all peers do their
// duties, no answer is wrong, the document is written. The figures are not
// looked at.
func TestSmoke(t *testing.T) {
	if testing.Short() {
		t.Skip("builds gatehouse and runs four proxies")
	}
	dir := t.TempDir()
	document, data := filepath.Join(dir, "PERFORMANCE.md"), filepath.Join(dir, "bench.json")
	o, err := parse([]string{"-rounds", "2", "-length", "100ms", "-warm-up", "20ms", "-max-foreign", "2",
		"-ingresses", "20", "-changes", "3", "-o", document, "-json", data})
	if err != nil {
		t.Fatal(err)
	}
	if err := run(t.Context(), o); err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(document)
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range peer.Peers {
		if !strings.Contains(string(text), "\n| "+p.Name) {
			t.Errorf("%s is not in the document:\n%s", p.Name, text)
		}
	}
	if strings.Contains(string(text), "NaN") || !strings.Contains(string(text), "a manifest is replaced") {
		t.Errorf("document:\n%s", text)
	}
	if info, err := os.Stat(data); err != nil || info.Size() == 0 {
		t.Error("no data", err)
	}
}

// TestSmokeTLS does the same for all modes of TLS, and keeps the other part of the
// document.
func TestSmokeTLS(t *testing.T) {
	if testing.Short() {
		t.Skip("builds gatehouse and runs three proxies nine times")
	}
	dir := t.TempDir()
	document := filepath.Join(dir, "PERFORMANCE.md")
	const before = "<!-- begin plain: written by the benchmark -->\nas it was\n<!-- end plain -->\n"
	if err := os.WriteFile(document, []byte(before), 0o644); err != nil {
		t.Fatal(err)
	}
	o, err := parse([]string{"-tls", "-rounds", "1", "-length", "200ms", "-warm-up", "100ms", "-max-foreign", "2", "-o", document})
	if err != nil {
		t.Fatal(err)
	}
	if err := run(t.Context(), o); err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(document)
	if err != nil {
		t.Fatal(err)
	}
	for _, w := range tlsWorkloads {
		for _, p := range peer.TLSPeers {
			if !rowOf(string(text), w.Title, p.Name) {
				t.Errorf("%s, %s is not in the document", w.Title, p.Name)
			}
		}
	}
	if strings.Contains(string(text), "NaN") || !strings.Contains(string(text), before) {
		t.Errorf("document:\n%s", text)
	}
	picture, err := os.ReadFile(filepath.Join(dir, result.PictureName))
	if err != nil || !strings.Contains(string(picture), "</svg>") {
		t.Error("no picture", err)
	}
}

func rowOf(text, title, name string) bool {
	for line := range strings.Lines(text) {
		f := strings.Split(line, "|")
		if len(f) > 10 && strings.TrimSpace(f[1]) == title && strings.TrimSpace(f[2]) == name {
			return true
		}
	}
	return false
}

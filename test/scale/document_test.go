package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func TestDocument(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "SCALE.md")
	if err := os.WriteFile(path, []byte("before\n"+tablesBegin+"\nold\n"+tablesEnd+"\nafter\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	all := results{}.with(&result{Ingresses: targetSize, AfterLists: 5001, AtReady: 381}).with(&result{Ingresses: 100, AfterLists: 1})
	all = all.with(&result{Ingresses: 100, AfterLists: 20})
	if err := all.document(dir); err != nil {
		t.Fatal(err)
	}
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	text := string(data)
	for _, want := range []string{"before\n", "\nafter\n", "| Ingresses | 100 | 20,000 |", "lists, s | 0.02 | 5.00 | 5 | missed |", "seen, MiB | 0 | 381 | 381 | met |"} {
		if !strings.Contains(text, want) {
			t.Errorf("%q is not in\n%s", want, text)
		}
	}
	if strings.Contains(text, "\nold\n") {
		t.Error("the old tables are still there")
	}
	for _, c := range charts {
		picture, err := os.ReadFile(filepath.Join(dir, c.file))
		if err != nil || strings.Contains(string(picture), "NaN") || !strings.HasSuffix(string(picture), "</svg>\n") {
			t.Errorf("%s: %v\n%s", c.file, err, picture)
		}
	}
}

func TestSpread(t *testing.T) {
	var times []time.Duration
	for i := range 200 {
		times = append(times, time.Duration(200-i)*time.Millisecond)
	}
	if got, want := spreadOf(times), (spread{200, 101, 199}); got != want {
		t.Errorf("got %+v, want %+v", got, want)
	}
}

package main

import (
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// A step says what it is before it begins, that it lasts, and how it ended.
func TestProgress(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var b strings.Builder
		p := progress{&b, 20 * time.Second}
		if err := p.step("Building", func() error { time.Sleep(45 * time.Second); return nil }); err != nil {
			t.Error(err)
		}
		broken := errors.New("broken")
		if err := p.step("Starting", func() error { time.Sleep(time.Second); return broken }); err != broken {
			t.Error(err)
		}
		const want = "Building ...\n  still, after 20s\n  still, after 40s\n  done after 45s\nStarting ...\n  failed after 1s\n"
		if b.String() != want {
			t.Errorf("%q, want %q", b.String(), want)
		}
	})
}

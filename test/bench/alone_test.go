package main

import (
	"bytes"
	"context"
	"errors"
	"strings"
	"testing"
)

// A second gate on the machine waits for the first one's end, and says so.
func TestAlone(t *testing.T) {
	dir := t.TempDir()
	var said bytes.Buffer
	first, err := alone(t.Context(), dir, &said)
	if err != nil || said.Len() > 0 {
		t.Fatalf("%v, %q", err, &said)
	}
	type result struct {
		release func()
		err     error
	}
	waits := &signalled{wrote: make(chan struct{}, 1)}
	got := make(chan result, 1)
	go func() {
		release, err := alone(t.Context(), dir, waits)
		got <- result{release, err}
	}()
	<-waits.wrote
	select {
	case r := <-got:
		t.Fatalf("the second did not wait: %v", r.err)
	default:
	}
	first()
	r := <-got
	if r.err != nil || !strings.Contains(waits.String(), "waiting") {
		t.Fatalf("%v, %q", r.err, waits.String())
	}
	defer r.release()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := alone(ctx, dir, &said); !errors.Is(err, context.Canceled) {
		t.Errorf("with an ended context: %v", err)
	}
}

// signalled tells that something was written.
type signalled struct {
	bytes.Buffer
	wrote chan struct{}
}

func (s *signalled) Write(p []byte) (int, error) {
	n, err := s.Buffer.Write(p)
	s.wrote <- struct{}{}
	return n, err
}

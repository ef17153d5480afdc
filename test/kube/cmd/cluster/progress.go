package main

import (
	"fmt"
	"io"
	"time"
)

// sayEvery is how often it is said that a step still lasts.
const sayEvery = 20 * time.Second

// progress tells people what is done while it lasts: the first build of a
// cluster takes minutes.
type progress struct {
	w     io.Writer
	every time.Duration
}

// step does f, and says what that is, how long it has lasted meanwhile, and how
// long it took in the end.
func (p progress) step(what string, f func() error) error {
	begin := time.Now()
	fmt.Fprintf(p.w, "%s ...\n", what)
	ended := make(chan error, 1)
	go func() { ended <- f() }()
	tick := time.NewTicker(p.every)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
			fmt.Fprintf(p.w, "  still, after %s\n", time.Since(begin).Round(time.Second))
		case err := <-ended:
			if err != nil {
				fmt.Fprintf(p.w, "  failed after %s\n", time.Since(begin).Round(100*time.Millisecond))
				return err
			}
			fmt.Fprintf(p.w, "  done after %s\n", time.Since(begin).Round(100*time.Millisecond))
			return nil
		}
	}
}

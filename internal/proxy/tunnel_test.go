package proxy

import (
	"context"
	"testing"
	"testing/synctest"
)

// The end of a Server reaches a tunnel that ends at the same moment: nothing of it may be
// given back while it is still used.
func TestAtEndWaits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		running, stopped := make(chan struct{}), make(chan struct{})
		stop := atEnd(ctx, func() { <-running })
		cancel()
		synctest.Wait()
		go func() {
			defer close(stopped)
			stop()
		}()
		synctest.Wait()
		select {
		case <-stopped:
			t.Fatal("stopped while it was running")
		default:
		}
		close(running)
		<-stopped
	})
	ended, called := context.WithCancel(t.Context())
	atEnd(ended, func() { t.Error("called after it was stopped") })()
	called()
}

// Package poll waits for conditions. It takes a check and a deadline, and gives
// back nil as soon as the check passes; it never waits for a fixed time.
package poll

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"time"
)

// Until calls check at once and then every interval until it returns nil. When
// ctx ends first, the error carries the last thing check complained of and
// wraps ctx's cause. The ctx given to check ends with ctx.
func Until(ctx context.Context, every time.Duration, check func(context.Context) error) error {
	tick := time.NewTicker(every)
	defer tick.Stop()
	var last error
	for {
		err := check(ctx)
		if err == nil {
			return nil
		}
		// A check cut short by ctx tells nothing; the one before did.
		if last == nil || ctx.Err() == nil {
			last = err
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("%w; last: %v", context.Cause(ctx), last)
		case <-tick.C:
		}
	}
}

// Get is a check: nil when url answers 200 within five seconds.
func Get(ctx context.Context, client *http.Client, url string) error {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return err
	}
	resp, err := client.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		return err
	}
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("%s answers %s: %s", url, resp.Status, body)
	}
	return nil
}

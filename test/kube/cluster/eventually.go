package cluster

import (
	"context"
	"time"

	"gatehouse.dev/gatehouse/test/kube/internal/poll"
)

// Eventually calls check at once and then every 20 ms until it returns nil. The
// error, after timeout or the end of ctx, has the last thing check complained
// of.
func Eventually(ctx context.Context, timeout time.Duration, check func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	return poll.Until(ctx, 20*time.Millisecond, check)
}

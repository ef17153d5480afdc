package app

import (
	"context"
	"fmt"
	"log/slog"

	"golang.org/x/sys/unix"
)

// ownDescriptors are kept for what is neither a client nor an endpoint: listeners,
// health and metrics, the API server, logs, name servers, a bundle being written, and
// clients that are making place for others.
const ownDescriptors = 128

// raiseDescriptors makes the most of the limit on open files, and gives it.
func raiseDescriptors() (uint64, error) {
	var l unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &l); err != nil {
		return 0, fmt.Errorf("cannot read the limit on open files: %w", err)
	}
	if l.Cur < l.Max {
		raised := unix.Rlimit{Cur: l.Max, Max: l.Max}
		if unix.Setrlimit(unix.RLIMIT_NOFILE, &raised) == nil { // else what there is must do
			return raised.Cur, nil
		}
	}
	return l.Cur, nil
}

// clientConnections is how many of the connections asked for the descriptors allow.
// Each client connection may need a second one, to its endpoint.
func clientConnections(asked int, descriptors uint64) int {
	if descriptors < ownDescriptors+2 {
		return 1
	}
	if most := (descriptors - ownDescriptors) / 2; most < uint64(asked) {
		return int(most)
	}
	return asked
}

// connectionLimit gives the limit of client connections, and tells when it is not
// the one that was asked for: as a warning where that is not the default.
func connectionLimit(asked int, log *slog.Logger) int {
	descriptors, err := raiseDescriptors()
	if err != nil {
		log.Warn("the limit on open files is not known", "error", err)
		return asked
	}
	limit := clientConnections(asked, descriptors)
	if limit < asked {
		level := slog.LevelWarn
		if asked == Defaults().MaxConnections {
			level = slog.LevelInfo
		}
		log.Log(context.Background(), level, "open files are limited, and with them client connections: raise RLIMIT_NOFILE (ulimit -n) or lower --max-connections",
			"openFiles", descriptors, "maxConnections", asked, "limit", limit)
	}
	return limit
}

// Package netns works in other network namespaces. It takes the path of one,
// such as /run/netns/NAME, and gives what a function did in there: sockets and
// processes stay in the namespace they were made in, wherever they are used.
//
// Linux only; it takes root.
package netns

import (
	"fmt"
	"os"
	"runtime"

	"golang.org/x/sys/unix"
)

// Enter moves the calling thread, which must be locked to its goroutine, into
// the namespace. There is no way back: never unlock the thread, it must end
// with the goroutine.
func Enter(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return fmt.Errorf("cannot enter the network namespace: %w", err)
	}
	defer f.Close()
	if err := unix.Setns(int(f.Fd()), unix.CLONE_NEWNET); err != nil {
		return fmt.Errorf("cannot enter the network namespace %s: %w", path, err)
	}
	return nil
}

// Do calls f in the namespace and returns its error. Goroutines that f starts
// are outside.
func Do(path string, f func() error) error {
	done := make(chan error, 1)
	go func() {
		runtime.LockOSThread() // and never unlocked
		err := Enter(path)
		if err == nil {
			err = f()
		}
		done <- err
	}()
	return <-done
}

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

// Enter moves the calling thread into the namespace, for good: call it on a
// Thread.
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

// Thread calls f on a thread of its own, which ends when f returns. f may Enter.
func Thread(f func()) {
	go func() {
		runtime.LockOSThread()
		// The program's first thread cannot end: it would stay where it is, and
		// the namespace with it.
		if unix.Gettid() != os.Getpid() {
			f()
			return // and never unlocked: the thread ends
		}
		done := make(chan struct{})
		Thread(func() { // not on this one, which waits
			defer close(done)
			f()
		})
		<-done
		runtime.UnlockOSThread()
	}()
}

// Do calls f in the namespace and returns its error. Goroutines that f starts
// are outside.
func Do(path string, f func() error) error {
	done := make(chan error, 1)
	Thread(func() {
		err := Enter(path)
		if err == nil {
			err = f()
		}
		done <- err
	})
	return <-done
}

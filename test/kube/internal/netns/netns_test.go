package netns

import (
	"context"
	"errors"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"gatehouse.dev/gatehouse/test/kube/internal/poll"
)

// fresh makes a network namespace and returns its path, which lasts until the
// test ends, and its identity.
func fresh(t *testing.T) (string, string) {
	t.Helper()
	if os.Getuid() != 0 {
		t.Fatal("takes root")
	}
	ready, over := make(chan error), make(chan struct{})
	var path string
	Thread(func() {
		err := unix.Unshare(unix.CLONE_NEWNET)
		path = filepath.Join("/proc/self/task", strconv.Itoa(unix.Gettid()), "ns/net")
		ready <- err
		<-over
	})
	if err := <-ready; err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { close(over) })
	return path, identity(t, path)
}

func identity(t *testing.T, path string) string {
	t.Helper()
	id, err := os.Readlink(path)
	if err != nil {
		t.Fatal(err)
	}
	return id
}

// TestDo shows that what is done in a namespace is done there, and that no
// thread stays there.
func TestDo(t *testing.T) {
	path, id := fresh(t)
	own := identity(t, "/proc/self/ns/net")
	if own == id {
		t.Fatal("the namespace is our own")
	}
	// Many at once, so that the first thread has to take part.
	var group sync.WaitGroup
	for range 4 * runtime.GOMAXPROCS(0) {
		group.Go(func() {
			err := Do(path, func() error {
				links, err := net.Interfaces()
				if err == nil && (len(links) != 1 || links[0].Flags&net.FlagUp != 0) {
					err = errors.New("this is not a fresh namespace")
				}
				return err
			})
			if err != nil {
				t.Error(err)
			}
		})
	}
	group.Wait()
	if err := Do("/nonexistent", func() error { return nil }); err == nil {
		t.Error("a namespace that is not there can be entered")
	}
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
	defer cancel()
	err := poll.Until(ctx, time.Millisecond, func(context.Context) error {
		threads, err := filepath.Glob("/proc/self/task/*/ns/net")
		if err != nil {
			return err
		}
		inside := 0
		for _, thread := range threads {
			if now, err := os.Readlink(thread); err == nil && now == id {
				inside++
			}
		}
		if inside != 1 { // the one that made it
			return errors.New("threads are left in the namespace")
		}
		return nil
	})
	if err != nil {
		t.Error(err)
	}
}

// TestFirstThread shows that Thread leaves the program's first thread alone.
func TestFirstThread(t *testing.T) {
	done := make(chan bool)
	for range 100 {
		Thread(func() { done <- unix.Gettid() == os.Getpid() })
		if <-done {
			t.Fatal("on the first thread")
		}
	}
}

package cgroup

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"testing"
	"time"
)

// TestLife shows a group with a process in it, from its making to its removal.
func TestLife(t *testing.T) {
	if os.Getuid() != 0 {
		t.Fatal("takes root")
	}
	group := fmt.Sprintf("gatehouse-test-%d", os.Getpid())
	name := group + "/inner"
	if err := Make(name); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = Remove(context.Background(), group) })
	if err := Make(name); err != nil {
		t.Errorf("once more: %v", err)
	}
	sleep := exec.Command("sleep", "300")
	if err := sleep.Start(); err != nil {
		t.Fatal(err)
	}
	roots, err := hierarchies()
	if err != nil {
		t.Fatal(err)
	}
	for _, root := range roots {
		procs := filepath.Join(root, name, "cgroup.procs")
		if err := os.WriteFile(procs, []byte(strconv.Itoa(sleep.Process.Pid)), 0o644); err != nil {
			t.Errorf("no place for a process: %v", err)
		}
	}
	brief, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if err := Remove(brief, group); err == nil {
		t.Error("a group with a process in it is removed")
	}

	killed := make(chan error, 1)
	go func() { killed <- Kill(t.Context(), group) }() // waits until somebody reaps
	if err := sleep.Wait(); err == nil {
		t.Error("the process ended well; want it killed")
	}
	if err := <-killed; err != nil {
		t.Error(err)
	}
	if err := Remove(t.Context(), group); err != nil {
		t.Error(err)
	}
	if there, err := Exists(group); there || err != nil {
		t.Errorf("it exists: %v, %v", there, err)
	}
	if err := Kill(t.Context(), group); err != nil {
		t.Errorf("a missing group: %v", err)
	}
}

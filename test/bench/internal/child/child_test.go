package child

import (
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"gatehouse.dev/gatehouse/test/bench/internal/machine"
)

func TestStart(t *testing.T) {
	cpus, err := machine.CPUs()
	if err != nil {
		t.Fatal(err)
	}
	last := cpus[len(cpus)-1]
	p, err := Start(Spec{Name: "cat", Path: "cat", Args: []string{"/proc/self/status"},
		CPUs: []int{last}, Log: filepath.Join(t.TempDir(), "log")})
	if err != nil {
		t.Fatal(err)
	}
	<-p.done
	if err := p.Stop(); err != nil {
		t.Error("Stop of one that has ended:", err)
	}
	log, err := os.ReadFile(p.spec.Log)
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(log)) {
		if list, ok := strings.CutPrefix(line, "Cpus_allowed_list:"); ok && strings.TrimSpace(list) != strconv.Itoa(last) {
			t.Errorf("child pinned to %d may run on %s", last, list)
		}
	}
	if p.Exited() == nil {
		t.Error("not seen to have ended")
	}
}

func TestStopAndCPU(t *testing.T) {
	p, err := Start(Spec{Name: "sleep", Path: "sleep", Args: []string{"60"}, Log: filepath.Join(t.TempDir(), "log")})
	if err != nil {
		t.Fatal(err)
	}
	if cpu, err := p.CPU(); err != nil || cpu < 0 || cpu > 10*time.Second {
		t.Errorf("CPU time of sleep: %v, %v", cpu, err)
	}
	if err := p.Exited(); err != nil {
		t.Error(err)
	}
	if err := p.Stop(); err != nil {
		t.Error(err)
	}
	if _, err := p.CPU(); err == nil {
		t.Error("CPU time of a process that is gone")
	}
}

func TestStartFails(t *testing.T) {
	if _, err := Start(Spec{Name: "x", Path: "/nonexistent", Log: filepath.Join(t.TempDir(), "log")}); err == nil {
		t.Error("started a program that is not there")
	}
}

func TestSchedstat(t *testing.T) {
	if d, err := schedstat([]byte("1500 20 3\n")); d != 1500 || err != nil {
		t.Errorf("got %v, %v", d, err)
	}
	if _, err := schedstat([]byte("x 1 1")); err == nil {
		t.Error("garbage accepted")
	}
}

func TestChildren(t *testing.T) {
	dir := t.TempDir()
	out := filepath.Join(dir, "out")
	p, err := Start(Spec{Name: "sh", Path: "sh", Args: []string{"-c", "sleep 60 & echo $!; wait"}, Log: filepath.Join(dir, "log"), Output: out})
	if err != nil {
		t.Fatal(err)
	}
	defer p.Stop()
	var pid int
	for end := time.Now().Add(10 * time.Second); pid == 0; {
		text, err := os.ReadFile(out)
		if err != nil || time.Now().After(end) {
			t.Fatalf("no output: %q, %v", text, err)
		}
		pid, _ = strconv.Atoi(strings.TrimSpace(string(text)))
	}
	sleep, err := os.FindProcess(pid)
	if err != nil {
		t.Fatal(err)
	}
	defer sleep.Kill()
	if got := p.PIDs(); len(got) != 2 || got[1] != pid {
		t.Errorf("processes %v, the child is %d", got, pid)
	}
	if n, err := p.Memory(); err != nil || n < 1<<16 || n > 1<<28 {
		t.Errorf("memory is %d, %v", n, err)
	}
}

// Package machine tells about the computer that a benchmark runs on, and puts
// threads on one CPU. It reads /proc and never writes anything. Linux only.
package machine

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// tick is the unit of /proc/stat: USER_HZ is 100 on every Linux platform of Go.
const tick = 10 * time.Millisecond

// CPUs are those this process may run on, in ascending order.
func CPUs() ([]int, error) {
	var set unix.CPUSet
	if err := unix.SchedGetaffinity(0, &set); err != nil {
		return nil, fmt.Errorf("cannot read the CPU affinity: %w", err)
	}
	var cpus []int
	for cpu := 0; len(cpus) < set.Count(); cpu++ {
		if set.IsSet(cpu) {
			cpus = append(cpus, cpu)
		}
	}
	return cpus, nil
}

// PinThread puts the calling thread on the given CPUs. The caller has locked
// its goroutine to it. What it starts from now on begins there.
func PinThread(cpus ...int) error { return pin(0, cpus) }

// Pin puts all threads of this process on the given CPUs, and those they start.
func Pin(cpus ...int) error {
	// A thread made meanwhile by one that was not moved yet would be missed by
	// one walk.
	for range 2 {
		tasks, err := filepath.Glob("/proc/self/task/*")
		if err != nil {
			return fmt.Errorf("cannot list threads: %w", err)
		}
		for _, t := range tasks {
			tid, err := strconv.Atoi(filepath.Base(t))
			if err != nil {
				return fmt.Errorf("cannot list threads: %w", err)
			}
			if err := pin(tid, cpus); err != nil && !errors.Is(err, unix.ESRCH) {
				return err
			}
		}
	}
	runtime.GOMAXPROCS(len(cpus))
	return nil
}

func pin(tid int, cpus []int) error {
	var set unix.CPUSet
	for _, cpu := range cpus {
		set.Set(cpu)
	}
	if err := unix.SchedSetaffinity(tid, &set); err != nil {
		return fmt.Errorf("cannot pin thread %d to CPUs %v: %w", tid, cpus, err)
	}
	return nil
}

// Busy is how long CPUs together have not been idle since the machine started, in
// steps of 10 ms. Time that the hypervisor took counts as busy: it was not ours.
func Busy(cpus ...int) (time.Duration, error) {
	text, err := os.ReadFile("/proc/stat")
	if err != nil {
		return 0, fmt.Errorf("cannot read the CPU's time: %w", err)
	}
	var sum time.Duration
	for _, cpu := range cpus {
		d, err := busy(text, cpu)
		if err != nil {
			return 0, err
		}
		sum += d
	}
	return sum, nil
}

// Own is the CPU time of this process, user and system.
func Own() (time.Duration, error) {
	var u unix.Rusage
	if err := unix.Getrusage(unix.RUSAGE_SELF, &u); err != nil {
		return 0, fmt.Errorf("cannot read the CPU time: %w", err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano()), nil
}

// busy reads the line of a CPU: user nice system idle iowait irq softirq steal.
func busy(stat []byte, cpu int) (time.Duration, error) {
	name := "cpu" + strconv.Itoa(cpu)
	for line := range bytes.Lines(stat) {
		f := strings.Fields(string(line))
		if len(f) < 9 || f[0] != name {
			continue
		}
		var ticks int64
		for _, i := range []int{1, 2, 3, 6, 7, 8} {
			n, err := strconv.ParseInt(f[i], 10, 64)
			if err != nil {
				return 0, fmt.Errorf("cannot read the time of %s: %w", name, err)
			}
			ticks += n
		}
		return time.Duration(ticks) * tick, nil
	}
	return 0, fmt.Errorf("cannot read the time of %s: no such CPU", name)
}

// look is how long a CPU is looked at before it is called calm.
const look = 300 * time.Millisecond

// Calm waits while others use more than a share of the CPU, as long as there is
// patience, from which it takes what it waited.
func Calm(ctx context.Context, cpu int, share float64, patience *time.Duration) error {
	for *patience > 0 {
		before, err := Busy(cpu)
		if err != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-time.After(look):
		}
		after, err := Busy(cpu)
		if err != nil {
			return err
		}
		if (after - before).Seconds() <= share*look.Seconds() {
			return nil
		}
		*patience -= look
	}
	return nil
}

// Description is what figures depend on.
type Description struct {
	CPU      string `json:"cpu"`      // model
	CPUs     int    `json:"cpus"`     // online
	MemoryMB int64  `json:"memoryMB"` // 2^20 bytes
	Kernel   string `json:"kernel"`
	System   string `json:"system"` // distribution
	// Congestion is TCP's congestion control.
	Congestion string `json:"congestion"`
}

// Describe reads the Description; what cannot be read stays empty.
func Describe() Description {
	d := Description{CPUs: runtime.NumCPU()}
	d.CPU = field("/proc/cpuinfo", "model name", ":")
	d.System = strings.Trim(field("/etc/os-release", "PRETTY_NAME", "="), `"`)
	kb, _ := strconv.ParseInt(strings.TrimSuffix(field("/proc/meminfo", "MemTotal", ":"), " kB"), 10, 64)
	d.MemoryMB = kb >> 10
	congestion, _ := os.ReadFile("/proc/sys/net/ipv4/tcp_congestion_control")
	d.Congestion = string(bytes.TrimSpace(congestion))
	var u unix.Utsname
	if unix.Uname(&u) == nil {
		d.Kernel = unix.ByteSliceToString(u.Sysname[:]) + " " + unix.ByteSliceToString(u.Release[:]) + " " + unix.ByteSliceToString(u.Machine[:])
	}
	return d
}

// field is the value of the first line with the name.
func field(path, name, sep string) string {
	text, _ := os.ReadFile(path)
	for line := range strings.Lines(string(text)) {
		if k, v, ok := strings.Cut(line, sep); ok && strings.TrimSpace(k) == name {
			return strings.TrimSpace(v)
		}
	}
	return ""
}

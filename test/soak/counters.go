package main

import (
	"bufio"
	"fmt"
	"os"
	"strconv"
	"strings"
)

// counters are what a kernel has counted in one network namespace, by the names
// that nstat prints.
type counters map[string]int64

// telling are the counters that say why a connection broke, or why it was slow.
var telling = []string{
	"TcpOutRsts", "TcpEstabResets",
	"TcpExtTCPAbortOnData",    // closed with SO_LINGER 0, or bytes came after the close
	"TcpExtTCPAbortOnClose",   // closed with bytes unread
	"TcpExtTCPAbortOnMemory",  // no memory, or too many orphans
	"TcpExtTCPAbortOnTimeout", // nothing acknowledged for too long
	"TcpExtTCPAbortOnLinger", "TcpExtTCPAbortFailed",
	"TcpExtListenOverflows", "TcpExtListenDrops", "TcpExtTCPReqQFullDrop",
	"TcpExtTCPMemoryPressures", "TcpExtPruneCalled", "TcpExtRcvPruned", "TcpExtTCPRcvQDrop", "TcpExtTCPBacklogDrop",
	"TcpRetransSegs", "TcpExtTCPTimeouts", "TcpExtTCPWantZeroWindowAdv",
}

// count reads the counters of the namespace that a process is in.
func count(pid int) (counters, error) {
	c := counters{}
	for _, file := range []string{"netstat", "snmp"} {
		f, err := os.Open(fmt.Sprintf("/proc/%d/net/%s", pid, file))
		if err != nil {
			return nil, err
		}
		lines := bufio.NewScanner(f)
		lines.Buffer(nil, 1<<20)
		for lines.Scan() { // a line of names, and one of numbers
			prefix, names, _ := strings.Cut(lines.Text(), ": ")
			if !lines.Scan() {
				break
			}
			_, numbers, _ := strings.Cut(lines.Text(), ": ")
			values := strings.Fields(numbers)
			for i, name := range strings.Fields(names) {
				if i < len(values) {
					c[prefix+name], _ = strconv.ParseInt(values[i], 10, 64)
				}
			}
		}
		f.Close()
		if err := lines.Err(); err != nil {
			return nil, err
		}
	}
	return c, nil
}

// dropped is how many packets the machine has thrown away because more came between
// two of its turns than netdev_max_backlog allows: veth and loopback go through it.
func dropped() (n int64) {
	text, _ := os.ReadFile("/proc/net/softnet_stat")
	for line := range strings.SplitSeq(string(text), "\n") {
		if f := strings.Fields(line); len(f) > 1 {
			cpu, _ := strconv.ParseInt(f[1], 16, 64)
			n += cpu
		}
	}
	return n
}

// kernelMemory is how many pages the TCP sockets of the whole machine take, and at
// how many the kernel becomes stingy.
func kernelMemory() (pages, pressure int64) {
	text, _ := os.ReadFile("/proc/net/sockstat")
	for line := range strings.SplitSeq(string(text), "\n") {
		if f := strings.Fields(line); len(f) > 1 && f[0] == "TCP:" {
			pages, _ = strconv.ParseInt(f[len(f)-1], 10, 64)
		}
	}
	text, _ = os.ReadFile("/proc/sys/net/ipv4/tcp_mem")
	if f := strings.Fields(string(text)); len(f) == 3 {
		pressure, _ = strconv.ParseInt(f[1], 10, 64)
	}
	return pages, pressure
}

// resident is the memory of a process, in MiB, by the kind that /proc tells apart.
func resident(pid int) (all, anonymous int64) {
	text, _ := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	for line := range strings.SplitSeq(string(text), "\n") {
		f := strings.Fields(line)
		if len(f) < 2 {
			continue
		}
		n, _ := strconv.ParseInt(f[1], 10, 64)
		switch f[0] {
		case "VmRSS:":
			all = n >> 10
		case "RssAnon:":
			anonymous = n >> 10
		}
	}
	return all, anonymous
}

package main

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"time"
)

// edge is a Gatehouse under test.
type edge struct {
	cmd                 *exec.Cmd
	http, https, health string
	rebuilds            rebuilds
}

// startEdge runs the binary with the API server at the address; it writes the
// kubeconfig to dir.
func startEdge(binary, dir, server string) (*edge, error) {
	e := &edge{}
	for _, a := range []*string{&e.http, &e.https, &e.health} {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			return nil, err
		}
		*a = l.Addr().String()
		l.Close()
	}
	config := filepath.Join(dir, "kubeconfig")
	text := fmt.Sprintf(`{"apiVersion":"v1","kind":"Config","current-context":"x","contexts":[{"name":"x","context":{"cluster":"x"}}],`+
		`"clusters":[{"name":"x","cluster":{"server":"http://%s"}}]}`, server)
	if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
		return nil, err
	}
	e.cmd = exec.Command(binary, "serve", "--kubeconfig", config, "--http-addr", e.http, "--https-addr", e.https,
		"--admin-addr", e.health, "--pprof", "--allow-local-endpoints", "--access-log", "off", "--log-level", "debug",
		"--publish-address", published)
	e.cmd.Stderr = &e.rebuilds
	return e, e.cmd.Start()
}

func (e *edge) stop() {
	e.cmd.Process.Kill()
	e.cmd.Wait()
}

// waitReady asks until the answer is yes.
func (e *edge) waitReady(limit time.Duration) error {
	client := &http.Client{Timeout: time.Second}
	for end := time.Now().Add(limit); time.Now().Before(end); time.Sleep(2 * time.Millisecond) {
		resp, err := client.Get("http://" + e.health + "/readyz")
		if err != nil {
			continue
		}
		resp.Body.Close()
		if resp.StatusCode == http.StatusOK {
			return nil
		}
	}
	return fmt.Errorf("not ready after %v", limit)
}

// save writes what an admin path gives to a file.
func (e *edge) save(path, file string) error {
	resp, err := http.Get("http://" + e.health + path)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	data, err := io.ReadAll(resp.Body)
	if err != nil {
		return err
	}
	return os.WriteFile(file, data, 0o644)
}

// memory gives a value of /proc/PID/status in MiB.
func (e *edge) memory(name string) (float64, error) {
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", e.cmd.Process.Pid))
	if err != nil {
		return 0, err
	}
	for line := range strings.Lines(string(data)) {
		if rest, ok := strings.CutPrefix(line, name+":"); ok {
			kib, err := strconv.Atoi(strings.Fields(rest)[0])
			return float64(kib) / 1024, err
		}
	}
	return 0, fmt.Errorf("no %s in the status of the process", name)
}

// cpu is what all threads of the process have used.
func (e *edge) cpu() (time.Duration, error) {
	tasks, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/schedstat", e.cmd.Process.Pid))
	if err != nil {
		return 0, err
	}
	var sum time.Duration
	for _, t := range tasks {
		data, err := os.ReadFile(t)
		if err != nil {
			continue // the thread has ended
		}
		ns, err := strconv.ParseInt(strings.Fields(string(data))[0], 10, 64)
		if err != nil {
			return 0, err
		}
		sum += time.Duration(ns)
	}
	return sum, nil
}

// rebuilds reads the log for how long rebuilds took.
type rebuilds struct {
	mu    sync.Mutex
	rest  []byte
	times []time.Duration
}

func (r *rebuilds) Write(p []byte) (int, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.rest = append(r.rest, p...)
	for {
		line, rest, ok := bytes.Cut(r.rest, []byte("\n"))
		if !ok {
			return len(p), nil
		}
		r.rest = rest
		var said struct {
			Msg            string
			Level          string
			Build, Compile time.Duration
		}
		if json.Unmarshal(line, &said) != nil {
			os.Stderr.Write(append(line, '\n')) // a crash
		} else if said.Msg == "configuration applied" {
			r.times = append(r.times, said.Build+said.Compile)
		} else if said.Level == "ERROR" {
			os.Stderr.Write(append(line, '\n'))
		}
	}
}

// take gives the times since the last call.
func (r *rebuilds) take() []time.Duration {
	r.mu.Lock()
	defer r.mu.Unlock()
	out := r.times
	r.times = nil
	return out
}

// client is one connection that asks one thing at a time, with little garbage.
type client struct {
	conn net.Conn
	in   *bufio.Reader
}

func dial(addr string) (*client, error) {
	c, err := net.Dial("tcp", addr)
	if err != nil {
		return nil, err
	}
	return &client{c, bufio.NewReader(c)}, nil
}

// ask sends the request and gives the status and the first byte of the body; 0:
// there is none.
func (c *client) ask(request []byte) (status int, first byte, err error) {
	c.conn.SetDeadline(time.Now().Add(10 * time.Second))
	if _, err := c.conn.Write(request); err != nil {
		return 0, 0, err
	}
	length := 0
	for n := 0; ; n++ {
		line, err := c.in.ReadSlice('\n')
		if err != nil {
			return 0, 0, err
		}
		line = bytes.TrimRight(line, "\r\n")
		if n == 0 && len(line) > 12 {
			status, _ = strconv.Atoi(string(line[9:12]))
		}
		if name, value, ok := bytes.Cut(line, []byte(": ")); ok && bytes.EqualFold(name, []byte("content-length")) {
			length, _ = strconv.Atoi(string(value))
		}
		if len(line) == 0 {
			break
		}
	}
	if length > 0 {
		b, err := c.in.Peek(1)
		if err != nil {
			return 0, 0, err
		}
		first = b[0]
	}
	_, err = c.in.Discard(length)
	return status, first, err
}

func request(host string) []byte {
	return []byte("GET / HTTP/1.1\r\nHost: " + host + "\r\nUser-Agent: scale\r\nAccept: */*\r\n\r\n")
}

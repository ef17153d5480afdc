package peer

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"time"
)

// Check sends requests through the proxy to a backend that echoes heads. The
// error says which duty was not done: figures count only with the features on.
func (r *Running) Check(t Table) error {
	nc, err := net.DialTimeout("tcp", r.Addr, 5*time.Second)
	if err != nil {
		return err
	}
	defer nc.Close()
	nc.SetDeadline(time.Now().Add(10 * time.Second))
	rd := bufio.NewReader(nc)
	ask := func(host, target, fields string) (int, string, error) {
		if _, err := nc.Write(Request(host, target, fields)); err != nil {
			return 0, "", err
		}
		resp, err := http.ReadResponse(rd, nil)
		if err != nil {
			return 0, "", err
		}
		body, err := io.ReadAll(resp.Body)
		return resp.StatusCode, string(body), err
	}
	for _, h := range t.some(30) {
		for _, p := range t.Paths {
			status, body, err := ask(h, p.Target+"?echo", "X-Forwarded-For: 192.0.2.1\r\nX-Real-IP: 192.0.2.1\r\n")
			if err != nil {
				return err
			}
			if err := forwarded(status, body, h, "http"); err != nil {
				return fmt.Errorf("%s%s: %w", h, p.Target, err)
			}
			if status, _, err := ask(h, p.Path+"x", ""); err != nil || status != http.StatusNotFound {
				return fmt.Errorf("%s%sx, which has no route: status %d, %w", h, p.Path, status, err)
			}
		}
	}
	if status, _, err := ask("other.example", t.Paths[0].Target, ""); err != nil || status != http.StatusNotFound {
		return fmt.Errorf("a host without routes: status %d, %w", status, err)
	}
	return r.checkMetrics("requests")
}

// forwarded checks a head that the backend echoed.
func forwarded(status int, body, host, scheme string) error {
	if status != http.StatusOK {
		return fmt.Errorf("status %d: %.200s", status, body)
	}
	req, err := http.ReadRequest(bufio.NewReader(strings.NewReader(body)))
	if err != nil {
		return fmt.Errorf("forwarded head: %w", err)
	}
	if req.Host != host {
		return fmt.Errorf("forwarded Host is %q", req.Host)
	}
	for name, want := range map[string]string{
		"X-Forwarded-For": "127.0.0.1", "X-Real-IP": "127.0.0.1", "X-Forwarded-Proto": scheme, "X-Forwarded-Host": host,
		"X-Forwarded-Port": "", "X-Request-ID": "", // any value
	} {
		got := req.Header.Values(name)
		if len(got) != 1 || got[0] == "" || (want != "" && got[0] != want) {
			return fmt.Errorf("forwarded %s is %q, want %q", name, got, want)
		}
	}
	return nil
}

// checkMetrics asks that there are any, with a word in them.
func (r *Running) checkMetrics(word string) error {
	client := &http.Client{Timeout: 5 * time.Second, Transport: &http.Transport{DisableKeepAlives: true}}
	resp, err := client.Get("http://" + r.Admin + "/metrics")
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		return err
	}
	if resp.StatusCode != http.StatusOK || !bytes.Contains(text, []byte(word)) {
		return errors.New("no metrics: " + resp.Status)
	}
	return nil
}

// Profile writes a CPU profile of so many seconds to a file; only ours has one.
func (r *Running) Profile(ctx context.Context, seconds int, path string) error {
	url := fmt.Sprintf("http://%s/debug/pprof/profile?seconds=%d", r.Admin, seconds)
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return fmt.Errorf("cannot profile: %w", err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		return fmt.Errorf("cannot profile: %w", err)
	}
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("cannot profile: %s", resp.Status)
	}
	return os.WriteFile(path, text, 0o644)
}

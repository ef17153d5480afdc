package accesslog

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/netip"
	"strings"
	"testing"
	"time"
)

func TestFailures(t *testing.T) {
	l := New(io.Discard, Off, 0)
	f := &l.failures
	if len(l.Failures()) != 0 {
		t.Error("failures out of nothing")
	}
	client := netip.MustParseAddrPort("203.0.113.7:1000")
	for i := range keptFailures + 3 {
		l.Log(&Entry{
			Start: time.Unix(int64(i), 0), Status: 504, Reason: "ConnectTimeout", Attempts: 2,
			Host: []byte("shop.example"), Target: fmt.Appendf(nil, "/cart/%d?token=hunter2", i),
			User: []byte("hunter2"), Referer: []byte("https://x/?hunter2"), UserAgent: []byte("hunter2/1.0"), Client: client, Peer: client,
		})
	}
	l.Log(&Entry{Status: 404, Reason: "NoRoute", Host: []byte("fine")})
	l.Log(&Entry{Status: 200, Host: []byte("fine")})
	lines := bytes.Split(bytes.TrimSuffix(l.Failures(), []byte("\n")), []byte("\n"))
	if len(lines) != keptFailures {
		t.Fatalf("%d lines, want %d", len(lines), keptFailures)
	}
	for i, line := range lines {
		var got struct{ Target, Reason, Host string }
		if err := json.Unmarshal(line, &got); err != nil || got.Target != fmt.Sprintf("/cart/%d", i+3) || got.Reason != "ConnectTimeout" || got.Host != "shop.example" {
			t.Fatalf("line %d: %v %s", i, err, line)
		}
	}
	for _, secret := range []string{"hunter2", "203.0.113.7"} {
		if strings.Contains(string(l.Failures()), secret) {
			t.Errorf("%q is kept: %s", secret, lines[0])
		}
	}
	l.Log(&Entry{Status: 200, Reason: "UpstreamCut"})
	l.Log(&Entry{Reason: "ConnectFailed", ServerName: "pass.example"})
	if text := string(l.Failures()); !strings.Contains(text, "UpstreamCut") || !strings.Contains(text, "pass.example") {
		t.Errorf("an answer that was cut, or a connection that was not passed through, is not kept: %s", text)
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	l.Log(&Entry{Status: 500}) // waits for nobody
}

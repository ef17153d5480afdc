package app

import (
	"encoding/json"
	"io"
	"net"
	"net/http"
	"net/netip"
	"sync"
	"testing"
	"time"
)

// echo is what a backend answers: who it is and what it was asked.
type echo struct {
	Backend string      `json:"backend"`
	Method  string      `json:"method"`
	Target  string      `json:"target"`
	Host    string      `json:"host"`
	Header  http.Header `json:"header"`
	Body    int64       `json:"body"` // bytes
}

// backends are small real servers, started when first asked for.
type backends struct {
	t    testing.TB
	mu   sync.Mutex
	addr map[string]netip.AddrPort
}

func newBackends(t testing.TB) *backends { return &backends{t: t, addr: map[string]netip.AddrPort{}} }

// at gives the address of the backend with the name, on 127.0.0.1 or ::1.
func (b *backends) at(name string, ipv6 bool) netip.AddrPort {
	b.t.Helper()
	b.mu.Lock()
	defer b.mu.Unlock()
	key, listen := name, "127.0.0.1:0"
	if ipv6 {
		key, listen = name+" over IPv6", "[::1]:0"
	}
	if a, ok := b.addr[key]; ok {
		return a
	}
	l, err := net.Listen("tcp", listen)
	if err != nil {
		if ipv6 {
			b.t.Skipf("this machine has no IPv6 loopback: %v", err)
		}
		b.t.Fatal(err)
	}
	srv := &http.Server{Handler: echoHandler(name), ReadHeaderTimeout: patience}
	var serving sync.WaitGroup
	serving.Go(func() { srv.Serve(l) })
	b.t.Cleanup(func() {
		srv.Close()
		serving.Wait()
	})
	b.addr[key] = l.Addr().(*net.TCPAddr).AddrPort()
	return b.addr[key]
}

func echoHandler(name string) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		n, _ := io.Copy(io.Discard, r.Body)
		w.Header().Set("X-Backend", name)
		w.Header().Set("Content-Type", "application/json")
		w.Header().Set("Date", time.Unix(0, 0).UTC().Format(http.TimeFormat))
		json.NewEncoder(w).Encode(echo{name, r.Method, r.RequestURI, r.Host, r.Header, n})
	})
}

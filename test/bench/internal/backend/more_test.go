package backend

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"
)

func TestPost(t *testing.T) {
	c := start(t, "hello")
	r := bufio.NewReader(c)
	post := func(body []byte) {
		t.Helper()
		fmt.Fprintf(c, "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n%s", len(body), body)
	}
	post(Body(2048))
	if got := read(t, r); !strings.HasSuffix(got, "hello") {
		t.Errorf("got %q", got)
	}
	post(append(Body(2047), 'X'))
	if _, err := r.ReadByte(); err != io.EOF {
		t.Errorf("another body was taken: %v", err)
	}
}

func TestWebSocket(t *testing.T) {
	c := start(t, "hello")
	r := bufio.NewReader(c)
	fmt.Fprint(c, "GET / HTTP/1.1\r\nHost: a\r\nupgrade: websocket\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n")
	resp, err := http.ReadResponse(r, nil)
	if err != nil || resp.StatusCode != http.StatusSwitchingProtocols || resp.Header.Get("Sec-WebSocket-Accept") != "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=" {
		t.Fatalf("%v, %v", resp, err)
	}
	for _, n := range []int{1, 125, 126, 4000} {
		frame := AppendFrame(nil, Body(n), true)
		mask := frame[len(frame)-n-4 : len(frame)-n]
		copy(mask, "mask")
		for i := range n {
			frame[len(frame)-n+i] ^= mask[i%4]
		}
		c.Write(frame[:3])
		c.Write(frame[3:])
		want := AppendFrame(nil, Body(n), false)
		got := make([]byte, len(want))
		if _, err := io.ReadFull(r, got); err != nil || !bytes.Equal(got, want) {
			t.Fatalf("%d bytes: got %q, %v", n, got[:min(len(got), 80)], err)
		}
	}
}

func TestServeH2(t *testing.T) {
	body := Body(128)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error)
	go func() { done <- ServeH2(ctx, l, body) }()
	defer func() { cancel(); <-done }()
	var protocols http.Protocols
	protocols.SetUnencryptedHTTP2(true)
	transport := &http.Transport{Protocols: &protocols}
	defer transport.CloseIdleConnections()
	client := &http.Client{Transport: transport, Timeout: 10 * time.Second}
	url := "http://" + l.Addr().String()
	ask := func(req *http.Request) (*http.Response, string) {
		t.Helper()
		resp, err := client.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		text, err := io.ReadAll(resp.Body)
		resp.Body.Close()
		if err != nil {
			t.Fatal(err)
		}
		return resp, string(text)
	}
	for range 2000 { // more than a window holds
		req, _ := http.NewRequest("GET", url+"/a", nil)
		if _, got := ask(req); got != string(body) {
			t.Fatalf("got %q", got)
		}
	}
	req, _ := http.NewRequest("GET", url+"/a?echo", nil)
	req.Header.Set("X-Test", "yes")
	if _, got := ask(req); !strings.HasPrefix(got, "GET /a?echo HTTP/1.1\r\nHost: 127.0.0.1:") || !strings.Contains(got, "\r\nx-test: yes\r\n") {
		t.Errorf("echo is %q", got)
	}
	call := func(message []byte) (*http.Response, string) {
		req, _ := http.NewRequest("POST", url+"/s/m", bytes.NewReader(message))
		req.Header.Set("Content-Type", "application/grpc")
		return ask(req)
	}
	resp, got := call(Message(body))
	if got != string(Message(body)) || resp.Trailer.Get("Grpc-Status") != "0" {
		t.Errorf("call: %q, trailers %v", got, resp.Trailer)
	}
}

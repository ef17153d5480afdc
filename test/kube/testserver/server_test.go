package testserver

import (
	"bufio"
	"context"
	"crypto/tls"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"net"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"gatehouse.dev/gatehouse/test/kube/internal/poll"
	"gatehouse.dev/gatehouse/test/kube/testserver/wsframe"
)

// running is a Server on ports of 127.0.0.1.
type running struct {
	*Server
	web, secure, rpc string
	tell             func()     // it to end
	over             chan error // what Run returned
}

func start(t *testing.T, change ...func(*Options)) *running {
	t.Helper()
	o := Options{
		HTTPAddr: "127.0.0.1:0", HTTPSAddr: "127.0.0.1:0", GRPCAddr: "127.0.0.1:0",
		Pod: "a", Namespace: "n", Node: "one", IP: "10.0.0.1", Drain: 10 * time.Second,
	}
	for _, f := range change {
		f(&o)
	}
	s, err := New(o, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	r := &running{Server: s, tell: cancel, over: make(chan error, 1)}
	go func() { r.over <- s.Run(ctx); close(r.over) }()
	t.Cleanup(func() {
		cancel()
		if err := <-r.over; err != nil {
			t.Error(err)
		}
	})
	web, secure, rpc := s.Addrs(t.Context())
	r.web, r.secure, r.rpc = web.String(), secure.String(), rpc.String()
	return r
}

func client(t *testing.T, two bool) *http.Client {
	t.Helper()
	tr := &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}, Protocols: new(http.Protocols)}
	tr.Protocols.SetHTTP1(!two)
	tr.Protocols.SetHTTP2(two)
	tr.Protocols.SetUnencryptedHTTP2(two)
	t.Cleanup(tr.CloseIdleConnections)
	return &http.Client{Transport: tr}
}

// ask is one request; the answer's body is read.
func ask(t *testing.T, c *http.Client, method, url, body string, headers ...string) (*http.Response, string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, url, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	for i := 0; i < len(headers); i += 2 {
		req.Header.Set(headers[i], headers[i+1])
	}
	resp, err := c.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp, string(text)
}

// TestOrder shows that the echo tells headers as they came, on every request of
// a connection.
func TestOrder(t *testing.T) {
	s := start(t)
	conn, err := net.Dial("tcp", s.web)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	br := bufio.NewReader(conn)
	for i := range 3 {
		fmt.Fprintf(conn, "POST /p%%61th?x=%d HTTP/1.1\r\nhOsT: b.test\r\nz-Z: 1\r\nContent-Length: 3\r\na: \t2 \r\nz-z:3\r\n\r\nabc", i)
		resp, err := http.ReadResponse(br, nil)
		if err != nil {
			t.Fatal(err)
		}
		var got Received
		if err := json.NewDecoder(resp.Body).Decode(&got); err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		want := [][2]string{{"hOsT", "b.test"}, {"z-Z", "1"}, {"Content-Length", "3"}, {"a", "2"}, {"z-z", "3"}}
		if !got.Ordered || !slices.Equal(got.Headers, want) || got.Target != fmt.Sprintf("/p%%61th?x=%d", i) ||
			got.Method != "POST" || got.Host != "b.test" || got.Protocol != "HTTP/1.1" || got.Remote != conn.LocalAddr().String() ||
			got.BodySize != 3 || got.BodySHA256 != "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad" ||
			got.Pod != "a" || got.Namespace != "n" || got.Node != "one" || got.IP != "10.0.0.1" || got.Local != s.web {
			t.Errorf("request %d: %+v", i, got)
		}
	}
}

func TestProtocols(t *testing.T) {
	s := start(t)
	f := func(two bool, url, protocol, version, alpn string) {
		t.Helper()
		resp, body := ask(t, client(t, two), "POST", url+"/x", "body", "A", "b", NumberHeader, "r-1")
		var got Received
		if err := json.Unmarshal([]byte(body), &got); err != nil {
			t.Fatal(err)
		}
		if resp.StatusCode != 200 || got.Protocol != protocol || got.Header("a") != "b" || got.Target != "/x" ||
			resp.Header.Get(PodHeader) != "a" || resp.Header.Get(NumberHeader) != "r-1" || resp.Header.Get(BodyHeader) != BodySum([]byte("body")) {
			t.Errorf("%s: %+v %+v", url, resp, got)
		}
		if version == "" != (got.TLS == nil) || got.TLS != nil && (got.TLS.Protocol != alpn || got.TLS.Version != version) {
			t.Errorf("%s: TLS is %+v", url, got.TLS)
		}
	}
	f(false, "http://"+s.web, "HTTP/1.1", "", "")
	f(true, "http://"+s.web, "HTTP/2.0", "", "")
	f(false, "https://"+s.secure, "HTTP/1.1", "TLS 1.3", "") // this client offers no ALPN
	f(true, "https://"+s.secure, "HTTP/2.0", "TLS 1.3", "h2")

	if seen := s.Seen("r", true); seen.Requests != 4 || seen.Distinct != 1 || seen.Duplicates["r-1"] != 4 || seen.Pods["a"] != 4 {
		t.Errorf("seen: %+v", seen)
	}
}

func TestWishes(t *testing.T) {
	s := start(t)
	c := client(t, false)
	resp, body := ask(t, c, "GET", "http://"+s.web+"/?status=418&size=70000&header=X-A:1&close=1", "")
	if resp.StatusCode != 418 || len(body) != 70000 || resp.Header.Get("X-A") != "1" || !resp.Close {
		t.Errorf("%+v, %d bytes", resp, len(body))
	}
	resp, body = ask(t, c, "GET", "http://"+s.web+"/?size=1", "", WishHeader, "chunks=3&every=1ms&size=2&trailer=X-T:end")
	if body != "xxxxxx" || resp.Trailer.Get("X-T") != "end" || resp.ContentLength != -1 {
		t.Errorf("%+v, %q", resp, body)
	}
	begin := time.Now()
	if ask(t, c, "GET", "http://"+s.web+"/?delay=20ms", ""); time.Since(begin) < 20*time.Millisecond {
		t.Error("no delay")
	}
	if resp, _ := ask(t, c, "GET", "http://"+s.web+"/?status=many", ""); resp.StatusCode != 400 {
		t.Errorf("a wish that cannot be read: %d", resp.StatusCode)
	}
	if resp, err := c.Get("http://" + s.web + "/?abort=1"); err == nil {
		t.Errorf("an answer to abort: %+v", resp)
	}
	if resp, body := ask(t, c, "GET", "http://"+s.web+"/live", ""); resp.StatusCode != 200 || body != "ok\n" {
		t.Errorf("/live: %d %q", resp.StatusCode, body)
	}
}

// openWebSocket does the handshake and one round of echo.
func openWebSocket(t *testing.T, addr string) (net.Conn, *bufio.Reader) {
	t.Helper()
	conn, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	fmt.Fprint(conn, "GET /ws HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n")
	br := bufio.NewReader(conn)
	resp, err := http.ReadResponse(br, nil)
	if err != nil || resp.StatusCode != 101 || resp.Header.Get(PodHeader) != "a" {
		t.Fatalf("%+v %v", resp, err)
	}
	conn.Write(wsframe.Append(nil, wsframe.Frame{Fin: true, Opcode: wsframe.Text, Payload: []byte("hello")}, true))
	if f, err := wsframe.Read(br, false); err != nil || f.Opcode != wsframe.Text || string(f.Payload) != "hello" {
		t.Fatalf("%+v %v", f, err)
	}
	return conn, br
}

func TestWebSocket(t *testing.T) {
	s := start(t)
	conn, br := openWebSocket(t, s.web)
	for _, f := range []wsframe.Frame{{Fin: true, Opcode: wsframe.Ping, Payload: []byte("p")}, wsframe.CloseFrame(1000, "bye")} {
		conn.Write(wsframe.Append(nil, f, true))
	}
	if f, err := wsframe.Read(br, false); err != nil || f.Opcode != wsframe.Pong || string(f.Payload) != "p" {
		t.Fatalf("%+v %v", f, err)
	}
	f, err := wsframe.Read(br, false)
	if code, reason := f.CloseStatus(); err != nil || code != 1000 || reason != "bye" {
		t.Fatalf("%+v %v", f, err)
	}
	if _, err := wsframe.Read(br, false); err != io.EOF {
		t.Errorf("after Close: %v", err)
	}
}

func dialRPC(t *testing.T, addr string) *grpc.ClientConn {
	t.Helper()
	conn, err := grpc.NewClient("passthrough:///"+addr, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	return conn
}

func TestRPC(t *testing.T) {
	s := start(t)
	conn := dialRPC(t, s.rpc)
	raw := grpc.ForceCodecV2(NewCodec())
	ctx := metadata.AppendToOutgoingContext(t.Context(), NumberHeader, "g-1")

	var header metadata.MD
	message, answer := []byte("\x00raw"), []byte(nil)
	if err := conn.Invoke(ctx, UnaryMethod, &message, &answer, raw, grpc.Header(&header)); err != nil || string(answer) != "\x00raw" {
		t.Errorf("unary: %q %v", answer, err)
	}
	if header.Get(PodHeader)[0] != "a" || header.Get(NumberHeader)[0] != "g-1" || s.Seen("g", false).Requests != 1 {
		t.Errorf("header: %v", header)
	}
	err := conn.Invoke(metadata.AppendToOutgoingContext(t.Context(), WishHeader, "status=5"), UnaryMethod, &message, &answer, raw)
	if status.Code(err) != codes.NotFound {
		t.Errorf("wished status: %v", err)
	}

	call := func(method string, send int, wish string) (got []string, err error) {
		t.Helper()
		ctx := metadata.AppendToOutgoingContext(t.Context(), WishHeader, wish)
		stream, err := conn.NewStream(ctx, &grpc.StreamDesc{ClientStreams: true, ServerStreams: true}, method, raw)
		if err != nil {
			t.Fatal(err)
		}
		for range send {
			if err := stream.SendMsg(&message); err != nil {
				t.Fatal(err)
			}
		}
		stream.CloseSend()
		for {
			var m []byte
			if err := stream.RecvMsg(&m); err != nil {
				return got, err
			}
			got = append(got, string(m))
		}
	}
	f := func(method string, send int, wish string, want ...string) {
		t.Helper()
		if got, err := call(method, send, wish); err != io.EOF || !slices.Equal(got, want) {
			t.Errorf("%s: %q %v, want %q", method, got, err, want)
		}
	}
	f(ServerStreamMethod, 1, "chunks=3&every=1ms", "\x00raw", "\x00raw", "\x00raw")
	f(ClientStreamMethod, 2, "", BodySum([]byte("\x00raw\x00raw")))
	f(BidiMethod, 2, "", "\x00raw", "\x00raw")

	check, err := healthpb.NewHealthClient(conn).Check(t.Context(), &healthpb.HealthCheckRequest{Service: Service})
	if err != nil || check.Status != healthpb.HealthCheckResponse_SERVING {
		t.Errorf("health: %v %v", check, err)
	}
}

// TestGrace shows what a server that was told to end still does: all, but it
// says that it ends.
func TestGrace(t *testing.T) {
	s := start(t, func(o *Options) { o.Grace = 2 * time.Second })
	c1, c2 := client(t, false), client(t, true)
	ask(t, c1, "GET", "http://"+s.web, "")
	s.tell()
	for {
		if resp, _ := ask(t, c1, "GET", "http://"+s.web+"/ready", ""); resp.StatusCode == 503 {
			break
		}
	}
	for range 3 {
		if resp, _ := ask(t, c1, "GET", "http://"+s.web, ""); resp.StatusCode != 200 || !resp.Close {
			t.Errorf("HTTP/1: %+v", resp)
		}
		if resp, _ := ask(t, c2, "GET", "https://"+s.secure, ""); resp.StatusCode != 200 {
			t.Errorf("HTTP/2: %+v", resp)
		}
	}
	check, err := healthpb.NewHealthClient(dialRPC(t, s.rpc)).Check(t.Context(), &healthpb.HealthCheckRequest{})
	if err != nil || check.Status != healthpb.HealthCheckResponse_NOT_SERVING {
		t.Errorf("health: %v %v", check, err)
	}
}

// TestStreamsEnd shows how streams end: with Close and UNAVAILABLE.
func TestStreamsEnd(t *testing.T) {
	s := start(t)
	conn, br := openWebSocket(t, s.web)
	stream, err := dialRPC(t, s.rpc).NewStream(t.Context(), &grpc.StreamDesc{ClientStreams: true, ServerStreams: true}, BidiMethod, grpc.ForceCodecV2(NewCodec()))
	if err != nil {
		t.Fatal(err)
	}
	message := []byte("m")
	if err := stream.SendMsg(&message); err != nil {
		t.Fatal(err)
	}
	if err := stream.RecvMsg(&message); err != nil {
		t.Fatal(err)
	}
	s.tell()
	f, err := wsframe.Read(br, false)
	if code, _ := f.CloseStatus(); err != nil || f.Opcode != wsframe.Close || code != wsframe.StatusGoingAway {
		t.Errorf("WebSocket: %+v %v", f, err)
	}
	conn.Write(wsframe.Append(nil, f, true))
	if _, err := wsframe.Read(br, false); err != io.EOF {
		t.Errorf("WebSocket, after Close: %v", err)
	}
	err = stream.RecvMsg(&message)
	if status.Code(err) != codes.Unavailable || !strings.HasPrefix(status.Convert(err).Message(), EndingMessage) {
		t.Errorf("gRPC: %v", err)
	}
	if err := <-s.over; err != nil {
		t.Error(err)
	}
}

func TestAbrupt(t *testing.T) {
	s := start(t, func(o *Options) { o.Abrupt, o.Grace = true, time.Hour })
	_, br := openWebSocket(t, s.web)
	s.tell()
	if f, err := wsframe.Read(br, false); err == nil {
		t.Errorf("a frame: %+v", f)
	}
	if err := <-s.over; err != nil {
		t.Error(err)
	}
}

// TestCollector shows that what pods executed is known after their end, once.
func TestCollector(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var c Collector
	ctx, cancel := context.WithCancel(t.Context())
	served := make(chan error, 1)
	go func() { served <- c.Serve(ctx, l) }()
	t.Cleanup(func() {
		cancel()
		if err := <-served; err != nil {
			t.Error(err)
		}
	})
	for _, pod := range []string{"a", "b"} {
		s := start(t, func(o *Options) { o.Pod, o.Collector = pod, l.Addr().String() })
		for i := range 3 {
			ask(t, client(t, false), "POST", "http://"+s.web, "", NumberHeader, fmt.Sprintf("r-%s%d", pod, i/2))
		}
		s.tell()
		<-s.over
	}
	wait, cancelWait := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancelWait()
	err = poll.Until(wait, time.Millisecond, func(context.Context) error {
		if n := c.Seen("r", false).Requests; n < 6 {
			return fmt.Errorf("%d requests", n)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	seen := c.Seen("r", true)
	if seen.Requests != 6 || seen.Distinct != 4 || !maps.Equal(seen.Pods, map[string]int{"a": 3, "b": 3}) ||
		!maps.Equal(seen.Duplicates, map[string]int{"r-a0": 2, "r-b0": 2}) || seen.Numbers["r-a1"] != 1 {
		t.Errorf("%+v", seen)
	}
	c.line("a@1 5 r-c\n")
	c.line("a@1 5 r-c\n") // sent again
	if seen := c.Seen("r", true); seen.Numbers["r-c"] != 1 {
		t.Errorf("sent again: %+v", seen)
	}
}

func TestEnvironment(t *testing.T) {
	t.Setenv("GRPC_ADDR", "off")
	t.Setenv("POD_NAME", "p")
	t.Setenv("GRACE", "1s")
	t.Setenv("END", "abrupt")
	o, err := FromEnvironment()
	if err != nil || o.HTTPAddr != ":8080" || o.GRPCAddr != "" || o.Pod != "p" || o.Grace != time.Second || !o.Abrupt {
		t.Errorf("%+v %v", o, err)
	}
	t.Setenv("END", "soon")
	if _, err := FromEnvironment(); err == nil {
		t.Error("END=soon is taken")
	}
}

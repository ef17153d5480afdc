package conformance

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/coder/websocket"
	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
)

// bigFrame is more than any flow-control window and splice's threshold.
const bigFrame = 3 << 20

// startEcho is a WebSocket server that sends back what it gets. "bye" makes it
// close with a reason of its own.
func startEcho(t testing.TB) (addr string) {
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		c, err := websocket.Accept(w, r, &websocket.AcceptOptions{Subprotocols: []string{"echo"}, InsecureSkipVerify: true})
		if err != nil {
			return
		}
		defer c.CloseNow()
		c.SetReadLimit(2 * bigFrame)
		for {
			kind, data, err := c.Read(r.Context())
			if err != nil {
				return
			}
			if string(data) == "bye" {
				c.Close(4321, "as you wish")
				return
			}
			if c.Write(r.Context(), kind, data) != nil {
				return
			}
		}
	}))
	t.Cleanup(srv.Close)
	return srv.Listener.Addr().String()
}

func webSocketEdge(t *testing.T) (*edge, *authority) {
	ca := newAuthority(t, "judge")
	return startEdge(t, documents(
		tlsSecret("front", ca.issue(time.Hour, "ws.test")),
		service("echo", "", startEcho(t)),
		ingress("secure", "ws.test", "echo", "front"),
		ingress("clear", "clear.test", "echo", ""),
	)), ca
}

// clientTo makes an HTTP client that finds every host at addr.
func clientTo(addr string, tc *tls.Config) *http.Client {
	return &http.Client{
		Transport: &http.Transport{
			DialContext: func(ctx context.Context, network, _ string) (net.Conn, error) {
				return (&net.Dialer{}).DialContext(ctx, network, addr)
			},
			TLSClientConfig: tc,
		},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		Timeout:       20 * time.Second,
	}
}

func TestWebSocket(t *testing.T) {
	e, ca := webSocketEdge(t)
	f := func(name, url string, client *http.Client) {
		t.Run(name, func(t *testing.T) {
			judge(t, "websocket", name+": messages of 0 bytes to 3 MiB, compressed and not, ping, close from either side")
			ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
			defer cancel()
			dial := func(mode websocket.CompressionMode) *websocket.Conn {
				c, resp, err := websocket.Dial(ctx, url, &websocket.DialOptions{
					HTTPClient: client, Subprotocols: []string{"echo"}, CompressionMode: mode,
				})
				if err != nil {
					t.Fatal(err)
				}
				if resp.StatusCode != http.StatusSwitchingProtocols || c.Subprotocol() != "echo" {
					t.Errorf("status %d, subprotocol %q", resp.StatusCode, c.Subprotocol())
				}
				c.SetReadLimit(2 * bigFrame)
				return c
			}
			for _, mode := range []websocket.CompressionMode{websocket.CompressionDisabled, websocket.CompressionContextTakeover} {
				c := dial(mode)
				for _, n := range []int{0, 1, 125, 126, 65_535, 65_536, bigFrame} {
					echo(ctx, t, c, n)
				}
				reading := c.CloseRead(ctx) // which takes the pongs
				if err := c.Ping(reading); err != nil {
					t.Errorf("ping: %v", err)
				}
				c.CloseNow()
			}

			c := dial(websocket.CompressionDisabled)
			if err := c.Close(websocket.StatusNormalClosure, "done"); err != nil {
				t.Errorf("closing handshake: %v", err)
			}
			c = dial(websocket.CompressionDisabled)
			if err := c.Write(ctx, websocket.MessageText, []byte("bye")); err != nil {
				t.Fatal(err)
			}
			_, _, err := c.Read(ctx)
			var ce websocket.CloseError
			if !errors.As(err, &ce) || ce.Code != 4321 || ce.Reason != "as you wish" {
				t.Errorf("the server's close: %v", err)
			}
		})
	}
	f("HTTP/1.1", "ws://clear.test/", clientTo(e.http, nil))
	f("TLS", "wss://ws.test/", clientTo(e.https, &tls.Config{RootCAs: ca.pool()}))
}

func echo(ctx context.Context, t *testing.T, c *websocket.Conn, n int) {
	t.Helper()
	data := bytes.Repeat([]byte{'a', 0, 0xff}, n/3+1)[:n]
	wrote := make(chan error, 1)
	go func() { wrote <- c.Write(ctx, websocket.MessageBinary, data) }()
	kind, got, err := c.Read(ctx)
	if err != nil || kind != websocket.MessageBinary || !bytes.Equal(got, data) {
		t.Fatalf("%d bytes: %v, %d bytes back, %v", n, kind, len(got), err)
	}
	if err := <-wrote; err != nil {
		t.Fatal(err)
	}
}

// TestWebSocketHTTP2 speaks RFC 8441: the frames of a WebSocket in the DATA
// frames of a stream.
func TestWebSocketHTTP2(t *testing.T) {
	judge(t, "websocket", "WebSockets over HTTP/2 (RFC 8441)")
	e, ca := webSocketEdge(t)
	nc, err := tls.Dial("tcp", e.https, &tls.Config{RootCAs: ca.pool(), ServerName: "ws.test", NextProtos: []string{"h2"}})
	if err != nil {
		t.Fatal(err)
	}
	t.Run("TLS", func(t *testing.T) { judgeExtendedConnect(t, nc, "https", "ws.test") })
	plain, err := net.Dial("tcp", e.http)
	if err != nil {
		t.Fatal(err)
	}
	t.Run("h2c", func(t *testing.T) { judgeExtendedConnect(t, plain, "http", "clear.test") })
}

func judgeExtendedConnect(t *testing.T, nc net.Conn, scheme, host string) {
	s := openExtendedConnect(t, nc, scheme, host)
	defer nc.Close()
	f := func(opcode byte, payload []byte, wantOp byte, want []byte) {
		t.Helper()
		wrote := make(chan error, 1)
		go func() {
			_, err := s.Write(webSocketFrame(opcode, payload))
			wrote <- err
		}()
		op, got, err := readWebSocketFrame(s)
		if err != nil || op != wantOp || !bytes.Equal(got, want) {
			t.Fatalf("opcode %d with %d bytes: opcode %d with %d bytes, %v; want %d with %d", opcode, len(payload), op, len(got), err, wantOp, len(want))
		}
		if err := <-wrote; err != nil {
			t.Fatal(err)
		}
	}
	for _, n := range []int{0, 1, 126, 65_536, bigFrame} {
		data := bytes.Repeat([]byte("echo"), n/4+1)[:n]
		f(2, data, 2, data)
	}
	f(9, []byte("ping"), 10, []byte("ping"))
	closing := append(binary.BigEndian.AppendUint16(nil, 1000), "over"...)
	f(8, closing, 8, closing)
	if n, err := s.Read(make([]byte, 1)); n != 0 || err != io.EOF {
		t.Errorf("after the close: %d bytes, %v, want the end of the stream", n, err)
	}
}

// connectStream is an HTTP/2 connection with one stream, as bytes both ways.
type connectStream struct {
	fr     *http2.Framer // to write with
	in     *io.PipeReader
	window *window
}

// openExtendedConnect makes the connection and a WebSocket on stream 1.
func openExtendedConnect(t *testing.T, nc net.Conn, scheme, host string) *connectStream {
	t.Helper()
	nc.SetDeadline(time.Now().Add(20 * time.Second))
	if _, err := io.WriteString(nc, http2.ClientPreface); err != nil {
		t.Fatal(err)
	}
	w := newWindow()
	both := &lockedWriter{w: nc}
	fr, sender := http2.NewFramer(both, nc), http2.NewFramer(both, nil) // one for each goroutine that writes
	fr.ReadMetaHeaders = hpack.NewDecoder(4096, nil)
	if err := fr.WriteSettings(); err != nil {
		t.Fatal(err)
	}
	in, out := io.Pipe()
	head, settings := make(chan *http2.MetaHeadersFrame, 1), make(chan uint32, 1)
	go func() {
		for {
			f, err := fr.ReadFrame()
			if err != nil {
				out.CloseWithError(err)
				return
			}
			switch f := f.(type) {
			case *http2.SettingsFrame:
				if !f.IsAck() {
					allowed, _ := f.Value(http2.SettingEnableConnectProtocol)
					if v, ok := f.Value(http2.SettingInitialWindowSize); ok {
						w.initial(int(v))
					}
					fr.WriteSettingsAck()
					settings <- allowed
				}
			case *http2.WindowUpdateFrame:
				w.grow(f.StreamID, int(f.Increment))
			case *http2.MetaHeadersFrame:
				head <- f
			case *http2.DataFrame:
				if n := len(f.Data()); n > 0 {
					out.Write(f.Data())
					fr.WriteWindowUpdate(0, uint32(n))
					fr.WriteWindowUpdate(1, uint32(n))
				}
				if f.StreamEnded() {
					out.Close()
				}
			case *http2.RSTStreamFrame:
				out.CloseWithError(errors.New("reset: " + f.ErrCode.String()))
			case *http2.GoAwayFrame:
				if f.ErrCode != http2.ErrCodeNo {
					out.CloseWithError(errors.New("GOAWAY: " + f.ErrCode.String()))
				}
			}
		}
	}()
	if v := next(t, settings); v != 1 {
		t.Fatalf("SETTINGS_ENABLE_CONNECT_PROTOCOL is %d", v)
	}
	var block bytes.Buffer
	enc := hpack.NewEncoder(&block)
	for _, f := range [][2]string{
		{":method", "CONNECT"}, {":protocol", "websocket"}, {":scheme", scheme}, {":authority", host}, {":path", "/"},
		{"sec-websocket-version", "13"}, {"sec-websocket-protocol", "echo"},
	} {
		enc.WriteField(hpack.HeaderField{Name: f[0], Value: f[1]})
	}
	if err := sender.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: block.Bytes(), EndHeaders: true}); err != nil {
		t.Fatal(err)
	}
	h := next(t, head)
	protocol := ""
	for _, f := range h.RegularFields() {
		switch f.Name {
		case "sec-websocket-protocol":
			protocol = f.Value
		case "connection", "upgrade", "sec-websocket-accept":
			t.Errorf("%s: %s in an answer of HTTP/2", f.Name, f.Value)
		}
	}
	if h.PseudoValue("status") != "200" || protocol != "echo" {
		t.Fatalf("status %s, subprotocol %q, want 200 and echo", h.PseudoValue("status"), protocol)
	}
	return &connectStream{fr: sender, in: in, window: w}
}

func (s *connectStream) Read(p []byte) (int, error) { return s.in.Read(p) }

func (s *connectStream) Write(p []byte) (int, error) {
	total := len(p)
	for len(p) > 0 {
		n := s.window.take(min(len(p), 16<<10))
		if err := s.fr.WriteData(1, false, p[:n]); err != nil {
			return 0, err
		}
		p = p[n:]
	}
	return total, nil
}

// webSocketFrame makes a whole message in one masked frame (RFC 6455, 5.2).
func webSocketFrame(opcode byte, payload []byte) []byte {
	b := []byte{0x80 | opcode}
	switch n := len(payload); {
	case n < 126:
		b = append(b, 0x80|byte(n))
	case n < 1<<16:
		b = binary.BigEndian.AppendUint16(append(b, 0x80|126), uint16(n))
	default:
		b = binary.BigEndian.AppendUint64(append(b, 0x80|127), uint64(n))
	}
	mask := [4]byte{1, 2, 3, 4}
	b = append(b, mask[:]...)
	for i, c := range payload {
		b = append(b, c^mask[i&3])
	}
	return b
}

// readWebSocketFrame reads a message, whose frames a server does not mask.
func readWebSocketFrame(r io.Reader) (opcode byte, payload []byte, err error) {
	for {
		var h [2]byte
		if _, err := io.ReadFull(r, h[:]); err != nil {
			return 0, nil, err
		}
		n := uint64(h[1])
		var long [8]byte
		switch n {
		case 126:
			_, err = io.ReadFull(r, long[6:])
			n = binary.BigEndian.Uint64(long[:])
		case 127:
			_, err = io.ReadFull(r, long[:])
			n = binary.BigEndian.Uint64(long[:])
		}
		if err != nil || n > 2*bigFrame {
			return 0, nil, errors.Join(err, errors.New("bad length"))
		}
		part := make([]byte, n)
		if _, err := io.ReadFull(r, part); err != nil {
			return 0, nil, err
		}
		if opcode == 0 {
			opcode = h[0] & 15
		}
		payload = append(payload, part...)
		if h[0]&0x80 != 0 {
			return opcode, payload, nil
		}
	}
}

// TestWebSocketRefused: a backend that does not upgrade answers as it likes.
func TestWebSocketRefused(t *testing.T) {
	judge(t, "websocket", "A backend that does not upgrade answers as it likes")
	backend := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		http.Error(w, "no sockets here", http.StatusTeapot)
	}))
	defer backend.Close()
	e := startEdge(t, documents(
		service("plain", "", backend.Listener.Addr().String()), ingress("clear", "clear.test", "plain", ""),
	))
	_, resp, err := websocket.Dial(t.Context(), "ws://clear.test/", &websocket.DialOptions{HTTPClient: clientTo(e.http, nil)})
	if err == nil || resp == nil || resp.StatusCode != http.StatusTeapot {
		t.Fatalf("%v, %v, want 418", resp, err)
	}
	if body, _ := io.ReadAll(resp.Body); !strings.Contains(string(body), "no sockets here") {
		t.Errorf("body %q", body)
	}
}

// TestWebSocketDrain: sockets outlive SIGTERM, but not --drain-timeout.
func TestWebSocketDrain(t *testing.T) {
	judge(t, "websocket", "Sockets outlive SIGTERM, but not the drain timeout")
	ca := newAuthority(t, "judge")
	e := startEdge(t, documents(
		tlsSecret("front", ca.issue(time.Hour, "ws.test")),
		service("echo", "", startEcho(t)),
		ingress("secure", "ws.test", "echo", "front"),
		ingress("clear", "clear.test", "echo", ""),
	), "--drain-timeout", "3s")
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	var conns []*websocket.Conn
	for url, client := range map[string]*http.Client{
		"ws://clear.test/": clientTo(e.http, nil), "wss://ws.test/": clientTo(e.https, &tls.Config{RootCAs: ca.pool()}),
	} {
		c, _, err := websocket.Dial(ctx, url, &websocket.DialOptions{HTTPClient: client})
		if err != nil {
			t.Fatal(err)
		}
		defer c.CloseNow()
		echo(ctx, t, c, 100)
		conns = append(conns, c)
	}
	nc, err := tls.Dial("tcp", e.https, &tls.Config{RootCAs: ca.pool(), ServerName: "ws.test", NextProtos: []string{"h2"}})
	if err != nil {
		t.Fatal(err)
	}
	s := openExtendedConnect(t, nc, "https", "ws.test")
	e.terminate()
	await(t, "no new connections", func() error {
		c, err := net.Dial("tcp", e.http)
		if err != nil {
			return nil
		}
		c.Close()
		return errors.New("one was taken")
	})
	for _, c := range conns {
		echo(ctx, t, c, 10_000)
	}
	if _, err := s.Write(webSocketFrame(2, []byte("still here"))); err != nil {
		t.Fatal(err)
	}
	if _, got, err := readWebSocketFrame(s); err != nil || string(got) != "still here" {
		t.Errorf("over HTTP/2: %q, %v", got, err)
	}
	for _, c := range conns {
		if _, _, err := c.Read(ctx); websocket.CloseStatus(err) != websocket.StatusGoingAway {
			t.Errorf("after --drain-timeout: %v", err)
		}
	}
	if opcode, got, err := readWebSocketFrame(s); err != nil || opcode != 8 || string(got) != "\x03\xe9" {
		t.Errorf("after --drain-timeout, over HTTP/2: %d %x, %v", opcode, got, err)
	}
	if _, err := s.Read(make([]byte, 1)); err == nil {
		t.Error("after the Close frame the stream is open")
	}
	next(t, e.done)
}

package load

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"gatehouse.dev/gatehouse/test/kube/testserver"
	"gatehouse.dev/gatehouse/test/kube/testserver/wsframe"
)

// listen serves each connection with f and gives the address.
func listen(t *testing.T, f func(net.Conn)) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer conn.Close()
				f(conn)
			}()
		}
	}()
	return l.Addr().String()
}

// web serves the echo's answer, but for the request sick (the first is 1), which
// f may change or answer.
func web(t *testing.T, sick int32, f http.HandlerFunc) string {
	t.Helper()
	var count atomic.Int32
	s := &http.Server{Protocols: new(http.Protocols)}
	s.Protocols.SetHTTP1(true)
	s.Protocols.SetUnencryptedHTTP2(true)
	s.Handler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			return
		}
		w.Header().Set(testserver.NumberHeader, r.Header.Get(testserver.NumberHeader))
		w.Header().Set(testserver.BodyHeader, testserver.BodySum(body))
		w.Header().Set(testserver.PodHeader, "sick")
		if count.Add(1) == sick {
			f(w, r)
		}
	})
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	go s.Serve(l)
	t.Cleanup(func() { s.Close() })
	return l.Addr().String()
}

// hijacked is the connection of a request.
func hijacked(w http.ResponseWriter) *net.TCPConn {
	conn, _, err := http.NewResponseController(w).Hijack()
	if err != nil {
		panic(err)
	}
	return conn.(*net.TCPConn)
}

// blame expects a load of one connection at a time to blame one connection, with
// one of some causes ("|" between them), and to go on; without a cause, to blame
// nothing.
func blame(t *testing.T, kind Kind, target, cause string, change ...func(*Options)) Report {
	t.Helper()
	o := Options{Timeout: 2 * time.Second, Flows: []Flow{{Kind: kind, Target: target, Rate: 100}}}
	for _, f := range change {
		f(&o)
	}
	l, err := Start(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	until(t, l, func(r Report) bool {
		f := r.Flows[0]
		return f.Succeeded >= 10 && (cause == "" || f.Failed > 0)
	})
	r := l.Stop()
	if cause == "" {
		if err := r.Err(); err != nil {
			t.Error(err)
		}
		return r
	}
	// Several, where the machine was slow and more than one was on the way.
	found := false
	for _, f := range r.Flows[0].Failures {
		for c := range strings.SplitSeq(cause, "|") {
			found = found || strings.Contains(f.Cause, c)
		}
		if f.Local == "" || f.Local != r.Flows[0].Failures[0].Local {
			t.Errorf("another connection: %s", f)
		}
	}
	if !found || r.Err() == nil {
		t.Errorf("no failure with %q: %v", cause, r.Err())
	}
	return r
}

func TestBrokenHTTP1(t *testing.T) {
	t.Parallel()
	f := func(name, cause string, answer http.HandlerFunc) {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := blame(t, HTTP1, web(t, 3, answer), cause)
			if failure := r.Flows[0].Failures[0]; failure.Number == "" && !strings.Contains(cause, "between") {
				t.Errorf("no number: %s", failure)
			}
		})
	}
	f("dropped", "cannot read the answer", func(w http.ResponseWriter, _ *http.Request) {
		hijacked(w).Close()
	})
	f("reset", "connection reset by peer|broken pipe", func(w http.ResponseWriter, _ *http.Request) {
		conn := hijacked(w)
		conn.SetLinger(0)
		conn.Close()
	})
	f("cut", "cannot read the answer's body", func(w http.ResponseWriter, _ *http.Request) {
		conn := hijacked(w)
		fmt.Fprint(conn, "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n123")
		conn.Close()
	})
	f("silent", "i/o timeout", func(w http.ResponseWriter, r *http.Request) {
		<-r.Context().Done()
	})
	f("error", "the answer is 502", func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(http.StatusBadGateway)
	})
	f("mixed up", `X-Request-Number is "r-1"`, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set(testserver.NumberHeader, "r-1")
	})
	f("changed body", `X-Body is "3:`, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set(testserver.BodyHeader, testserver.BodySum([]byte("abc")))
	})
	f("too much", "bytes between two requests", func(w http.ResponseWriter, r *http.Request) {
		conn := hijacked(w)
		fmt.Fprintf(conn, "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n%s: %s\r\n%s: %s\r\n\r\nx", testserver.NumberHeader,
			w.Header().Get(testserver.NumberHeader), testserver.BodyHeader, w.Header().Get(testserver.BodyHeader))
		io.Copy(io.Discard, conn)
	})
}

// TestIdleClose shows that a connection may not end between requests without a
// word, if that is not allowed, and with a word always.
func TestIdleClose(t *testing.T) {
	t.Parallel()
	silent := func(w http.ResponseWriter, r *http.Request) {
		conn := hijacked(w)
		fmt.Fprintf(conn, "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n%s: %s\r\n%s: %s\r\n\r\n", testserver.NumberHeader,
			w.Header().Get(testserver.NumberHeader), testserver.BodyHeader, w.Header().Get(testserver.BodyHeader))
		conn.Close()
	}
	polite := func(w http.ResponseWriter, _ *http.Request) { w.Header().Set("Connection", "close") }
	f := func(name, cause string, allowed bool, closed int, answer http.HandlerFunc) {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := blame(t, HTTP1, web(t, 3, answer), cause, func(o *Options) {
				o.AllowIdleClose = allowed
				o.Flows[0].Rate = 5 // time for the end to be seen before the next request
			})
			if f := r.Flows[0]; f.IdleClosed != closed || f.Connections != 2 {
				t.Errorf("%+v", f)
			}
		})
	}
	f("silent", "without Connection: close", false, 1, silent)
	f("silent, allowed", "", true, 1, silent)
	f("polite", "", false, 0, polite)
}

// server2 is an HTTP/2 connection in a test's hands.
type server2 struct {
	*http2.Framer
	conn   net.Conn
	number map[uint32]string
	body   map[uint32]*bytes.Buffer
}

// serve2 answers all but the stream sick (the first is 1), which f decides
// about when its request is complete.
func serve2(conn net.Conn, sick uint32, f func(*server2)) {
	s := &server2{Framer: http2.NewFramer(conn, conn), conn: conn, number: map[uint32]string{}, body: map[uint32]*bytes.Buffer{}}
	s.ReadMetaHeaders = hpack.NewDecoder(4096, nil)
	if _, err := io.ReadFull(conn, make([]byte, len(http2.ClientPreface))); err != nil {
		return
	}
	s.WriteSettings()
	for {
		frame, err := s.ReadFrame()
		if err != nil {
			return
		}
		id, ended := frame.Header().StreamID, false
		switch frame := frame.(type) {
		case *http2.SettingsFrame:
			if !frame.IsAck() {
				s.WriteSettingsAck()
			}
		case *http2.MetaHeadersFrame:
			for _, field := range frame.Fields {
				if strings.EqualFold(field.Name, testserver.NumberHeader) {
					s.number[id] = field.Value
				}
			}
			s.body[id] = new(bytes.Buffer)
			ended = frame.StreamEnded()
		case *http2.DataFrame:
			s.body[id].Write(frame.Data())
			s.WriteWindowUpdate(0, uint32(len(frame.Data())))
			ended = frame.StreamEnded()
		}
		if !ended {
			continue
		}
		if id == sick {
			f(s)
		} else {
			s.answer(id)
		}
	}
}

func (s *server2) answer(id uint32) {
	var block bytes.Buffer
	e := hpack.NewEncoder(&block)
	e.WriteField(hpack.HeaderField{Name: ":status", Value: "200"})
	e.WriteField(hpack.HeaderField{Name: strings.ToLower(testserver.NumberHeader), Value: s.number[id]})
	e.WriteField(hpack.HeaderField{Name: strings.ToLower(testserver.BodyHeader), Value: testserver.BodySum(s.body[id].Bytes())})
	s.WriteHeaders(http2.HeadersFrameParam{StreamID: id, BlockFragment: block.Bytes(), EndStream: true, EndHeaders: true})
}

// TestHTTP2 has a server with right and wrong ends of streams and connections;
// only its first connection is sick.
func TestHTTP2(t *testing.T) {
	t.Parallel()
	f := func(name, cause string, unprocessed int, answer func(*server2)) {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var conns atomic.Int32
			addr := listen(t, func(conn net.Conn) {
				if conns.Add(1) == 1 {
					serve2(conn, 5, answer)
				} else {
					serve2(conn, 0, nil)
				}
			})
			r := blame(t, HTTP2, addr, cause)
			if got := r.Flows[0].Unprocessed; got < unprocessed || len(r.Flows[0].unprocessed) != got {
				t.Errorf("%d unprocessed, want at least %d", got, unprocessed)
			}
		})
	}
	f("GOAWAY, all answered", "", 0, func(s *server2) {
		s.WriteGoAway(1<<31-1, http2.ErrCodeNo, nil)
		s.answer(5)
	})
	f("GOAWAY, not begun", "", 1, func(s *server2) { s.WriteGoAway(3, http2.ErrCodeNo, nil) })
	f("two GOAWAYs", "", 1, func(s *server2) {
		s.WriteGoAway(1<<31-1, http2.ErrCodeNo, nil)
		s.WriteGoAway(3, http2.ErrCodeNo, nil)
	})
	f("GOAWAY, begun and not answered", "stream 5: ", 0, func(s *server2) {
		s.WriteGoAway(5, http2.ErrCodeNo, nil)
		s.conn.Close()
	})
	f("GOAWAY that takes its word back", "GOAWAY with last stream 7 after one with 5", 0, func(s *server2) {
		s.WriteGoAway(5, http2.ErrCodeNo, nil)
		s.WriteGoAway(7, http2.ErrCodeNo, nil)
		s.answer(5)
	})
	f("GOAWAY with an error", "GOAWAY with ENHANCE_YOUR_CALM", 0, func(s *server2) {
		s.WriteGoAway(3, http2.ErrCodeEnhanceYourCalm, []byte("x"))
	})
	f("no GOAWAY", "stream 5: ", 0, func(s *server2) { s.conn.Close() })
	f("no GOAWAY, idle", "without GOAWAY|stream 7: ", 0, func(s *server2) {
		s.answer(5)
		s.conn.Close()
	})
	f("refused", "reset with REFUSED_STREAM", 0, func(s *server2) { s.WriteRSTStream(5, http2.ErrCodeRefusedStream) })
	f("RST", "stream 5: ", 0, func(s *server2) {
		s.conn.(*net.TCPConn).SetLinger(0)
		s.conn.Close()
	})
	f("silent", "no answer in time", 0, func(s *server2) {})
	f("mixed up", "the answer is to another request", 0, func(s *server2) {
		s.number[5] = s.number[3]
		s.answer(5)
	})
}

// TestDuplicate shows that a request that is executed twice is found, though the
// client cannot see it.
func TestDuplicate(t *testing.T) {
	t.Parallel()
	collector, addr := startCollector(t)
	behind := "http://" + startPod(t, "a", func(o *testserver.Options) { o.Collector, o.Grace = addr, 0 }).web
	var count atomic.Int32
	proxy := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		times := 1
		if count.Add(1) == 3 {
			times = 2
		}
		for range times {
			req, _ := http.NewRequestWithContext(r.Context(), r.Method, behind, bytes.NewReader(body))
			req.Header.Set(testserver.NumberHeader, r.Header.Get(testserver.NumberHeader))
			var resp *http.Response
			if resp, err = http.DefaultClient.Do(req); err != nil {
				break
			}
			resp.Body.Close()
			maps.Copy(w.Header(), resp.Header)
			w.Header().Del("Content-Length")
		}
		if err != nil {
			panic(http.ErrAbortHandler)
		}
	})}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	go proxy.Serve(l)
	t.Cleanup(func() { proxy.Close() })
	r := blame(t, HTTP1, l.Addr().String(), "")
	err = r.CompareWith(t.Context(), collector)
	if want := "1 requests were executed more than once: " + r.Run + "-3"; err == nil || err.Error() != want {
		t.Errorf("%v, want %q", err, want)
	}
}

// webSockets echoes, but for the third message, which f answers.
func webSockets(t *testing.T, f func(net.Conn, wsframe.Frame)) string {
	t.Helper()
	var count atomic.Int32
	return listen(t, func(conn net.Conn) {
		br := bufio.NewReader(conn)
		req, err := http.ReadRequest(br)
		if err != nil {
			return
		}
		fmt.Fprintf(conn, "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: %s\r\n\r\n",
			wsframe.Accept(req.Header.Get("Sec-WebSocket-Key")))
		for {
			frame, err := wsframe.Read(br, true)
			if err != nil {
				return
			}
			if count.Add(1) == 3 {
				f(conn, frame)
				continue
			}
			conn.Write(wsframe.Append(nil, frame, false))
		}
	})
}

func TestBrokenWebSocket(t *testing.T) {
	t.Parallel()
	f := func(name, cause string, ends int, answer func(net.Conn, wsframe.Frame)) {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := blame(t, WebSocket, webSockets(t, answer), cause)
			if got := len(r.Flows[0].Ends); got != ends {
				t.Errorf("%d right ends, want %d", got, ends)
			}
		})
	}
	closing := func(code int) func(net.Conn, wsframe.Frame) {
		return func(conn net.Conn, _ wsframe.Frame) {
			conn.Write(wsframe.Append(nil, wsframe.CloseFrame(code, ""), false))
		}
	}
	f("going away", "", 1, closing(wsframe.StatusGoingAway))
	f("internal error", "Close 1011", 0, closing(1011))
	f("no Close frame", "no Close frame: the connection ended", 0, func(conn net.Conn, _ wsframe.Frame) { conn.Close() })
	f("RST", "no Close frame", 0, func(conn net.Conn, _ wsframe.Frame) {
		conn.(*net.TCPConn).SetLinger(0)
		conn.Close()
	})
	f("another message", "a wrong message", 0, func(conn net.Conn, frame wsframe.Frame) {
		frame.Payload = append(frame.Payload, '!')
		conn.Write(wsframe.Append(nil, frame, false))
	})
	f("twice", "a wrong message", 0, func(conn net.Conn, frame wsframe.Frame) {
		for range 2 {
			conn.Write(wsframe.Append(nil, frame, false))
		}
	})
}

// TestRefusedHandshake shows that a WebSocket that cannot be opened is a failure.
func TestRefusedHandshake(t *testing.T) {
	t.Parallel()
	l, err := Start(t.Context(), Options{Flows: []Flow{{Kind: WebSocket, Target: web(t, 0, nil), Rate: 100}}})
	if err != nil {
		t.Fatal(err)
	}
	until(t, l, func(r Report) bool { return r.Flows[0].Failed > 2 })
	if err := l.Stop().Err(); err == nil || !strings.Contains(err.Error(), "the answer is 200") {
		t.Errorf("%v", err)
	}
}

// rpc echoes messages of streams and calls, but for the third, which f may
// change or refuse.
func rpc(t *testing.T, f func(message *[]byte) error) string {
	t.Helper()
	var count atomic.Int32
	header := func(ctx context.Context) metadata.MD {
		in, _ := metadata.FromIncomingContext(ctx)
		return metadata.Pairs(testserver.NumberHeader, one(in, testserver.NumberHeader))
	}
	echo := func(message *[]byte) error {
		if count.Add(1) == 3 {
			return f(message)
		}
		return nil
	}
	s := grpc.NewServer(grpc.ForceServerCodecV2(testserver.NewCodec()))
	s.RegisterService(&grpc.ServiceDesc{
		ServiceName: testserver.Service, HandlerType: (*any)(nil),
		Methods: []grpc.MethodDesc{{MethodName: "Unary", Handler: func(
			_ any, ctx context.Context, decode func(any) error, _ grpc.UnaryServerInterceptor,
		) (any, error) {
			var message []byte
			err := errors.Join(decode(&message), grpc.SetHeader(ctx, header(ctx)))
			if err == nil {
				err = echo(&message)
			}
			return &message, err
		}}},
		Streams: []grpc.StreamDesc{{StreamName: "Bidi", ServerStreams: true, ClientStreams: true, Handler: func(
			_ any, stream grpc.ServerStream,
		) error {
			err := stream.SendHeader(header(stream.Context()))
			for err == nil {
				var message []byte
				if err = stream.RecvMsg(&message); err == nil {
					err = echo(&message)
				}
				if err == nil {
					err = stream.SendMsg(&message)
				}
			}
			if errors.Is(err, io.EOF) {
				return nil
			}
			return err
		}}},
	}, s)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	go s.Serve(l)
	t.Cleanup(s.Stop)
	return l.Addr().String()
}

func TestBrokenRPC(t *testing.T) {
	t.Parallel()
	f := func(kind Kind, name, cause string, ends int, answer func(*[]byte) error) {
		t.Run(string(kind)+" "+name, func(t *testing.T) {
			t.Parallel()
			r := blame(t, kind, rpc(t, answer), cause)
			if got := len(r.Flows[0].Ends); got != ends {
				t.Errorf("%d right ends, want %d", got, ends)
			}
		})
	}
	fails := func(code codes.Code, message string) func(*[]byte) error {
		return func(*[]byte) error { return status.Error(code, message) }
	}
	changed := func(message *[]byte) error {
		*message = append(*message, '!')
		return nil
	}
	f(Unary, "fails", "code = Unavailable", 0, fails(codes.Unavailable, testserver.EndingMessage))
	f(Unary, "changed", "the answer is to another request", 0, changed)
	f(Bidi, "ends well", "", 1, fails(codes.Unavailable, testserver.EndingMessage+": a"))
	f(Bidi, "ends with another message", "code = Unavailable", 0, fails(codes.Unavailable, "upstream is away"))
	f(Bidi, "ends with OK", "the stream ended with OK, by itself", 0, func(*[]byte) error { return io.EOF })
	f(Bidi, "changed", "a wrong message", 0, changed)
}

// TestCutRPC shows that connections that end without GOAWAY are found.
func TestCutRPC(t *testing.T) {
	t.Parallel()
	var current atomic.Pointer[pod]
	current.Store(startPod(t, "a", func(o *testserver.Options) { o.Abrupt = true }))
	dial := func(ctx context.Context, network, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, network, current.Load().rpc)
	}
	l, err := Start(t.Context(), Options{Dial: dial, Flows: []Flow{{Kind: Bidi, Target: "a:1", Rate: 50}}})
	if err != nil {
		t.Fatal(err)
	}
	until(t, l, everywhere("a", 5))
	old := current.Swap(startPod(t, "b", func(o *testserver.Options) { o.Grace = 0 }))
	if err := old.end(); err != nil {
		t.Error(err)
	}
	until(t, l, everywhere("b", 5))
	r := l.Stop()
	if f := r.Flows[0]; f.Failed == 0 || len(f.Ends) != 0 {
		t.Errorf("no failure: %+v", f)
	}
}

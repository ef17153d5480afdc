package conformance

import (
	"bytes"
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	testpb "google.golang.org/grpc/interop/grpc_testing"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
)

const bigMessage = 4 << 20

// grpcBackend is a server of gRPC's interoperability service.
type grpcBackend struct {
	testpb.UnimplementedTestServiceServer
	addr string
	// ended gets why the context of a call that was told to wait has ended,
	// and how long its deadline was away when it began.
	ended chan waited
}

type waited struct {
	err      error
	deadline time.Duration // 0: none
}

func startGRPC(t testing.TB, tc *tls.Config, opts ...grpc.ServerOption) *grpcBackend {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	opts = append(opts, grpc.MaxRecvMsgSize(2*bigMessage))
	if tc != nil {
		opts = append(opts, grpc.Creds(credentials.NewTLS(tc)))
	}
	srv := grpc.NewServer(opts...)
	b := &grpcBackend{addr: l.Addr().String(), ended: make(chan waited, 10)}
	testpb.RegisterTestServiceServer(srv, b)
	go srv.Serve(l)
	t.Cleanup(srv.Stop)
	return b
}

// UnaryCall answers with metadata of both kinds, and the status or size that is
// asked for; with the metadata "wait" it waits for the end of its context.
func (b *grpcBackend) UnaryCall(ctx context.Context, in *testpb.SimpleRequest) (*testpb.SimpleResponse, error) {
	md, _ := metadata.FromIncomingContext(ctx)
	grpc.SetHeader(ctx, metadata.MD{"x-initial": md["x-initial"]})
	grpc.SetTrailer(ctx, metadata.MD{"x-trailing-bin": md["x-trailing-bin"]})
	if md["wait"] != nil {
		w := waited{}
		if at, ok := ctx.Deadline(); ok {
			w.deadline = time.Until(at)
		}
		<-ctx.Done()
		w.err = ctx.Err()
		b.ended <- w
		return nil, ctx.Err()
	}
	if s := in.GetResponseStatus(); s != nil {
		return nil, status.Error(codes.Code(s.Code), s.Message)
	}
	return &testpb.SimpleResponse{
		Payload: &testpb.Payload{Body: make([]byte, in.GetResponseSize())}, Username: fmt.Sprint(len(in.GetPayload().GetBody())),
	}, nil
}

func (b *grpcBackend) StreamingInputCall(s testpb.TestService_StreamingInputCallServer) error {
	sum := 0
	for {
		in, err := s.Recv()
		if err == io.EOF {
			return s.SendAndClose(&testpb.StreamingInputCallResponse{AggregatedPayloadSize: int32(sum)})
		}
		if err != nil {
			return err
		}
		sum += len(in.GetPayload().GetBody())
	}
}

func (b *grpcBackend) StreamingOutputCall(in *testpb.StreamingOutputCallRequest, s testpb.TestService_StreamingOutputCallServer) error {
	for _, p := range in.ResponseParameters {
		if err := s.Send(&testpb.StreamingOutputCallResponse{Payload: &testpb.Payload{Body: make([]byte, p.Size)}}); err != nil {
			return err
		}
	}
	return nil
}

func (b *grpcBackend) FullDuplexCall(s testpb.TestService_FullDuplexCallServer) error {
	for {
		in, err := s.Recv()
		if err == io.EOF {
			return status.Error(codes.DataLoss, "farewell: ünïcödé\n100 %")
		}
		if err != nil {
			b.ended <- waited{err: s.Context().Err()}
			return err
		}
		if err := s.Send(&testpb.StreamingOutputCallResponse{Payload: in.Payload}); err != nil {
			return err
		}
	}
}

// dialGRPC makes a client of one connection; without ca it is cleartext.
func dialGRPC(t testing.TB, addr, host string, ca *authority) (testpb.TestServiceClient, *grpc.ClientConn) {
	creds := insecure.NewCredentials()
	if ca != nil {
		creds = credentials.NewTLS(&tls.Config{RootCAs: ca.pool(), ServerName: host})
	}
	cc, err := grpc.NewClient("passthrough:///"+addr, grpc.WithTransportCredentials(creds), grpc.WithAuthority(host),
		grpc.WithDisableRetry(), grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(2*bigMessage)))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { cc.Close() })
	return testpb.NewTestServiceClient(cc), cc
}

func TestGRPC(t *testing.T) {
	judge(t, "grpc", "Answers that Gatehouse makes itself have the status that gRPC clients expect")
	ca := newAuthority(t, "judge")
	front := ca.issue(time.Hour, "*.grpc.test")
	plain := startGRPC(t, nil)
	secure := startGRPC(t, &tls.Config{Certificates: []tls.Certificate{ca.issue(time.Hour, "backend.test").tls}})
	e := startEdge(t, documents(
		tlsSecret("front", front),
		secret("ca", "Opaque", "ca.crt", ca.pem()),
		secret("users", "Opaque", "auth", "someone:$apr1$x$Ww5mvUnVD4QzbBF4n1F0T1\n"),
		service("plain", "", plain.addr),
		service("named", "kubernetes.io/h2c", plain.addr),
		service("secure", "", secure.addr),
		service("nobody", ""),
		service("refusing", "", freePorts(t, 1)[0]),
		ingress("grpc", "a.grpc.test", "plain", "front", "backend-protocol", "GRPC"),
		ingress("grpc-clear", "a.clear.test", "plain", "", "backend-protocol", "GRPC"),
		ingress("named", "b.clear.test", "named", ""),
		ingress("grpcs", "c.grpc.test", "secure", "front", "backend-protocol", "GRPCS", "proxy-ssl-secret", namespace+"/ca",
			"proxy-ssl-verify", "on", "proxy-ssl-name", "backend.test", "proxy-ssl-server-name", "on"),
		ingress("nobody", "d.grpc.test", "nobody", "front", "backend-protocol", "GRPC"),
		ingress("refusing", "e.grpc.test", "refusing", "front", "backend-protocol", "GRPC"),
		ingress("locked", "f.grpc.test", "plain", "front", "backend-protocol", "GRPC",
			"auth-type", "basic", "auth-secret", "users", "auth-realm", "judge"),
		ingress("elsewhere", "g.grpc.test", "plain", "front", "backend-protocol", "GRPC", "denylist-source-range", "127.0.0.0/8"),
		ingress("unverified", "h.grpc.test", "secure", "front", "backend-protocol", "GRPCS", "proxy-ssl-secret", namespace+"/ca",
			"proxy-ssl-verify", "on", "proxy-ssl-name", "other.test"),
	))
	f := func(name string, backend *grpcBackend, addr, host string, ca *authority) {
		t.Helper()
		t.Run(name, func(t *testing.T) {
			judge(t, "grpc", name+": unary, streams of the client, the server and both, status, deadline and cancellation, 200 streams", 7)
			client, _ := dialGRPC(t, addr, host, ca)
			ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
			defer cancel()
			t.Run("unary", func(t *testing.T) { judgeUnary(ctx, t, client) })
			t.Run("client streaming", func(t *testing.T) { judgeClientStreaming(ctx, t, client) })
			t.Run("server streaming", func(t *testing.T) { judgeServerStreaming(ctx, t, client) })
			t.Run("bidirectional", func(t *testing.T) { judgeDuplex(ctx, t, client) })
			t.Run("status", func(t *testing.T) { judgeStatus(ctx, t, client) })
			t.Run("deadline and cancellation", func(t *testing.T) { judgeEnds(ctx, t, client, backend) })
			t.Run("200 streams", func(t *testing.T) {
				second, _ := dialGRPC(t, addr, host, ca)
				judgeConcurrent(ctx, t, client, second)
			})
		})
	}
	f("GRPC over TLS", plain, e.https, "a.grpc.test", ca)
	f("GRPC in cleartext", plain, e.http, "a.clear.test", nil)
	f("appProtocol", plain, e.http, "b.clear.test", nil)
	f("GRPCS", secure, e.https, "c.grpc.test", ca)

	local := func(host string, want codes.Code, text string) {
		t.Helper()
		client, _ := dialGRPC(t, e.https, host, ca)
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		defer cancel()
		_, err := client.UnaryCall(ctx, &testpb.SimpleRequest{})
		if s := status.Convert(err); s.Code() != want || !strings.Contains(s.Message(), text) {
			t.Errorf("%s: %v, want %v with %q", host, err, want, text)
		}
		stream, err := client.FullDuplexCall(ctx)
		if err == nil {
			_, err = stream.Recv()
		}
		if s := status.Convert(err); s.Code() != want {
			t.Errorf("%s: stream: %v, want %v", host, err, want)
		}
	}
	local("d.grpc.test", codes.Unavailable, "NoEndpoints")
	local("e.grpc.test", codes.Unavailable, "ConnectFailed")
	local("f.grpc.test", codes.Unauthenticated, "Unauthorized")
	local("g.grpc.test", codes.PermissionDenied, "ForbiddenIP")
	local("h.grpc.test", codes.Unavailable, "UpstreamTLSVerify")
}

func judgeUnary(ctx context.Context, t *testing.T, c testpb.TestServiceClient) {
	f := func(request, response int) {
		t.Helper()
		var header, trailer metadata.MD
		ctx := metadata.AppendToOutgoingContext(ctx, "x-initial", "hello", "x-trailing-bin", "\x00\xff\xfe")
		out, err := c.UnaryCall(ctx, &testpb.SimpleRequest{
			Payload: &testpb.Payload{Body: make([]byte, request)}, ResponseSize: int32(response),
		}, grpc.Header(&header), grpc.Trailer(&trailer))
		if err != nil {
			t.Errorf("%d bytes there, %d back: %v", request, response, err)
			return
		}
		if out.Username != fmt.Sprint(request) || len(out.Payload.Body) != response {
			t.Errorf("%s bytes there, %d back, want %d and %d", out.Username, len(out.Payload.Body), request, response)
		}
		if fmt.Sprint(header["x-initial"]) != "[hello]" || fmt.Sprintf("%q", trailer["x-trailing-bin"]) != `["\x00\xff\xfe"]` {
			t.Errorf("metadata %v, trailer %q", header, trailer)
		}
	}
	f(0, 0)
	f(1, 1)
	f(16<<10, 100_000)
	f(bigMessage, bigMessage)
}

func judgeClientStreaming(ctx context.Context, t *testing.T, c testpb.TestServiceClient) {
	s, err := c.StreamingInputCall(ctx)
	if err != nil {
		t.Fatal(err)
	}
	sum := 0
	for _, n := range []int{27182, 8, 1828, 45904, 0, 1 << 20} {
		sum += n
		if err := s.Send(&testpb.StreamingInputCallRequest{Payload: &testpb.Payload{Body: make([]byte, n)}}); err != nil {
			t.Fatal(err)
		}
	}
	out, err := s.CloseAndRecv()
	if err != nil || out.AggregatedPayloadSize != int32(sum) {
		t.Errorf("%v, %v, want %d bytes", out, err, sum)
	}
}

func judgeServerStreaming(ctx context.Context, t *testing.T, c testpb.TestServiceClient) {
	sizes := []int32{31415, 9, 2653, 58979, 0, 1 << 20}
	in := &testpb.StreamingOutputCallRequest{}
	for _, n := range sizes {
		in.ResponseParameters = append(in.ResponseParameters, &testpb.ResponseParameters{Size: n})
	}
	s, err := c.StreamingOutputCall(ctx, in)
	if err != nil {
		t.Fatal(err)
	}
	for _, n := range sizes {
		out, err := s.Recv()
		if err != nil || len(out.Payload.GetBody()) != int(n) {
			t.Fatalf("%d bytes, %v, want %d", len(out.GetPayload().GetBody()), err, n)
		}
	}
	if _, err := s.Recv(); err != io.EOF {
		t.Errorf("%v at the end, want EOF", err)
	}
}

// judgeDuplex goes step by step: each answer must come before the next message
// is sent, so nothing may be held back.
func judgeDuplex(ctx context.Context, t *testing.T, c testpb.TestServiceClient) {
	s, err := c.FullDuplexCall(ctx)
	if err != nil {
		t.Fatal(err)
	}
	for i, n := range []int{1, 27182, 8, 100_000, 0, 1828, 1 << 20, 3} {
		if err := s.Send(&testpb.StreamingOutputCallRequest{Payload: &testpb.Payload{Body: make([]byte, n)}}); err != nil {
			t.Fatal(err)
		}
		out, err := s.Recv()
		if err != nil || len(out.Payload.Body) != n {
			t.Fatalf("step %d: %d bytes, %v, want %d", i, len(out.GetPayload().GetBody()), err, n)
		}
	}
	s.CloseSend()
	_, err = s.Recv()
	if st := status.Convert(err); st.Code() != codes.DataLoss || st.Message() != "farewell: ünïcödé\n100 %" {
		t.Errorf("at the end %v", err)
	}
}

func judgeStatus(ctx context.Context, t *testing.T, c testpb.TestServiceClient) {
	for code := codes.Canceled; code <= codes.Unauthenticated; code++ {
		var trailer metadata.MD
		_, err := c.UnaryCall(metadata.AppendToOutgoingContext(ctx, "x-trailing-bin", "t"),
			&testpb.SimpleRequest{ResponseStatus: &testpb.EchoStatus{Code: int32(code), Message: code.String()}}, grpc.Trailer(&trailer))
		if s := status.Convert(err); s.Code() != code || s.Message() != code.String() {
			t.Errorf("%v, want %v", err, code)
		}
		if fmt.Sprint(trailer["x-trailing-bin"]) != "[t]" {
			t.Errorf("trailer %v", trailer)
		}
	}
	if _, err := c.EmptyCall(ctx, &testpb.Empty{}); status.Code(err) != codes.Unimplemented {
		t.Errorf("%v, want Unimplemented", err)
	}
}

// judgeEnds: deadlines and cancellations of clients reach the backend.
func judgeEnds(ctx context.Context, t *testing.T, c testpb.TestServiceClient, b *grpcBackend) {
	waiting := metadata.AppendToOutgoingContext(ctx, "wait", "yes")
	short, cancel := context.WithTimeout(waiting, 500*time.Millisecond)
	defer cancel()
	if _, err := c.UnaryCall(short, &testpb.SimpleRequest{}); status.Code(err) != codes.DeadlineExceeded {
		t.Errorf("%v, want DeadlineExceeded", err)
	}
	if w := next(t, b.ended); w.err == nil || w.deadline <= 0 || w.deadline > time.Second {
		t.Errorf("the backend saw %+v, want a deadline below 1 s and an end", w)
	}

	for range 5 {
		cancelled, cancel := context.WithCancel(ctx)
		s, err := c.FullDuplexCall(cancelled)
		if err != nil {
			t.Fatal(err)
		}
		if err := s.Send(&testpb.StreamingOutputCallRequest{}); err != nil {
			t.Fatal(err)
		}
		if _, err := s.Recv(); err != nil {
			t.Fatal(err)
		}
		cancel()
		if w := next(t, b.ended); w.err != context.Canceled {
			t.Errorf("the backend saw %v, want Canceled", w.err)
		}
	}
}

func next[T any](t *testing.T, ch <-chan T) T {
	t.Helper()
	select {
	case v := <-ch:
		return v
	case <-time.After(10 * time.Second):
		t.Fatal("nothing comes")
		panic("unreachable")
	}
}

// judgeConcurrent has 200 streams open at the same time, on two connections.
func judgeConcurrent(ctx context.Context, t *testing.T, clients ...testpb.TestServiceClient) {
	const streams = 200
	var open, done sync.WaitGroup
	open.Add(streams)
	for i := range streams {
		done.Go(func() {
			s, err := clients[i%len(clients)].FullDuplexCall(ctx)
			if err != nil {
				open.Done()
				t.Error(err)
				return
			}
			for step := range 10 {
				n := 1 + (i*997+step*131)%30_000
				err := s.Send(&testpb.StreamingOutputCallRequest{Payload: &testpb.Payload{Body: make([]byte, n)}})
				var out *testpb.StreamingOutputCallResponse
				if err == nil {
					out, err = s.Recv()
				}
				if step == 0 {
					open.Done()
					open.Wait() // all have been answered once: all are open
				}
				if err != nil || len(out.Payload.Body) != n {
					t.Errorf("stream %d: %v", i, err)
					return
				}
			}
			s.CloseSend()
			if _, err := s.Recv(); status.Code(err) != codes.DataLoss {
				t.Errorf("stream %d ends with %v", i, err)
			}
		})
	}
	done.Wait()
}

// TestGRPCDrain: after SIGTERM a stream that is open goes on, new ones are not
// taken, and the process ends when the stream has ended.
func TestGRPCDrain(t *testing.T) {
	judge(t, "grpc", "Open streams end by themselves while Gatehouse drains")
	ca := newAuthority(t, "judge")
	b := startGRPC(t, nil)
	e := startEdge(t, documents(
		tlsSecret("front", ca.issue(time.Hour, "a.grpc.test")),
		service("plain", "", b.addr),
		ingress("grpc", "a.grpc.test", "plain", "front", "backend-protocol", "GRPC"),
	), "--drain-timeout", "20s")
	client, cc := dialGRPC(t, e.https, "a.grpc.test", ca)
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	s, err := client.FullDuplexCall(ctx)
	if err != nil {
		t.Fatal(err)
	}
	step := func() {
		t.Helper()
		if err := s.Send(&testpb.StreamingOutputCallRequest{Payload: &testpb.Payload{Body: []byte("x")}}); err != nil {
			t.Fatal(err)
		}
		if _, err := s.Recv(); err != nil {
			t.Fatal(err)
		}
	}
	step()
	ready := cc.GetState()
	e.terminate()
	if !cc.WaitForStateChange(ctx, ready) { // GOAWAY
		t.Fatal("no GOAWAY")
	}
	for range 20 {
		step()
	}
	if _, err := client.EmptyCall(ctx, &testpb.Empty{}); status.Code(err) != codes.Unavailable {
		t.Errorf("a new call: %v, want Unavailable", err)
	}
	step()
	select {
	case <-e.done:
		t.Fatal("ended before the stream")
	default:
	}
	s.CloseSend()
	if _, err := s.Recv(); status.Code(err) != codes.DataLoss {
		t.Errorf("at the end %v", err)
	}
	select {
	case <-e.done:
	case <-time.After(5 * time.Second):
		t.Error("still there after its last stream")
	}
}

// TestGRPCConnectionAge: backends end their connections all the time, gracefully
// (GOAWAY), and no call notices, although none is ever sent again by its client.
func TestGRPCConnectionAge(t *testing.T) {
	judge(t, "grpc", "Backends that end their connections all the time fail no call")
	b := startGRPC(t, nil, grpc.KeepaliveParams(keepalive.ServerParameters{
		MaxConnectionAge: 50 * time.Millisecond, MaxConnectionAgeGrace: 10 * time.Second,
	}))
	e := startEdge(t, documents(
		service("plain", "", b.addr), ingress("grpc", "a.grpc.test", "plain", "", "backend-protocol", "GRPC"),
	))
	ctx, cancel := context.WithTimeout(t.Context(), 60*time.Second)
	defer cancel()
	client, _ := dialGRPC(t, e.http, "a.grpc.test", nil)
	var seq atomic.Int64
	l := startLoad(t, 8, func() error {
		if seq.Add(1)%4 == 0 {
			s, err := client.StreamingInputCall(ctx)
			if err != nil {
				return err
			}
			for range 5 {
				if err := s.Send(&testpb.StreamingInputCallRequest{Payload: &testpb.Payload{Body: make([]byte, 10_000)}}); err != nil && err != io.EOF {
					return err
				}
			}
			out, err := s.CloseAndRecv()
			if err == nil && out.AggregatedPayloadSize != 50_000 {
				err = fmt.Errorf("%d bytes", out.AggregatedPayloadSize)
			}
			return err
		}
		_, err := client.UnaryCall(ctx, &testpb.SimpleRequest{Payload: &testpb.Payload{Body: make([]byte, 1000)}, ResponseSize: 1000})
		return err
	})
	l.more(t, 3000)
	l.finish(t)
}

// TestGRPCCancelledByServer: a server that takes a stream back, as grpc-go does
// when a deadline has passed, looks to the client as it does without Gatehouse.
func TestGRPCCancelledByServer(t *testing.T) {
	judge(t, "grpc", "Calls that the server takes back")
	for _, answered := range []bool{false, true} {
		addr := startCanceller(t, answered)
		e := startEdge(t, documents(
			service("canceller", "", addr), ingress("grpc", "a.grpc.test", "canceller", "", "backend-protocol", "GRPC"),
		))
		for _, addr := range []string{addr, e.http} {
			client, _ := dialGRPC(t, addr, "a.grpc.test", nil)
			ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
			defer cancel()
			s, err := client.FullDuplexCall(ctx)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := s.Recv(); status.Code(err) != codes.Canceled {
				t.Errorf("answered %v, at the edge %v: %v, want Canceled", answered, addr == e.http, err)
			}
		}
	}
}

// startCanceller is an HTTP/2 server that resets each stream, perhaps after the
// head of an answer.
func startCanceller(t *testing.T, answer bool) (addr string) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	var head bytes.Buffer
	enc := hpack.NewEncoder(&head)
	enc.WriteField(hpack.HeaderField{Name: ":status", Value: "200"})
	enc.WriteField(hpack.HeaderField{Name: "content-type", Value: "application/grpc"})
	serve := func(nc net.Conn) {
		defer nc.Close()
		if _, err := io.ReadFull(nc, make([]byte, len(http2.ClientPreface))); err != nil {
			return
		}
		fr := http2.NewFramer(nc, nc)
		fr.WriteSettings()
		for {
			f, err := fr.ReadFrame()
			if err != nil {
				return
			}
			switch f := f.(type) {
			case *http2.SettingsFrame:
				if !f.IsAck() {
					fr.WriteSettingsAck()
				}
			case *http2.HeadersFrame:
				if answer {
					// The same block each time: it is all in the static table or literal.
					fr.WriteHeaders(http2.HeadersFrameParam{StreamID: f.StreamID, BlockFragment: head.Bytes(), EndHeaders: true})
				}
				fr.WriteRSTStream(f.StreamID, http2.ErrCodeCancel)
			}
		}
	}
	go func() {
		for {
			nc, err := l.Accept()
			if err != nil {
				return
			}
			go serve(nc)
		}
	}()
	return l.Addr().String()
}

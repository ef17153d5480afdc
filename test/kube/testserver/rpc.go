package testserver

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/encoding"
	_ "google.golang.org/grpc/encoding/proto" // registers the codec that Codec wraps
	"google.golang.org/grpc/health"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/mem"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
)

// The gRPC service. Its messages are plain bytes (see Codec), so that no
// generated code is needed: the server sends back what it got. Answers have
// PodHeader and NumberHeader in their header metadata. When the server ends,
// streams end with UNAVAILABLE and EndingMessage.
const (
	Service            = "gatehouse.test.Echo"
	UnaryMethod        = "/" + Service + "/Unary"
	ServerStreamMethod = "/" + Service + "/ServerStream" // the message again and again: see Wish
	ClientStreamMethod = "/" + Service + "/ClientStream" // answers BodySum of all messages in a row
	BidiMethod         = "/" + Service + "/Bidi"

	EndingMessage = "the pod is ending"
)

// Codec encodes *[]byte as it is, and everything else as Protocol Buffers.
type Codec struct{ encoding.CodecV2 }

// NewCodec is the Codec for grpc.ForceServerCodecV2 and grpc.ForceCodecV2.
func NewCodec() Codec { return Codec{encoding.GetCodecV2("proto")} }

// Marshal implements encoding.CodecV2.
func (c Codec) Marshal(v any) (mem.BufferSlice, error) {
	if b, ok := v.(*[]byte); ok {
		return mem.BufferSlice{mem.SliceBuffer(*b)}, nil
	}
	return c.CodecV2.Marshal(v)
}

// Unmarshal implements encoding.CodecV2.
func (c Codec) Unmarshal(data mem.BufferSlice, v any) error {
	if b, ok := v.(*[]byte); ok {
		*b = data.Materialize()
		return nil
	}
	return c.CodecV2.Unmarshal(data, v)
}

func (s *Server) newRPC() (*grpc.Server, *health.Server) {
	server := grpc.NewServer(grpc.ForceServerCodecV2(NewCodec()))
	server.RegisterService(&grpc.ServiceDesc{
		ServiceName: Service,
		HandlerType: (*any)(nil),
		Methods: []grpc.MethodDesc{{MethodName: "Unary", Handler: func(
			_ any, ctx context.Context, decode func(any) error, _ grpc.UnaryServerInterceptor,
		) (any, error) {
			return s.unary(ctx, decode)
		}}},
		Streams: []grpc.StreamDesc{
			{StreamName: "ServerStream", Handler: s.serverStream, ServerStreams: true},
			{StreamName: "ClientStream", Handler: s.clientStream, ClientStreams: true},
			{StreamName: "Bidi", Handler: s.bidi, ServerStreams: true, ClientStreams: true},
		},
	}, s)
	checks := health.NewServer()
	checks.SetServingStatus(Service, healthpb.HealthCheckResponse_SERVING)
	healthpb.RegisterHealthServer(server, checks)
	return server, checks
}

// begin counts a call, makes its header metadata and grants its wish, but for
// the number of answers.
func (s *Server) begin(ctx context.Context) (metadata.MD, *Wish, error) {
	header := metadata.Pairs(PodHeader, s.options.Pod)
	if number := first(ctx, NumberHeader); number != "" {
		header.Set(NumberHeader, number)
		s.count(number)
	}
	wish, err := parseWish(first(ctx, WishHeader))
	if err != nil {
		return nil, nil, status.Error(codes.InvalidArgument, err.Error())
	}
	if err := s.wait(ctx, wish.delay); err != nil {
		return nil, nil, err
	}
	if wish.status != 0 {
		return nil, nil, status.Error(codes.Code(wish.status), "as wished")
	}
	return header, wish, nil
}

func (s *Server) wait(ctx context.Context, d time.Duration) error {
	if d <= 0 {
		return nil
	}
	select {
	case <-time.After(d):
		return nil
	case <-ctx.Done():
		return status.FromContextError(ctx.Err()).Err()
	}
}

func (s *Server) endingError() error {
	return status.Error(codes.Unavailable, EndingMessage+": "+s.options.Pod)
}

func (s *Server) unary(ctx context.Context, decode func(any) error) (any, error) {
	var message []byte
	if err := decode(&message); err != nil {
		return nil, err
	}
	header, _, err := s.begin(ctx)
	if err != nil {
		return nil, err
	}
	if err := grpc.SetHeader(ctx, header); err != nil {
		return nil, err
	}
	return &message, nil
}

func (s *Server) serverStream(_ any, stream grpc.ServerStream) error {
	var message []byte
	if err := stream.RecvMsg(&message); err != nil {
		return err
	}
	header, wish, err := s.begin(stream.Context())
	if err != nil {
		return err
	}
	if err := stream.SendHeader(header); err != nil {
		return err
	}
	for i := range max(wish.chunks, 1) {
		select {
		case <-s.ended:
			return s.endingError()
		default:
		}
		if i > 0 {
			if err := s.wait(stream.Context(), wish.every); err != nil {
				return err
			}
		}
		if err := stream.SendMsg(&message); err != nil {
			return err
		}
	}
	return nil
}

func (s *Server) clientStream(_ any, stream grpc.ServerStream) error {
	header, _, err := s.begin(stream.Context())
	if err != nil {
		return err
	}
	if err := stream.SetHeader(header); err != nil {
		return err
	}
	sum := bodySum{hash: sha256.New()}
	for {
		var message []byte
		err := stream.RecvMsg(&message)
		if errors.Is(err, io.EOF) {
			answer := fmt.Append(nil, sum.String())
			return stream.SendMsg(&answer)
		}
		if err != nil {
			return err
		}
		sum.Write(message)
	}
}

func (s *Server) bidi(_ any, stream grpc.ServerStream) error {
	header, _, err := s.begin(stream.Context())
	if err != nil {
		return err
	}
	if err := stream.SendHeader(header); err != nil {
		return err
	}
	over := make(chan error, 1)
	go func() { // ends with the stream's context, when bidi has returned
		for {
			var message []byte
			err := stream.RecvMsg(&message)
			if err == nil {
				err = stream.SendMsg(&message)
			}
			if err != nil {
				over <- err
				return
			}
		}
	}()
	select {
	case err := <-over:
		if errors.Is(err, io.EOF) {
			return nil
		}
		return err
	case <-s.ended:
		return s.endingError()
	}
}

func first(ctx context.Context, name string) string {
	if values := metadata.ValueFromIncomingContext(ctx, name); len(values) > 0 {
		return values[0]
	}
	return ""
}

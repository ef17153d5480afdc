// Package testserver is the backend of the end-to-end tests: a server that
// tells what it received, counts what it executed and ends as a well-made
// server does, or as a bad one. It speaks HTTP/1.1, HTTP/2, WebSocket and gRPC.
// It takes Options and gives answers; it never calls out but to the Collector.
//
// HTTP (see Received for the answer, Wish for what a request can ask for):
//
//	/ready        200, and 503 once the server was told to end
//	/live         200
//	/counts       Seen, of ?run=RUN, with ?all=1 with all numbers
//	anything else the echo; a WebSocket echo when the request asks for that
//
// gRPC: see Service; and grpc.health.v1.
package testserver

import (
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/health"
)

// Headers of requests and answers; in gRPC they are metadata.
const (
	NumberHeader = "X-Request-Number" // RUN-N in requests and their answers
	PodHeader    = "X-Pod"            // in answers: who executed the request
	BodyHeader   = "X-Body"           // in answers: size and hash of the request's body, see BodySum
	WishHeader   = "X-Wish"           // in requests: a Wish, as in the query
)

// Server is the backend of the end-to-end tests.
type Server struct {
	Counter

	options  Options
	log      *slog.Logger
	reporter *reporter
	web      *http.Server
	rpc      *grpc.Server
	health   *health.Server

	ending  atomic.Bool   // no more ready
	ended   chan struct{} // closed when streams must end
	streams sync.WaitGroup

	listening chan struct{} // closed when the addresses are known
	addrs     [3]net.Addr
}

// New makes a Server; nothing listens yet.
func New(o Options, log *slog.Logger) (*Server, error) {
	s := &Server{options: o, log: log, ended: make(chan struct{}), listening: make(chan struct{})}
	config, err := tlsConfig(o)
	if err != nil {
		return nil, err
	}
	if o.Collector != "" {
		pod := cmp.Or(o.Pod, "pod") + "@" + strconv.FormatInt(time.Now().UnixNano(), 36)
		s.reporter = &reporter{addr: o.Collector, pod: pod}
	}
	s.web = &http.Server{
		Handler: http.HandlerFunc(s.serve), TLSConfig: config, ConnContext: withTap,
		ErrorLog: slog.NewLogLogger(log.Handler(), slog.LevelDebug), Protocols: new(http.Protocols),
	}
	s.web.Protocols.SetHTTP1(true)
	s.web.Protocols.SetHTTP2(true)
	s.web.Protocols.SetUnencryptedHTTP2(true)
	s.rpc, s.health = s.newRPC()
	return s, nil
}

// Addrs waits until the server listens and gives the addresses of HTTP, HTTPS
// and gRPC; nil where Options has none, and when ctx ended before.
func (s *Server) Addrs(ctx context.Context) (web, secure, rpc net.Addr) {
	select {
	case <-s.listening:
		return s.addrs[0], s.addrs[1], s.addrs[2]
	case <-ctx.Done():
		return nil, nil, nil
	}
}

// Run serves until ctx ends, and then ends as Options says. It is an error when
// an address cannot be had, or when requests were still open after the drain.
func (s *Server) Run(ctx context.Context) error {
	listeners, err := s.listen()
	if err != nil {
		return err
	}
	close(s.listening)
	var servers sync.WaitGroup
	failed := make(chan error, len(listeners))
	for i, serve := range []func(net.Listener) error{
		func(l net.Listener) error { return s.web.Serve(tapListener{l}) },
		func(l net.Listener) error { return s.web.ServeTLS(l, "", "") },
		s.rpc.Serve,
	} {
		if listeners[i] == nil {
			continue
		}
		servers.Go(func() {
			if err := serve(listeners[i]); err != nil && !errors.Is(err, http.ErrServerClosed) {
				failed <- fmt.Errorf("cannot serve: %w", err)
			}
		})
	}
	s.log.Info("serving", "pod", s.options.Pod)
	select {
	case <-ctx.Done():
		err = s.end()
	case err = <-failed:
		s.abort()
	}
	servers.Wait()
	return errors.Join(err, s.reported())
}

func (s *Server) listen() (listeners [3]net.Listener, err error) {
	for i, addr := range []string{s.options.HTTPAddr, s.options.HTTPSAddr, s.options.GRPCAddr} {
		if addr == "" {
			continue
		}
		if listeners[i], err = net.Listen("tcp", addr); err != nil {
			for _, l := range listeners {
				if l != nil {
					l.Close()
				}
			}
			return listeners, fmt.Errorf("cannot listen: %w", err)
		}
		s.addrs[i] = listeners[i].Addr()
	}
	return listeners, nil
}

// end is the graceful end, in its two steps.
func (s *Server) end() error {
	if s.options.Abrupt {
		s.abort()
		return nil
	}
	s.ending.Store(true)
	s.health.Shutdown()
	s.log.Info("ending", "grace", s.options.Grace, "drain", s.options.Drain)
	<-time.After(s.options.Grace)
	close(s.ended)
	ctx, cancel := context.WithTimeout(context.Background(), s.options.Drain)
	defer cancel()
	var err error
	var parts sync.WaitGroup
	parts.Go(func() {
		if err = s.web.Shutdown(ctx); err != nil {
			err = fmt.Errorf("cannot end in time: %w", err)
			s.web.Close()
		}
		s.streams.Wait() // WebSockets are not the web server's any more; they have a deadline
	})
	stop := context.AfterFunc(ctx, s.rpc.Stop)
	s.rpc.GracefulStop()
	stop()
	parts.Wait()
	return err
}

func (s *Server) abort() {
	s.web.Close()
	s.rpc.Stop()
	select {
	case <-s.ended:
	default:
		close(s.ended)
	}
}

func (s *Server) reported() error {
	if s.reporter == nil {
		return nil
	}
	if err := s.reporter.close(); err != nil {
		return fmt.Errorf("cannot report what was executed: %w", err)
	}
	return nil
}

// count counts the execution of a request that has a number.
func (s *Server) count(number string) {
	if number == "" {
		return
	}
	s.Add(number, s.options.Pod)
	if s.reporter == nil {
		return
	}
	// Not the client's failure: what is missing at the collector shows there.
	if err := s.reporter.report(number); err != nil {
		s.log.Warn("cannot report a request", "number", number, "error", err)
	}
}

func tlsConfig(o Options) (*tls.Config, error) {
	config := &tls.Config{ClientAuth: tls.RequestClientCert, NextProtos: []string{"h2", "http/1.1"}}
	if o.HTTPSAddr == "" {
		return config, nil
	}
	cert, err := certificate(o)
	if err != nil {
		return nil, err
	}
	config.Certificates = []tls.Certificate{cert}
	if o.ClientCAFile != "" {
		config.ClientAuth = tls.RequireAndVerifyClientCert
		config.ClientCAs, err = authorities(o.ClientCAFile)
	}
	return config, err
}

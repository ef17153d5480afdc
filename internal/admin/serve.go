package admin

import (
	"context"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"sync"
	"time"
)

const (
	maxConnections = 256
	// maxAnswerTime also bounds ?seconds= of a profile.
	maxAnswerTime = 2 * time.Minute
	drainTime     = 3 * time.Second
)

// Serve answers on ln until ctx ends, then gives open requests three seconds
// and closes ln. Requests see their context end with ctx. Of more than 256
// connections the later ones are closed at once. It returns nil after ctx
// ended, and an error when ln fails before.
func Serve(ctx context.Context, ln net.Listener, h http.Handler) error {
	srv := &http.Server{
		Handler:           h,
		ReadHeaderTimeout: 5 * time.Second,
		ReadTimeout:       10 * time.Second,
		WriteTimeout:      maxAnswerTime,
		IdleTimeout:       2 * time.Minute, // longer than common scrape intervals
		MaxHeaderBytes:    16 << 10,
		BaseContext:       func(net.Listener) context.Context { return ctx },
		// What goes wrong on single connections is the client's affair;
		// panics do not get this far.
		ErrorLog: log.New(io.Discard, "", 0),
	}
	ended := make(chan error, 1)
	go func() { ended <- srv.Serve(&cappedListener{Listener: ln, open: make(chan struct{}, maxConnections)}) }()
	select {
	case err := <-ended:
		return fmt.Errorf("cannot serve %s: %w", ln.Addr(), err)
	case <-ctx.Done():
	}
	drain, cancel := context.WithTimeout(context.WithoutCancel(ctx), drainTime)
	defer cancel()
	if srv.Shutdown(drain) != nil {
		_ = srv.Close() // whoever is still there has had the time
	}
	<-ended
	return nil
}

// cappedListener closes connections beyond the capacity of open, so that no
// one who reaches the health address can use up the file descriptors that
// traffic needs.
type cappedListener struct {
	net.Listener
	open chan struct{} // holds one element per open connection
}

func (l *cappedListener) Accept() (net.Conn, error) {
	for {
		c, err := l.Listener.Accept()
		if err != nil {
			return nil, err
		}
		select {
		case l.open <- struct{}{}:
			return &cappedConn{Conn: c, release: sync.OnceFunc(func() { <-l.open })}, nil
		default:
			_ = c.Close()
		}
	}
}

type cappedConn struct {
	net.Conn
	release func()
}

func (c *cappedConn) Close() error {
	defer c.release()
	return c.Conn.Close()
}

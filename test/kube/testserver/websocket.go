package testserver

import (
	"bufio"
	"fmt"
	"net"
	"net/http"
	"sync"
	"time"

	"gatehouse.dev/gatehouse/test/kube/testserver/wsframe"
)

// closeTimeout bounds the closing handshake of a WebSocket.
const closeTimeout = 5 * time.Second

// webSocket answers the upgrade and echoes frames until either side ends it. At
// the server's end it sends a Close frame, 1001, and waits for the client's.
func (s *Server) webSocket(w http.ResponseWriter, r *http.Request) {
	key := r.Header.Get("Sec-WebSocket-Key")
	if r.ProtoMajor != 1 || key == "" || r.Header.Get("Sec-WebSocket-Version") != "13" {
		http.Error(w, "no WebSocket handshake", http.StatusBadRequest)
		return
	}
	// Known as a stream before the web server forgets it.
	s.streams.Add(1)
	defer s.streams.Done()
	conn, rw, err := http.NewResponseController(w).Hijack()
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	defer conn.Close()
	conn.SetDeadline(time.Time{})
	fmt.Fprintf(rw, "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"+
		"Sec-WebSocket-Accept: %s\r\n%s: %s\r\n", wsframe.Accept(key), PodHeader, s.options.Pod)
	if number := r.Header.Get(NumberHeader); number != "" {
		fmt.Fprintf(rw, "%s: %s\r\n", NumberHeader, number)
	}
	fmt.Fprint(rw, "\r\n")
	if rw.Flush() != nil {
		return
	}
	e := &webSocketEcho{conn: conn}
	over := make(chan struct{})
	var closer sync.WaitGroup
	closer.Go(func() {
		select {
		case <-s.ended:
			if s.options.Abrupt {
				conn.Close()
				return
			}
			e.end(wsframe.CloseFrame(wsframe.StatusGoingAway, "the pod is ending"))
		case <-over:
		}
	})
	e.run(rw.Reader)
	close(over)
	closer.Wait()
}

type webSocketEcho struct {
	conn net.Conn

	mu     sync.Mutex
	closed bool // a Close frame was sent: nothing may follow it
}

// run echoes until the closing handshake is done or the connection broke.
func (e *webSocketEcho) run(r *bufio.Reader) {
	for {
		f, err := wsframe.Read(r, true)
		if err != nil {
			return
		}
		switch f.Opcode {
		case wsframe.Pong:
		case wsframe.Ping:
			f.Opcode = wsframe.Pong
			e.send(f)
		case wsframe.Close:
			e.end(f)
			return
		default:
			e.send(f)
		}
	}
}

func (e *webSocketEcho) send(f wsframe.Frame) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.closed {
		return
	}
	// An error shows at the next read.
	e.conn.Write(wsframe.Append(nil, f, false))
}

// end sends a Close frame, unless one was sent before, and sets the time until
// which the client's is waited for.
func (e *webSocketEcho) end(f wsframe.Frame) {
	e.send(f)
	e.mu.Lock()
	defer e.mu.Unlock()
	e.closed = true
	e.conn.SetDeadline(time.Now().Add(closeTimeout))
}

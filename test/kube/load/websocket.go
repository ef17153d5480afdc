package load

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"time"

	"gatehouse.dev/gatehouse/test/kube/testserver"
	"gatehouse.dev/gatehouse/test/kube/testserver/wsframe"
)

// webSocket holds a connection open until ctx ends, and opens it anew after each
// end.
func (f *flow) webSocket(ctx context.Context, p *pace) {
	for p.wait(ctx) {
		s, err := f.openWebSocket()
		if err != nil {
			f.fail(*err)
			continue
		}
		s.hold(ctx, p)
	}
}

// session is an open WebSocket.
type session struct {
	*flow
	conn    *watched
	pod     string
	frames  chan wsframe.Frame
	over    chan error // what ended reading, once frames is closed
	pending []message  // the oldest first
	count   int
}

type message struct {
	text  string
	begun time.Time
}

func (f *flow) openWebSocket() (*session, *Failure) {
	number, begun := f.number(), time.Now()
	f.sent()
	conn, err := f.connect("http/1.1")
	if err != nil {
		return nil, &Failure{Begun: begun, Number: number, Cause: err.Error()}
	}
	s := &session{flow: f, conn: &watched{Conn: conn}, frames: make(chan wsframe.Frame), over: make(chan error, 1)}
	failed := func(err error) (*session, *Failure) {
		conn.Close()
		return nil, &Failure{
			Begun: begun, Local: s.local(), Number: number,
			Cause: "cannot open a WebSocket: " + err.Error(), Read: string(s.conn.read),
		}
	}
	conn.SetDeadline(begun.Add(f.options.Timeout))
	const key = "dGhlIHNhbXBsZSBub25jZQ=="
	_, err = fmt.Fprintf(conn, "GET %s HTTP/1.1\r\nHost: %s\r\n%s: %s\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"+
		"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: %s\r\n\r\n", f.Path, f.Host, testserver.NumberHeader, number, key)
	if err != nil {
		return failed(err)
	}
	br := bufio.NewReader(s.conn)
	resp, err := answer(br, http.MethodGet)
	if err != nil {
		return failed(err)
	}
	if resp.StatusCode != http.StatusSwitchingProtocols || resp.Header.Get("Sec-WebSocket-Accept") != wsframe.Accept(key) {
		return failed(errors.New("the answer is " + resp.Status))
	}
	s.pod = resp.Header.Get(testserver.PodHeader)
	f.succeed(number, s.pod, begun)
	conn.SetDeadline(time.Time{})
	go s.read(br)
	return s, nil
}

func (s *session) local() string { return s.conn.LocalAddr().String() }

func (s *session) read(br *bufio.Reader) {
	defer close(s.frames)
	for {
		f, err := wsframe.Read(br, false)
		if err != nil {
			s.over <- err
			return
		}
		s.frames <- f
	}
}

// hold sends a message at every beat until the connection ends or ctx does; then
// it waits for the messages on the way and closes.
func (s *session) hold(ctx context.Context, p *pace) {
	defer s.hangUp()
	stopping := ctx.Done()
	beat := time.NewTimer(time.Until(p.next))
	defer beat.Stop()
	expiry := time.NewTimer(s.options.Timeout)
	defer expiry.Stop()
	for {
		if stopping == nil && len(s.pending) == 0 {
			s.close()
			return
		}
		if len(s.pending) > 0 {
			expiry.Reset(time.Until(s.pending[0].begun.Add(s.options.Timeout)))
		}
		select {
		case <-stopping:
			stopping = nil
			beat.Stop()
		case <-beat.C:
			if stopping != nil {
				p.beat()
				beat.Reset(time.Until(p.next))
				s.send()
			}
		case <-expiry.C:
			if len(s.pending) > 0 {
				s.failed("no echo in time", nil)
				return
			}
		case f, ok := <-s.frames:
			if !s.frame(f, ok) {
				return
			}
		}
	}
}

func (s *session) hangUp() {
	s.conn.Close()
	for range s.frames { // until read has ended
	}
}

func (s *session) send() {
	s.count++
	m := message{text: s.run + " " + s.local() + " " + strconv.Itoa(s.count), begun: time.Now()}
	s.sent()
	s.pending = append(s.pending, m)
	s.write(wsframe.Frame{Fin: true, Opcode: wsframe.Text, Payload: []byte(m.text)})
}

func (s *session) write(f wsframe.Frame) {
	s.conn.SetWriteDeadline(time.Now().Add(s.options.Timeout))
	s.conn.Write(wsframe.Append(nil, f, true)) // an error shows at the next read
}

// frame takes a frame, or the connection's end; false when it is over.
func (s *session) frame(f wsframe.Frame, ok bool) bool {
	if !ok {
		err := <-s.over
		if errors.Is(err, io.EOF) {
			err = errors.New("the connection ended")
		}
		s.failed("no Close frame", err)
		return false
	}
	switch f.Opcode {
	case wsframe.Ping:
		f.Opcode = wsframe.Pong
		s.write(f)
		return true
	case wsframe.Pong:
		return true
	case wsframe.Close:
		s.closed(f)
		return false
	}
	if len(s.pending) == 0 || string(f.Payload) != s.pending[0].text {
		s.failed(fmt.Sprintf("a wrong message: %q", f.Payload), nil)
		return false
	}
	s.succeed("", s.pod, s.pending[0].begun)
	s.pending = s.pending[1:]
	return true
}

// closed judges a Close frame and answers it.
func (s *session) closed(f wsframe.Frame) {
	code, reason := f.CloseStatus()
	cause := fmt.Sprintf("Close %d %s", code, reason)
	switch code {
	case wsframe.StatusNormal, wsframe.StatusGoingAway, wsframe.StatusRestart:
		s.end(End{Local: s.local(), Pod: s.pod, Cause: cause}, len(s.pending))
	default:
		s.failed(cause, nil)
	}
	s.write(f)
}

// failed records a failure: of the oldest message on the way, and the number of
// the others counts too.
func (s *session) failed(cause string, err error) {
	if err != nil {
		cause += ": " + err.Error()
	}
	failure := Failure{Local: s.local(), Cause: cause, Read: string(s.conn.read)}
	if len(s.pending) == 0 {
		s.fail(failure)
	}
	for _, m := range s.pending {
		failure.Begun, failure.Number = m.begun, m.text
		s.fail(failure)
	}
}

// close is the client's own closing handshake: the server must answer it.
func (s *session) close() {
	s.write(wsframe.CloseFrame(wsframe.StatusNormal, ""))
	timeout := time.NewTimer(s.options.Timeout)
	defer timeout.Stop()
	for {
		select {
		case <-timeout.C:
			s.failed("no answer to Close in time", nil)
			return
		case f, ok := <-s.frames:
			if ok && f.Opcode != wsframe.Close {
				continue
			}
			if !ok {
				s.failed("no answer to Close", <-s.over)
			}
			return
		}
	}
}

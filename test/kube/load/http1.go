package load

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"strings"
	"time"

	"gatehouse.dev/gatehouse/test/kube/testserver"
)

// worker1 is a client with one HTTP/1.1 connection.
type worker1 struct {
	*flow
	*pace

	conn *watched // nil for none
	br   *bufio.Reader
}

// watched is a connection that remembers the last that was read.
type watched struct {
	net.Conn
	read []byte
}

const maxRead = 1024

func (w *watched) Read(b []byte) (int, error) {
	n, err := w.Conn.Read(b)
	w.read = append(w.read, b[:n]...)
	w.read = w.read[max(0, len(w.read)-maxRead):]
	return n, err
}

func (w *worker1) work(ctx context.Context) {
	defer w.close()
	for w.idle(ctx) {
		w.sent()
		request := w.request()
		if w.conn == nil {
			conn, err := w.connect("http/1.1")
			if err != nil {
				w.fail(Failure{Begun: request.begun, Number: request.number, Cause: err.Error()})
				continue
			}
			w.conn = &watched{Conn: conn}
			w.br = bufio.NewReader(w.conn)
		}
		w.exchange(request)
	}
}

func (w *worker1) close() {
	if w.conn != nil {
		w.conn.Close()
		w.conn = nil
	}
}

// idle waits for the next beat and watches the connection meanwhile, on which
// nothing may come. It is false when ctx ended.
func (w *worker1) idle(ctx context.Context) bool {
	for looked := false; w.conn != nil; looked = true {
		left := time.Until(w.next)
		if ctx.Err() != nil {
			return false
		}
		if looked && left <= 0 {
			break
		}
		// In small steps, since ctx does not end a read; and at least once, also
		// when the beat is over.
		w.conn.SetReadDeadline(time.Now().Add(min(max(left, time.Millisecond), 50*time.Millisecond)))
		_, err := w.br.Peek(1)
		if !errors.Is(err, os.ErrDeadlineExceeded) {
			w.unexpected(err)
		}
	}
	return w.wait(ctx)
}

// unexpected is an end of an idle connection, or bytes on it.
func (w *worker1) unexpected(err error) {
	local := w.conn.LocalAddr().String()
	cause := "the connection ended between two requests, without Connection: close"
	switch {
	case err == nil:
		cause = "bytes between two requests"
	case errors.Is(err, io.EOF):
		w.idleClosed()
		if w.options.AllowIdleClose {
			cause = ""
		}
	default:
		cause += ": " + err.Error()
	}
	if cause != "" {
		w.fail(Failure{Local: local, Cause: cause, Read: string(w.conn.read)})
	}
	w.close()
}

// request is one that is about to be sent.
type request struct {
	number string
	post   bool
	fresh  bool // ends the connection
	body   []byte
	begun  time.Time
}

func (f *flow) request() *request {
	r := &request{number: f.number(), post: rand.Float64() < f.Posts, fresh: rand.Float64() < f.Fresh, begun: time.Now()}
	if r.post {
		// Another one each time, so that an answer to another is found.
		r.body = bytes.Repeat([]byte(r.number+"."), f.BodySize/(len(r.number)+1)+1)[:f.BodySize]
	}
	return r
}

func (r *request) method() string {
	if r.post {
		return http.MethodPost
	}
	return http.MethodGet
}

// head1 is the request's head in HTTP/1.1.
func (f *flow) head1(r *request) []byte {
	var b bytes.Buffer
	fmt.Fprintf(&b, "%s %s HTTP/1.1\r\nHost: %s\r\n%s: %s\r\nUser-Agent: gatehouse-load\r\n",
		r.method(), f.Path, f.Host, testserver.NumberHeader, r.number)
	if r.post {
		fmt.Fprintf(&b, "Content-Length: %d\r\n", len(r.body))
	}
	if r.fresh {
		b.WriteString("Connection: close\r\n")
	}
	b.WriteString("\r\n")
	return b.Bytes()
}

func (w *worker1) exchange(r *request) {
	w.conn.read = w.conn.read[:0]
	w.conn.SetDeadline(time.Now().Add(w.options.Timeout))
	failed := func(err error) {
		w.fail(Failure{
			Begun: r.begun, Local: w.conn.LocalAddr().String(), Number: r.number, Cause: err.Error(), Read: string(w.conn.read),
		})
		w.close()
	}
	if _, err := w.conn.Write(append(w.head1(r), r.body...)); err != nil {
		failed(fmt.Errorf("cannot write: %w", err))
		return
	}
	resp, err := answer(w.br, r.method())
	if err != nil {
		failed(fmt.Errorf("cannot read the answer: %w", err))
		return
	}
	if _, err := io.Copy(io.Discard, resp.Body); err != nil {
		failed(fmt.Errorf("cannot read the answer's body: %w", err))
		return
	}
	if err := check(r, resp.StatusCode, resp.Header.Get); err != nil {
		failed(err)
		return
	}
	w.succeed(r.number, resp.Header.Get(testserver.PodHeader), r.begun)
	if resp.Close || r.fresh {
		w.close()
	}
}

// answer reads an answer's head, past interim ones.
func answer(br *bufio.Reader, method string) (*http.Response, error) {
	for {
		resp, err := http.ReadResponse(br, &http.Request{Method: method})
		if err != nil || resp.StatusCode >= 200 || resp.StatusCode == http.StatusSwitchingProtocols {
			return resp, err
		}
	}
}

// check compares an answer with its request.
func check(r *request, status int, header func(string) string) error {
	if status != http.StatusOK {
		return fmt.Errorf("the answer is %d", status)
	}
	var wrong []string
	for name, want := range map[string]string{testserver.NumberHeader: r.number, testserver.BodyHeader: testserver.BodySum(r.body)} {
		if got := header(name); got != want {
			wrong = append(wrong, fmt.Sprintf("%s is %q, want %q", name, got, want))
		}
	}
	if len(wrong) > 0 {
		return errors.New("the answer is to another request: " + strings.Join(wrong, ", "))
	}
	return nil
}

package testserver

import (
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"
)

// Wish is what a request may ask the echo for, by its query or by WishHeader in
// the same form. Names that it does not know are ignored, since queries may be
// under test too.
//
//	status=503       the answer's status; a 1xx is sent before a 200
//	delay=2s         wait before the answer, after the request's body
//	size=1000        a body of as many bytes, instead of Received
//	chunks=5         the body of size bytes so many times, each flushed by itself,
//	every=100ms      with a pause between two of them
//	header=Name:x    a header of the answer; may be repeated
//	trailer=Name:x   a trailer of the answer; may be repeated
//	close=1          end the connection after the answer (HTTP/2: GOAWAY)
//	early=1          answer without reading the request's body
//	abort=1          cut the connection (HTTP/2: the stream) instead of an answer
//
// In gRPC, WishHeader takes status (a code's number), delay, and chunks and
// every for ServerStream.
type Wish struct {
	status              int
	delay, every        time.Duration
	size, chunks        int
	headers, trailers   [][2]string
	close, early, abort bool
}

const maxWished = 1 << 30 // bytes of an answer

func wishOf(r *http.Request) (*Wish, error) {
	w, err := parseWish(r.URL.RawQuery)
	if asked := r.Header.Get(WishHeader); err == nil && asked != "" {
		w, err = parseWish(asked)
	}
	return w, err
}

func parseWish(text string) (*Wish, error) {
	w := &Wish{size: -1}
	for _, pair := range strings.Split(text, "&") {
		name, value, _ := strings.Cut(pair, "=")
		value, err := url.QueryUnescape(value)
		if err != nil {
			continue // a query under test
		}
		switch name {
		case "status":
			w.status, err = strconv.Atoi(value)
		case "delay":
			w.delay, err = time.ParseDuration(value)
		case "every":
			w.every, err = time.ParseDuration(value)
		case "size":
			w.size, err = strconv.Atoi(value)
		case "chunks":
			w.chunks, err = strconv.Atoi(value)
		case "header", "trailer":
			field, content, _ := strings.Cut(value, ":")
			list := &w.headers
			if name == "trailer" {
				list = &w.trailers
			}
			*list = append(*list, [2]string{field, content})
		case "close":
			w.close = value != ""
		case "early":
			w.early = value != ""
		case "abort":
			w.abort = value != ""
		}
		if err != nil || w.size > maxWished || w.status < 0 || w.status > 999 {
			return nil, wishError(name, value)
		}
	}
	return w, nil
}

// write writes the answer.
func (w *Wish) write(rw http.ResponseWriter, r *http.Request, received *Received) {
	h := rw.Header()
	for _, f := range w.headers {
		h.Add(f[0], f[1])
	}
	for _, f := range w.trailers {
		h.Add("Trailer", f[0])
	}
	status := w.status
	if status >= 100 && status < 200 {
		rw.WriteHeader(status)
		status = 0
	}
	if status == 0 {
		status = http.StatusOK
	}
	switch {
	case status == http.StatusNoContent || status == http.StatusNotModified:
		rw.WriteHeader(status)
	case w.chunks > 0:
		rw.WriteHeader(status)
		w.stream(rw, r)
	case w.size >= 0:
		if len(w.trailers) == 0 {
			h.Set("Content-Length", strconv.Itoa(w.size))
		}
		rw.WriteHeader(status)
		fill(rw, w.size)
	default:
		h.Set("Content-Type", "application/json")
		rw.WriteHeader(status)
		writeJSON(rw, received)
	}
	for _, f := range w.trailers {
		h.Set(f[0], f[1])
	}
}

func (w *Wish) stream(rw http.ResponseWriter, r *http.Request) {
	rc := http.NewResponseController(rw)
	for i := range w.chunks {
		if i > 0 && w.every > 0 {
			select {
			case <-time.After(w.every):
			case <-r.Context().Done():
				panic(http.ErrAbortHandler)
			}
		}
		fill(rw, max(w.size, 1))
		if err := rc.Flush(); err != nil {
			panic(http.ErrAbortHandler)
		}
	}
}

// fill writes n bytes.
func fill(rw http.ResponseWriter, n int) {
	block := strings.Repeat("x", min(n, 32<<10))
	for n > 0 {
		part := block[:min(n, len(block))]
		if _, err := rw.Write([]byte(part)); err != nil {
			panic(http.ErrAbortHandler)
		}
		n -= len(part)
	}
}

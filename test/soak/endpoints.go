package main

import (
	"context"
	"net"
	"net/http"
	"strconv"
	"time"
)

// pieces is in how many parts a response with pauses is sent.
const pieces = 8

// serveEndpoints answers at both endpoints' addresses: /one/SIZE and /other/SIZE with
// so many bytes, and ?pause=DURATION with such a pause before each piece.
func serveEndpoints(ctx context.Context) error {
	chunk := make([]byte, 64<<10)
	s := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		var size int
		for i := len(r.URL.Path) - 1; i >= 0 && r.URL.Path[i] != '/'; i-- {
			size, _ = strconv.Atoi(r.URL.Path[i:])
		}
		w.Header().Set("Content-Length", strconv.Itoa(size))
		pause, _ := time.ParseDuration(r.URL.Query().Get("pause"))
		most := len(chunk)
		if pause > 0 {
			most = min(most, size/pieces+1)
		}
		for size > 0 {
			if pause > 0 {
				http.NewResponseController(w).Flush()
				time.Sleep(pause)
			}
			n, err := w.Write(chunk[:min(size, most)])
			if err != nil {
				return
			}
			size -= n
		}
	})}
	l, err := net.Listen("tcp", "0.0.0.0:9000")
	if err != nil {
		return err
	}
	context.AfterFunc(ctx, func() { s.Close() })
	return s.Serve(l)
}

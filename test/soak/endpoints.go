package main

import (
	"context"
	"net"
	"net/http"
	"strconv"
)

// serveEndpoints answers at both endpoints' addresses: /one/SIZE and /other/SIZE with
// so many bytes.
func serveEndpoints(ctx context.Context) error {
	chunk := make([]byte, 64<<10)
	s := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		var size int
		for i := len(r.URL.Path) - 1; i >= 0 && r.URL.Path[i] != '/'; i-- {
			size, _ = strconv.Atoi(r.URL.Path[i:])
		}
		w.Header().Set("Content-Length", strconv.Itoa(size))
		for size > 0 {
			n, err := w.Write(chunk[:min(size, len(chunk))])
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

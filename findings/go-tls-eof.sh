#!/usr/bin/env bash
# Go's crypto/tls: an end without close_notify reads as io.EOF.
#
# One would guess: a TLS connection that is closed below TLS, without the closure
# alert, fails with io.ErrUnexpectedEOF, as it does with OpenSSL 3 ("unexpected eof
# while reading"), so that net/http tells a response whose end is that of its
# connection from one that was cut (RFC 9112, section 9.8: it is complete only if a
# valid closure alert has been received).
# What happens: at the end of a record Read gives io.EOF in both cases, and
# io.ReadAll of net/http's body gives the part without an error. Only an end within a
# record is io.ErrUnexpectedEOF. Who has to know must look below TLS: behind a
# close_notify crypto/tls does not read to the end of the socket.
# Version: go1.26.8. Source: crypto/tls/conn.go, readRecordOrCCS.
set -euo pipefail
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cd "$dir"
export GOTOOLCHAIN=go1.26.8 GOFLAGS=-mod=mod
cat > go.mod <<'MOD'
module finding

go 1.26
MOD
cat > main.go <<'GO'
package main

import (
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"runtime"
)

func main() {
	fmt.Println(runtime.Version())
	borrowed := httptest.NewTLSServer(nil) // its certificate
	defer borrowed.Close()
	cfg := &tls.Config{Certificates: borrowed.TLS.Certificates}
	changed := false
	for _, c := range []struct {
		name   string
		notice bool
		extra  string // below TLS, before the end
		want   error
	}{
		{"close_notify, then FIN", true, "", nil},
		{"FIN alone", false, "", nil},
		{"FIN within a record", false, "\x17\x03\x03\x00\x20abc", io.ErrUnexpectedEOF},
	} {
		body, err := get(cfg, c.notice, c.extra)
		fmt.Printf("%-24s body %q, error %v\n", c.name, body, err)
		if !errors.Is(err, c.want) || string(body) != "part of it" {
			changed = true
		}
	}
	if changed {
		fmt.Println("this has changed")
		os.Exit(1)
	}
}

func get(cfg *tls.Config, notice bool, extra string) ([]byte, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		panic(err)
	}
	defer l.Close()
	go func() {
		c, err := l.Accept()
		if err != nil {
			return
		}
		t := tls.Server(c, cfg)
		t.Read(make([]byte, 4096))
		io.WriteString(t, "HTTP/1.1 200 OK\r\nConnection: close\r\n\r\npart of it")
		if notice {
			t.CloseWrite()
		}
		io.WriteString(c, extra)
		c.(*net.TCPConn).CloseWrite()
		io.Copy(io.Discard, c)
		c.Close()
	}()
	client := http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}}}
	defer client.CloseIdleConnections()
	res, err := client.Get("https://" + l.Addr().String())
	if err != nil {
		return nil, err
	}
	defer res.Body.Close()
	return io.ReadAll(res.Body)
}
GO
go run .

package main

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
)

// observed is what clients saw.
type observed struct {
	Ended map[string]int // requests of closing clients, by how they ended
	// Broken are the ids of requests whose responses broke off, with how.
	Broken map[string]string
	// Slow are milliseconds of the timed requests, rising.
	Slow []float64
	// Slowest are the ids of requests that took more than a second, with when.
	Slowest map[string]string
	Failed  map[string]int // timed requests that failed
	Stalled int            // streams that waited for their window when the load ended
}

// tally is observed while it is being made.
type tally struct {
	mu sync.Mutex
	observed
}

func (t *tally) ended(id, how string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.Ended[how]++
	if how != whole && len(t.Broken) < 1000 {
		t.Broken[id] = how
	}
}

const whole = "whole"

// load does what the options say, and tells how it went.
func load(ctx context.Context, o options) *observed {
	await(ctx)
	ctx, cancel := context.WithTimeout(ctx, o.Length)
	defer cancel()
	t := &tally{observed: observed{Ended: map[string]int{}, Broken: map[string]string{}, Slowest: map[string]string{}, Failed: map[string]int{}}}
	var all sync.WaitGroup
	var stalled atomic.Int64
	for n := o.Stalled; n > 0; n -= streamsEach {
		all.Go(func() { stall(ctx, min(n, streamsEach), o.Stall, &stalled) })
	}
	for i := range o.Closing {
		all.Go(func() {
			for n := 0; ctx.Err() == nil; n++ {
				id := fmt.Sprintf("soak-%d-%d-%x", i, n, rand.Uint32())
				t.ended(id, askOnce(o, id, i < o.HalfShut))
			}
		})
	}
	for i := range o.Paced {
		all.Go(func() { pace(ctx, t, i) })
	}
	<-ctx.Done()
	t.mu.Lock()
	t.Stalled = int(stalled.Load())
	t.mu.Unlock()
	all.Wait()
	slices.Sort(t.Slow)
	return &t.observed
}

// await waits until Gatehouse serves.
func await(ctx context.Context) {
	for ctx.Err() == nil {
		res, err := http.Get("http://" + edge + ":9091/readyz")
		if err == nil {
			res.Body.Close()
			if res.StatusCode == http.StatusOK {
				return
			}
		}
		select {
		case <-ctx.Done():
		case <-time.After(50 * time.Millisecond):
		}
	}
}

// patience bounds one request.
const patience = 90 * time.Second

// askOnce makes a connection for one request, as its last, and says how it ended.
func askOnce(o options, id string, half bool) string {
	port := ":8080"
	if o.TLS {
		port = ":8443"
	}
	tc, err := net.DialTimeout("tcp", edge+port, patience)
	if err != nil {
		return "connect: " + kind(err)
	}
	defer tc.Close()
	tc.SetDeadline(time.Now().Add(patience))
	nc := tc
	if o.TLS {
		nc = tls.Client(tc, &tls.Config{InsecureSkipVerify: true, ServerName: "soak.test"})
	}
	if _, err := fmt.Fprintf(nc, "GET /one/%d?pause=%v HTTP/1.1\r\nHost: soak.test\r\nConnection: close\r\nX-Request-ID: %s\r\n\r\n", o.Size, o.Pause, id); err != nil {
		return "request: " + kind(err)
	}
	if w, ok := nc.(interface{ CloseWrite() error }); half && ok {
		if err := w.CloseWrite(); err != nil {
			return "request: " + kind(err)
		}
	}
	r := bufio.NewReaderSize(nc, 32<<10)
	if _, err := r.Peek(1); err != nil {
		return "no byte of the response: " + kind(err)
	}
	res, err := http.ReadResponse(r, nil)
	if err != nil {
		return "head: " + kind(err)
	}
	n, err := io.Copy(io.Discard, res.Body)
	switch {
	case err != nil:
		return "body: " + kind(err)
	case res.StatusCode != http.StatusOK:
		return "status " + strconv.Itoa(res.StatusCode)
	case n != int64(o.Size):
		return "body: short"
	}
	return whole
}

// kind is an error without what differs from one time to the next.
func kind(err error) string {
	var timeout net.Error
	switch {
	case errors.Is(err, syscall.ECONNRESET):
		return "reset"
	case errors.Is(err, syscall.ECONNREFUSED):
		return "refused"
	case errors.Is(err, io.ErrUnexpectedEOF), errors.Is(err, io.EOF):
		return "end"
	case errors.As(err, &timeout) && timeout.Timeout():
		return "timeout"
	}
	return err.Error()
}

// pace asks the other endpoint again and again, and times each request.
func pace(ctx context.Context, t *tally, number int) {
	start := time.Now()
	client := &http.Client{Timeout: patience, Transport: &http.Transport{}}
	for n := 0; ctx.Err() == nil; n++ {
		id := fmt.Sprintf("paced-%d-%d", number, n)
		req, _ := http.NewRequest("GET", "http://"+edge+":8080/other/100", nil)
		req.Host = "soak.test"
		req.Header.Set("X-Request-ID", id)
		began := time.Now()
		res, err := client.Do(req)
		if err == nil {
			_, err = io.Copy(io.Discard, res.Body)
			res.Body.Close()
		}
		took := time.Since(began)
		t.mu.Lock()
		switch {
		case err != nil:
			t.Failed[kind(err)]++
		case res.StatusCode != http.StatusOK:
			t.Failed["status "+strconv.Itoa(res.StatusCode)]++
		default:
			t.Slow = append(t.Slow, float64(took.Microseconds())/1000)
			if took >= time.Second && len(t.Slowest) < 20 {
				t.Slowest[id] = fmt.Sprintf("%.1f s, begun after %.1f s", took.Seconds(), began.Sub(start).Seconds())
			}
		}
		t.mu.Unlock()
		select {
		case <-ctx.Done():
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// streamsEach is how many streams Gatehouse lets one connection have.
const streamsEach = 128

// stall keeps a connection on which so many streams wait for a window that never
// opens; those that are ended are begun anew, on a new connection if need be.
func stall(ctx context.Context, streams, size int, stalled *atomic.Int64) {
	for ctx.Err() == nil {
		if err := stallOn(ctx, streams, size, stalled); err != nil {
			select {
			case <-ctx.Done():
			case <-time.After(100 * time.Millisecond):
			}
		}
	}
}

func stallOn(ctx context.Context, streams, size int, stalled *atomic.Int64) error {
	nc, err := net.DialTimeout("tcp", edge+":8080", patience)
	if err != nil {
		return err
	}
	defer nc.Close()
	defer context.AfterFunc(ctx, func() { nc.Close() })()
	open := int64(0)
	defer func() { stalled.Add(-open) }()
	w := bufio.NewWriter(nc)
	io.WriteString(w, http2.ClientPreface)
	fr := http2.NewFramer(w, bufio.NewReader(nc))
	fr.WriteSettings(http2.Setting{ID: http2.SettingInitialWindowSize, Val: 0})
	var block bytes.Buffer
	enc := hpack.NewEncoder(&block)
	for i := range streams {
		block.Reset()
		for _, f := range [][2]string{{":method", "GET"}, {":scheme", "http"}, {":authority", "soak.test"}, {":path", "/one/" + strconv.Itoa(size)}} {
			enc.WriteField(hpack.HeaderField{Name: f[0], Value: f[1]})
		}
		fr.WriteHeaders(http2.HeadersFrameParam{StreamID: uint32(2*i + 1), BlockFragment: block.Bytes(), EndStream: true, EndHeaders: true})
	}
	if err := w.Flush(); err != nil {
		return err
	}
	for {
		f, err := fr.ReadFrame()
		if err != nil {
			return err
		}
		switch f := f.(type) {
		case *http2.HeadersFrame:
			open++
			stalled.Add(1)
		case *http2.RSTStreamFrame:
			open--
			stalled.Add(-1)
		case *http2.SettingsFrame:
			if !f.IsAck() {
				fr.WriteSettingsAck()
				w.Flush()
			}
		case *http2.PingFrame:
			if !f.IsAck() {
				fr.WritePing(true, f.Data)
				w.Flush()
			}
		}
	}
}

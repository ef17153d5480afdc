package load

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"time"

	"golang.org/x/net/http2"
)

const maxFrames = 12 // remembered

// read reads frames until the connection ends, and judges the end.
func (c *conn2) read() {
	defer close(c.done)
	defer c.background.Wait()
	var err error
	for err == nil {
		var f http2.Frame
		if f, err = c.framer.ReadFrame(); err == nil {
			err = c.frame(f)
		}
	}
	c.mu.Lock()
	expected := c.closed || c.draining && len(c.streams) == 0
	idle := len(c.streams) == 0
	c.broken = true
	var open []uint32
	for id := range c.streams {
		open = append(open, id)
	}
	c.mu.Unlock()
	c.conn.Close()
	if errors.Is(err, io.EOF) {
		err = errors.New("the connection ended")
	}
	for _, id := range open {
		c.finish(id, err)
	}
	if expected || !idle {
		return
	}
	c.idleClosed()
	if !c.options.AllowIdleClose {
		c.fail(Failure{Local: c.local(), Cause: "the connection ended between two requests, without GOAWAY: " + err.Error()})
	}
}

// frame takes one frame; an error ends the connection.
func (c *conn2) frame(f http2.Frame) error {
	c.mu.Lock()
	c.frames = append(c.frames, time.Now().Format("15:04:05.000000 ")+f.Header().String())
	c.frames = c.frames[max(0, len(c.frames)-maxFrames):]
	c.mu.Unlock()
	id := f.Header().StreamID
	switch f := f.(type) {
	case *http2.SettingsFrame:
		c.settings(f)
	case *http2.PingFrame:
		if data := f.Data; !f.IsAck() {
			c.later(func() error { return c.framer.WritePing(true, data) })
		}
	case *http2.WindowUpdateFrame:
		c.mu.Lock()
		defer c.mu.Unlock()
		if id == 0 {
			c.window += int64(f.Increment)
		} else if s := c.streams[id]; s != nil {
			s.window += int64(f.Increment)
		}
		c.changed.Broadcast()
	case *http2.MetaHeadersFrame:
		c.headers(f)
	case *http2.DataFrame:
		c.data(f)
	case *http2.RSTStreamFrame:
		c.finish(id, fmt.Errorf("reset with %s", f.ErrCode))
	case *http2.GoAwayFrame:
		c.goAway(f)
	case *http2.PushPromiseFrame:
		return errors.New("a PUSH_PROMISE, which was not allowed")
	}
	return nil
}

// later writes a frame between others, and does not wait for it: a writer may
// wait for the very window that comes after the frame being read. An error shows
// at the next read.
func (c *conn2) later(f func() error) {
	c.background.Go(func() {
		c.writing.Lock()
		defer c.writing.Unlock()
		c.conn.SetWriteDeadline(time.Now().Add(c.options.Timeout))
		if err := f(); err != nil {
			c.conn.Close()
		}
	})
}

func (c *conn2) settings(f *http2.SettingsFrame) {
	if f.IsAck() {
		return
	}
	var table *uint32
	c.mu.Lock()
	if size, ok := f.Value(http2.SettingInitialWindowSize); ok {
		// RFC 9113 section 6.9.2: the windows of open streams change too.
		for _, s := range c.streams {
			s.window += int64(size) - c.initial
		}
		c.initial = int64(size)
		c.changed.Broadcast()
	}
	c.mu.Unlock()
	if size, ok := f.Value(http2.SettingHeaderTableSize); ok {
		table = &size
	}
	c.later(func() error {
		if table != nil {
			c.encoder.SetMaxDynamicTableSizeLimit(*table)
		}
		return c.framer.WriteSettingsAck()
	})
}

func (c *conn2) headers(f *http2.MetaHeadersFrame) {
	id := f.StreamID
	c.mu.Lock()
	s := c.streams[id]
	if s == nil {
		c.mu.Unlock()
		return // it timed out
	}
	var err error
	if s.header == nil { // else they are trailers
		if s.status, err = strconv.Atoi(f.PseudoValue("status")); err == nil && s.status >= 200 {
			s.header = http.Header{}
			for _, field := range f.RegularFields() {
				s.header.Add(field.Name, field.Value)
			}
		}
	}
	c.mu.Unlock()
	if err != nil {
		c.finish(id, fmt.Errorf("no status: %w", err))
	} else if f.StreamEnded() {
		c.finish(id, nil)
	}
}

func (c *conn2) data(f *http2.DataFrame) {
	id, n, ended := f.StreamID, f.Header().Length, f.StreamEnded()
	if n > 0 {
		c.later(func() error {
			if !ended {
				if err := c.framer.WriteWindowUpdate(id, n); err != nil {
					return err
				}
			}
			return c.framer.WriteWindowUpdate(0, n)
		})
	}
	if ended {
		c.finish(id, nil)
	}
}

// goAway takes the server's word for which streams it did not begin (RFC 9113
// section 6.8), if the word is NO_ERROR and does not go back on an earlier one.
func (c *conn2) goAway(f *http2.GoAwayFrame) {
	var reason error
	c.mu.Lock()
	switch {
	case f.ErrCode != http2.ErrCodeNo:
		reason = fmt.Errorf("GOAWAY with %s %q", f.ErrCode, f.DebugData())
	case f.LastStreamID > c.last:
		reason = fmt.Errorf("GOAWAY with last stream %d after one with %d", f.LastStreamID, c.last)
	}
	c.draining = true
	c.last = f.LastStreamID
	var above []uint32
	var skipped []*stream2
	for id := range c.streams {
		if id > f.LastStreamID {
			above = append(above, id)
		}
	}
	if reason == nil {
		for _, id := range above {
			skipped = append(skipped, c.remove(id))
		}
	}
	if len(c.streams) == 0 {
		c.hangUp()
	}
	c.mu.Unlock()
	for _, s := range skipped {
		c.skip(s.number)
	}
	if reason == nil {
		return
	}
	if len(above) == 0 {
		c.fail(Failure{Local: c.local(), Cause: reason.Error()})
	}
	for _, id := range above {
		c.finish(id, reason)
	}
}

package upstream

import (
	"context"
	"errors"
	"net/netip"
	"testing"
	"time"
)

// fakeMux has room for so many exchanges.
type fakeMux struct {
	room    int
	drained bool
}

func (m *fakeMux) Usable() bool { return !m.drained }
func (m *fakeMux) Drain()       { m.drained = true }

func take(m Mux) bool {
	f := m.(*fakeMux)
	if f.room == 0 {
		return false
	}
	f.room--
	return true
}

func TestMux(t *testing.T) {
	e := newEndpoint(netip.MustParseAddrPort(addrA), New(Options{}).settings, false)
	if e.UseMux(take) {
		t.Error("a connection out of nothing")
	}
	a, b := &fakeMux{room: 1}, &fakeMux{room: 2}
	e.AddMux(a)
	e.AddMux(b)
	for i := range 3 {
		if !e.UseMux(take) {
			t.Errorf("use %d: no room", i)
		}
	}
	if e.UseMux(take) || a.room+b.room != 0 {
		t.Error("used beyond what there is")
	}
	a.room, b.room = 9, 9
	a.Drain()
	if !e.UseMux(take) || a.room != 9 || b.room != 8 || len(e.muxes) != 1 {
		t.Errorf("a draining connection is used or kept: %+v %+v", a, b)
	}
	e.DropMux(b)
	if e.UseMux(take) {
		t.Error("used after it was dropped")
	}
	e.AddMux(b)
	e.retire()
	late := &fakeMux{room: 1}
	e.AddMux(late)
	if !b.drained || !late.drained || e.UseMux(take) {
		t.Error("an endpoint that left keeps connections")
	}
}

func TestAwaitMux(t *testing.T) {
	e := newEndpoint(netip.MustParseAddrPort(addrA), New(Options{}).settings, false)
	done, err := e.AwaitMux(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
	defer cancel()
	var d *DialError
	if _, err := e.AwaitMux(ctx); !errors.As(err, &d) || !d.Timeout() {
		t.Errorf("second at once: %v", err)
	}
	done()
	if done, err = e.AwaitMux(t.Context()); err != nil {
		t.Error(err)
	} else {
		done()
	}
}

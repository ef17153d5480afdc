package upstream

import "context"

// Mux is a connection that carries many exchanges at once.
type Mux interface {
	// Usable reports whether it can take exchanges, now or later.
	Usable() bool
	// Drain takes no more and ends when the last exchange has ended.
	Drain()
}

// Agreement is what an endpoint that had the choice of protocols has chosen on
// the last connection that was made. It says what to expect of the next one, and
// binds nobody.
type Agreement int32

// What can be agreed on.
const (
	AgreementUnknown Agreement = iota
	AgreementSingle            // a connection carries one exchange after the other
	AgreementShared            // a connection is a Mux
)

// Agreement tells what SetAgreement was told last.
func (e *Endpoint) Agreement() Agreement { return Agreement(e.agreement.Load()) }

// SetAgreement keeps what a new connection has agreed on.
func (e *Endpoint) SetAgreement(a Agreement) {
	if e.Agreement() != a {
		e.agreement.Store(int32(a))
	}
}

// UseMux offers the endpoint's connections to try, until one is taken. It offers
// none to the exchange that must connect to find out whether an ejection is over.
func (e *Endpoint) UseMux(try func(Mux) bool) bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.probe {
		e.probe = false
		return false
	}
	kept := e.muxes[:0]
	taken := false
	for _, m := range e.muxes {
		if !m.Usable() {
			continue // ends by itself
		}
		kept = append(kept, m)
		taken = taken || try(m)
	}
	clear(e.muxes[len(kept):])
	e.muxes = kept
	return taken
}

// AddMux shares a connection with other exchanges. One of an endpoint that has
// left serves only those who have it.
func (e *Endpoint) AddMux(m Mux) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.gone {
		m.Drain()
		return
	}
	e.muxes = append(e.muxes, m)
}

// DropMux forgets a connection that has ended.
func (e *Endpoint) DropMux(m Mux) {
	e.mu.Lock()
	defer e.mu.Unlock()
	for i := range e.muxes {
		if e.muxes[i] == m {
			e.muxes = append(e.muxes[:i:i], e.muxes[i+1:]...)
			return
		}
	}
}

// AwaitMux lets one exchange at a time make a connection, so that many that
// come together share it. The caller calls done once it has, or has failed.
func (e *Endpoint) AwaitMux(ctx context.Context) (done func(), err error) {
	select {
	case e.making <- struct{}{}:
		return func() { <-e.making }, nil
	case <-ctx.Done():
		return nil, &DialError{Addr: e.addr, Failure: failureOf(ctx, ctx.Err()), Err: ctx.Err()}
	}
}

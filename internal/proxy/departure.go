package proxy

import "time"

// While a request waits for its endpoint nothing reads from its client, and the
// kernel must be asked whether that is still there. Whoever has reset the connection,
// or its stream, is gone. A FIN alone tells nothing: both close(2) and shutdown(2)
// send it, and a client that has only ended its side still reads. nginx takes it for
// the end (proxy_ignore_client_abort off), and cuts those off that half-close. Here the
// client is asked, by bytes that it may ignore: who has closed answers with RST.

const (
	// firstLook is how long after the beginning of a wait the client is looked at
	// first. Later looks are further apart, up to Options.watch.
	firstLook = 100 * time.Millisecond
	// probeAfter is how long a request goes on before a client that has ended its side
	// is asked: few half-closed clients ever see the question.
	probeAfter = 250 * time.Millisecond
	// unproven is how long one may stay that cannot be asked, since it speaks
	// HTTP/1.0, and to which nothing was sent either. In the middle of a response, which
	// it would lose by a reset, it has the time of one that was asked: the end of its
	// side may have come before all that it has been sent.
	unproven = time.Second
)

// look is how long to wait until the next look at the client, after so long.
func (x *exchange) look(waited time.Duration) time.Duration {
	d := max(firstLook, waited/2)
	if !x.halfClosed.IsZero() {
		d = firstLook
	}
	return min(d, x.srv.o.watch)
}

// clientLeft reports whether the request is no longer worth answering.
func (x *exchange) clientLeft() bool {
	switch x.front.left() {
	case clientGone:
		return true
	case clientHalfClosed:
		return x.overstays(time.Now())
	}
	return false
}

// overstays reports whether a client that has ended its side is taken for gone.
func (x *exchange) overstays(now time.Time) bool {
	if x.halfClosed.IsZero() {
		x.halfClosed = now
	}
	since := now.Sub(x.halfClosed)
	if !x.probed && !x.headSent && since >= probeAfter {
		x.probed = x.front.probe()
	}
	if !x.probed && !x.headSent {
		return since >= min(unproven, x.srv.o.halfClose)
	}
	return since >= x.srv.o.halfClose
}

// served says that bytes went to the client: had it closed, it would answer them
// with RST.
func (x *exchange) served() {
	if !x.halfClosed.IsZero() {
		x.halfClosed, x.probed = time.Now(), true
	}
}

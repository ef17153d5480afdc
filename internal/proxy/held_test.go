package proxy

import (
	"bufio"
	"crypto/tls"
	"io"
	"net"
	"strings"
	"testing"
	"time"
)

// plainReads is the test whose Servers read the plain way; all others hold the
// wait open.
const plainReads = "TestPlainReads/"

// TestPlainReads runs the tests of what happens on the wire once more, with
// Options.PlainReads.
func TestPlainReads(t *testing.T) {
	for _, f := range []struct {
		name string
		test func(*testing.T)
	}{
		{"AttacksReachNobody", TestAttacksReachNobody},
		{"AttacksInPiecesReachNobody", TestAttacksInPiecesReachNobody},
		{"BytesBehindUpgradeAreRefused", TestBytesBehindUpgradeAreRefused},
		{"BytesBeforeSwitchAreRefused", TestBytesBeforeSwitchAreRefused},
		{"AnswerFraming", TestAnswerFraming},
		{"InterimAnswers", TestInterimAnswers},
		{"ExpectContinue", TestExpectContinue},
		{"Pipelining", TestPipelining},
		{"ChunksAndTrailersBothWays", TestChunksAndTrailersBothWays},
		{"DataAndEndTogether", TestDataAndEndTogether},
		{"Limits", TestLimits},
		{"FirstBytes", TestFirstBytes},
		{"WrongPrefaceIsNotAnswered", TestWrongPrefaceIsNotAnswered},
		{"HeadInPieces", TestHeadInPieces},
		{"SlowHead", TestSlowHead},
		{"IdleConnectionEndsSilently", TestIdleConnectionEndsSilently},
		{"SlowBody", TestSlowBody},
		{"SilentEndpoint", TestSilentEndpoint},
		{"StalledAnswer", TestStalledAnswer},
		{"ClientHangsUp", TestClientHangsUp},
		{"HalfClosedClientIsAnswered", TestHalfClosedClientIsAnswered},
		{"ClientDoesNotRead", TestClientDoesNotRead},
		{"Drain", TestDrain},
		{"DrainDelay", TestDrainDelay},
		{"DrainTimeout", TestDrainTimeout},
		{"DrainLosesNoRequest", TestDrainLosesNoRequest},
		{"DrainMeetsRequest", TestDrainMeetsRequest},
		{"LongestIdleMakesRoom", TestLongestIdleMakesRoom},
		{"EvictionMeetsRequest", TestEvictionMeetsRequest},
		{"NobodyGetsAnothersBytes", TestNobodyGetsAnothersBytes},
		{"Upgrade", TestUpgrade},
		{"PooledConnectionDies", TestPooledConnectionDies},
		{"PooledConnectionEnded", TestPooledConnectionEnded},
		{"EndpointsThatHangUp", TestEndpointsThatHangUp},
		{"LeftoversAreNotAnAnswer", TestLeftoversAreNotAnAnswer},
		{"AnswerCutOff", TestAnswerCutOff},
		{"EarlyAnswer", TestEarlyAnswer},
		{"EndpointConnectionNotReused", TestEndpointConnectionNotReused},
		{"Forward", TestForward},
		{"LargeAnswerIsWhole", TestLargeAnswerIsWhole},
		{"TLS", TestTLS},
		{"EndTogetherWithRequest", TestEndTogetherWithRequest},
		{"HeldPipeline", TestHeldPipeline},
		{"HeldDeadlinePassesDuringRequest", TestHeldDeadlinePassesDuringRequest},
	} {
		t.Run(f.name, f.test)
	}
}

// The end of the stream comes in one segment with a request, the first of its
// connection or a later one: it is noticed, at once or after lookAfter.
func TestEndTogetherWithRequest(t *testing.T) {
	for _, before := range []int{0, 2} {
		e := newEdge(t, nil, echo(t))
		c := e.dial()
		for range before {
			c.roundTrip(get)
		}
		began := time.Now()
		corked(t, c.Conn, get)
		if res, _ := c.read("GET"); res.StatusCode != 200 {
			t.Errorf("%v", res)
		}
		c.closed()
		most := e.srv.o.IdleTimeout / 4
		if before == 0 {
			most = lookAfter
		}
		if took := time.Since(began); took > most {
			t.Errorf("after %d requests: noticed after %v", before, took)
		}
	}
}

// Requests that come one right after the other, in pieces that end anywhere, are
// all answered: nothing waits for bytes that are there already.
func TestHeldPipeline(t *testing.T) {
	e := newEdge(t, nil, echo(t))
	text := strings.Repeat(get+"\r\n"+post+"Content-Length: 5\r\n\r\nhello"+post+"Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n", 8)
	for _, dial := range []func() *client{e.dial, func() *client { return e.dialTLS(tls.VersionTLS13) }} {
		for _, step := range []int{len(text), 4096, 977, 61} {
			c := dial()
			go func() {
				for rest := text; len(rest) > 0; {
					n := min(step, len(rest))
					if _, err := io.WriteString(c.Conn, rest[:n]); err != nil {
						return // the reader says why
					}
					rest = rest[n:]
				}
			}()
			for i := range 24 {
				method := "GET"
				if i%3 != 0 {
					method = "POST"
				}
				if res, _ := c.read(method); res.StatusCode != 200 {
					t.Fatalf("step %d, answer %d: %v", step, i, res)
				}
			}
			c.Conn.Close()
		}
	}
}

// An answer that takes longer than the deadline that was set for the wait before
// it does not end the connection.
func TestHeldDeadlinePassesDuringRequest(t *testing.T) {
	b := newBackend(t, func(_ int, c net.Conn, r *bufio.Reader) {
		for {
			if _, err := readHead(r); err != nil {
				return
			}
			time.Sleep(2 * short) // the endpoint's slowness is what is tested
			io.WriteString(c, ok)
		}
	})
	e := newEdge(t, func(o *Options) { o.IdleTimeout = short }, b.addr())
	c := e.dial()
	for range 3 {
		if res, _ := c.roundTrip(get); res.StatusCode != 200 || res.Close {
			t.Fatalf("%v", res)
		}
	}
	c.closed()
}

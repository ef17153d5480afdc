package upstream

import (
	"errors"
	"io"
	"net"
	"testing"
	"time"

	"gatehouse.dev/gatehouse/internal/service"
)

// A host that is there and whose program reads nothing for longer than a host may
// be silent is not lost: that is what send and read timeouts are for.
func TestClosedWindowIsNotLost(t *testing.T) {
	t.Parallel()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	m := New(Options{Addresses: service.AddressPolicy{AllowLocal: true}})
	defer m.close()
	m.Update(stateOf(clusterIP(l.Addr().String())))
	c := dialOK(t, endpointAt(t, m.Backend(shop), l.Addr().String()))
	defer c.Close()
	far, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer far.Close()
	// More than fits: some of it waits here, sent by nobody.
	c.SetWriteDeadline(time.Now().Add(500 * time.Millisecond))
	total := 0
	for err == nil {
		var n int
		n, err = c.Write(make([]byte, 64<<10))
		total += n
	}
	// The program reads after a while.
	time.AfterFunc(lostAfter+5*time.Second, func() {
		io.CopyN(io.Discard, far, int64(total))
		io.WriteString(far, "x")
	})
	var timeout net.Error
	for end := time.Now().Add(lostAfter + 10*time.Second); time.Now().Before(end); {
		c.SetReadDeadline(time.Now().Add(time.Second))
		if _, err = c.Read(make([]byte, 1)); !errors.As(err, &timeout) || IsLost(err) {
			break
		}
		c.Bear()
	}
	if err != nil {
		t.Errorf("%v, lost: %v", err, IsLost(err))
	}
}

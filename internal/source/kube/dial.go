package kube

import (
	"context"
	"net"
	"os"
	"strconv"
	"sync"
	"syscall"
	"time"

	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"golang.org/x/sys/unix"
)

const (
	// dialTimeout bounds a connect, whatever is tried in it. client-go alone
	// would wait for half a minute.
	dialTimeout = 5 * time.Second
	// directAfter is how long the cluster IP may take before the API servers
	// behind it are asked beside it.
	directAfter = time.Second
	// maxDirect is how many of them are asked.
	maxDirect = 16
)

// A connection ends when the other host answers nothing any more, not even to
// the kernel's probes, for lostAfter: a watch on it hears of no change and does
// not know. HTTP/2's own pings would need 45 s; they find an API server that
// hangs on a host that lives.
const (
	lostAfter  = 10 * time.Second
	probeAfter = 5 * time.Second
	probeEvery = time.Second
)

// APIServers remembers where the API servers are behind their Service,
// "kubernetes" in the Namespace "default", for as long as its cluster IP leads
// nowhere.
//
// An API server that ends takes itself out of its EndpointSlice, and kube-proxy
// refuses the cluster IP from then on. When it is back, kube-proxy has to find
// out first, at the address itself, and asks after ever longer pauses, of up to
// a minute. Who asks where the API server was last need not wait for that.
//
// It learns from a Source (Options.APIServers), so only where that watches the
// Namespace "default". Its methods may be called concurrently.
type APIServers struct {
	connect func(ctx context.Context, network, address string) (net.Conn, error)

	mu   sync.Mutex
	last []string // host:port, of the last EndpointSlice that had any
}

// NewAPIServers knows of none.
func NewAPIServers() *APIServers { return &APIServers{connect: connect} }

// connect is what connections to an API server are made with.
func connect(ctx context.Context, network, address string) (net.Conn, error) {
	d := net.Dialer{
		Timeout:   dialTimeout,
		KeepAlive: -1, // set here, with an option that Go does not know
		Control: func(_, _ string, c syscall.RawConn) error {
			var failed error
			if err := c.Control(func(fd uintptr) { failed = watchHost(int(fd)) }); err != nil {
				return err
			}
			return failed
		},
	}
	return d.DialContext(ctx, network, address)
}

// watchHost lets the kernel find out that the other host has vanished (RFC 5482).
func watchHost(fd int) error {
	for _, o := range [...]struct{ level, option, value int }{
		{unix.SOL_SOCKET, unix.SO_KEEPALIVE, 1},
		{unix.IPPROTO_TCP, unix.TCP_KEEPIDLE, int(probeAfter / time.Second)},
		{unix.IPPROTO_TCP, unix.TCP_KEEPINTVL, int(probeEvery / time.Second)},
		{unix.IPPROTO_TCP, unix.TCP_USER_TIMEOUT, int(lostAfter / time.Millisecond)},
	} {
		if err := unix.SetsockoptInt(fd, o.level, o.option, o.value); err != nil {
			return os.NewSyscallError("setsockopt", err)
		}
	}
	return nil
}

// dialer gives a function for rest.Config that dials what it is told to and, if
// that is service (host:port) and does not answer or takes its time, the API
// servers behind it as well. Whoever answers first is taken; the certificate is
// verified for the name of the Service in any case. Its error is that of the
// address it was given.
func (a *APIServers) dialer(service string) func(ctx context.Context, network, address string) (net.Conn, error) {
	return func(ctx context.Context, network, address string) (net.Conn, error) {
		if address != service { // of a proxy
			return a.connect(ctx, network, address)
		}
		ctx, cancel := context.WithTimeout(ctx, dialTimeout)
		defer cancel()
		return a.race(ctx, network, service)
	}
}

// race dials service and, when that has failed or directAfter is over, all others.
func (a *APIServers) race(ctx context.Context, network, service string) (net.Conn, error) {
	type landing struct {
		address string
		conn    net.Conn
		err     error
	}
	ended := make(chan landing) // each that was started gives one
	open := 0
	start := func(address string) {
		open++
		go func() {
			conn, err := a.connect(ctx, network, address)
			ended <- landing{address, conn, err}
		}()
	}
	start(service)
	others := a.behind()
	patience := time.NewTimer(directAfter)
	defer patience.Stop()
	var failed error
	for open > 0 {
		select {
		case <-patience.C:
		case l := <-ended:
			open--
			if l.err == nil {
				go func(late int) {
					for range late {
						if l := <-ended; l.err == nil {
							l.conn.Close()
						}
					}
				}(open)
				return l.conn, nil
			}
			if failed == nil || l.address == service {
				failed = l.err
			}
		}
		for _, address := range others {
			start(address)
		}
		others = nil
	}
	return nil, failed
}

func (a *APIServers) behind() []string {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.last
}

// learn looks at an EndpointSlice. One without any address, as the last API
// server leaves it behind, teaches nothing.
func (a *APIServers) learn(es *discoveryv1.EndpointSlice) {
	if es.Namespace != metav1.NamespaceDefault || es.Name != "kubernetes" {
		return
	}
	var found []string
	for _, ep := range es.Endpoints {
		for _, port := range es.Ports {
			if port.Port != nil && len(ep.Addresses) > 0 {
				found = append(found, net.JoinHostPort(ep.Addresses[0], strconv.Itoa(int(*port.Port))))
			}
		}
	}
	if len(found) == 0 {
		return
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	a.last = found[:min(len(found), maxDirect)]
}

// learning is a sink of EndpointSlices that shows them to servers.
type learning struct {
	sink
	servers *APIServers
}

func (l learning) Set(o metav1.Object) {
	l.servers.learn(o.(*discoveryv1.EndpointSlice))
	l.sink.Set(o)
}

package accesslog

import (
	"fmt"
	"net/netip"
	"time"

	"gatehouse.dev/gatehouse/internal/ir"
)

// Entry is what is logged of one request. Zero values mean "not known": they
// are left out of JSON and are "-" in the combined format. The byte slices
// come from the client as they are; Log keeps none of them.
type Entry struct {
	Start            time.Time     // first byte of the request
	Duration         time.Duration // from Start to the last byte of the answer
	UpstreamDuration time.Duration // waiting for and reading from endpoints, all attempts

	RequestID []byte
	Client    netip.AddrPort // the real client, behind trusted proxies; port 0 when unknown
	Peer      netip.AddrPort // the other end of the connection; JSON shows it only where it is not Client
	User      []byte         // authenticated user

	Method    []byte
	Scheme    string // "http" or "https"
	Host      []byte
	Target    []byte // raw path and query, as received
	Protocol  []byte // "HTTP/1.1"
	Referer   []byte
	UserAgent []byte

	Status int       // sent to the client; 499 where the client hung up first
	Reason ir.Reason // why the answer was made here
	Detail string    // what is to be known about the reason, for people

	Route       ir.RouteID
	Namespace   string
	Ingress     string
	Service     string
	ServicePort uint16

	Endpoint       netip.AddrPort // the last one tried
	UpstreamStatus int            // 0 when no endpoint answered
	Attempts       int            // endpoints tried, 1 without retries

	BytesIn  int64 // of the request's body
	BytesOut int64 // of the answer's body, as sent

	TLSVersion uint16 // crypto/tls version number; 0 without TLS
	TLSCipher  uint16 // crypto/tls cipher suite number
	ServerName string // TLS server name indication
}

// Format is how an Entry becomes a line.
type Format uint8

// The formats.
const (
	Off      Format = iota // nothing is logged or counted
	JSON                   // one JSON object a line
	Combined               // Apache's and nginx's "combined"
)

// ParseFormat reads "off", "json" or "combined".
func ParseFormat(s string) (Format, error) {
	for _, f := range []Format{Off, JSON, Combined} {
		if s == f.String() {
			return f, nil
		}
	}
	return Off, fmt.Errorf("cannot parse access log format %q: want off, json or combined", s)
}

// String is the name that ParseFormat reads.
func (f Format) String() string {
	switch f {
	case JSON:
		return "json"
	case Combined:
		return "combined"
	default:
		return "off"
	}
}

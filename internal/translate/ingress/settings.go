package ingress

import (
	"net/netip"
	"slices"
	"time"

	"gatehouse.dev/gatehouse/internal/ir"
)

// settings is what the annotations of one Ingress ask for, as the table reads
// them. The zero value asks for nothing.
type settings struct {
	// given are the annotations that stand in the object, by the name of their
	// row, blank ones left out.
	given map[string]given
	// bad are those of them whose value was not taken.
	bad map[string]bool

	// TLS with clients.
	passthrough      choice
	ciphers          []uint16
	sslRedirect      choice
	forceSSLRedirect choice

	// What is spoken with endpoints.
	protocol        string
	serviceUpstream choice
	http1, http10   bool
	sendProxy       int // version; 0: none
	bridge          bridgeSettings

	// Guards.
	clientCert clientCertSettings
	basic      basicSettings
	satisfyAny bool
	allow      []netip.Prefix
	deny       []netip.Prefix

	// Paths, redirects, and what is sent to endpoints.
	rewriteTarget    string
	useRegex         choice
	appRoot          string
	redirect         [2]redirectSettings // by permanent and temporal
	fromToWWW        choice
	aliases          []string
	hostGrants       []string // namespaces
	upstreamHost     string
	forwardedPrefix  string
	maxBody          int64 // as ir.Filters.MaxBody
	connect          time.Duration
	read             time.Duration
	send             time.Duration
	retry            ir.Retry
	defaultBackend   string
	customHTTPErrors []int
}

// The kinds of redirect, by which settings.redirect is indexed.
const (
	permanent = iota
	temporal
)

type redirectSettings struct {
	url  string
	code int
}

type bridgeSettings struct {
	secret     string
	verify     choice
	depth      int // 0: not given
	name       string
	serverName choice
	minVersion uint16
	maxVersion uint16
	ciphers    []uint16
}

type clientCertSettings struct {
	secret    string
	verify    string
	depth     int // 0: not given
	errorPage string
	pass      choice
	matchCN   string // without "CN="
}

type basicSettings struct {
	kind       string
	secret     string
	secretType string
	realm      string
}

// choice is a switch that may be left alone.
type choice int8

const (
	unset choice = iota
	no
	yes
)

// or gives what was chosen, or else the default.
func (c choice) or(byDefault bool) bool {
	if c == unset {
		return byDefault
	}
	return c == yes
}

func chosen(b bool) choice {
	if b {
		return yes
	}
	return no
}

// has reports whether the annotation stands in the object and is not blank.
func (s *settings) has(name string) bool {
	_, ok := s.given[name]
	return ok
}

// refused reports whether one of the annotations has a value that was not taken.
func (s *settings) refused(names ...string) bool {
	return slices.ContainsFunc(names, func(n string) bool { return s.bad[n] })
}

// field names the annotation in verdicts; without any of the names it is that
// of the first.
func (s *settings) field(names ...string) string {
	for _, n := range names {
		if g, ok := s.given[n]; ok {
			return annotationField(g.key)
		}
	}
	return annotationField(PrefixNginx + names[0])
}

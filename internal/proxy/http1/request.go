package http1

import (
	"bytes"
)

// Limits bound one message head. Zero values are not defaults: set all.
type Limits struct {
	HeadBytes int // request or status line and fields together
	Fields    int // field lines
	Target    int // request target, bytes
	// Names says which fields of requests are passed on.
	Names Names
}

// Names is a rule for the names of fields, besides those that Gatehouse knows.
// What it leaves out is dropped, not refused.
type Names uint8

const (
	// NamesHyphen: letters, digits and hyphens, which every server reads alike;
	// ingress-nginx's default.
	NamesHyphen Names = iota
	// NamesUnderscore: underscores too (enable-underscores-in-headers).
	NamesUnderscore
	// NamesAny: every token (ignore-invalid-headers: false).
	NamesAny
)

// pass reports whether a field that nobody interprets may go on.
func (n Names) pass(id FieldID) bool {
	switch id {
	case FieldOther:
		return true
	case FieldUnderscore:
		return n >= NamesUnderscore
	case FieldOddName:
		return n >= NamesAny
	}
	return false
}

// Request is a parsed request head. Reuse it from request to request.
type Request struct {
	Head
	Method []byte
	// Target as the client wrote it, the absolute form's authority cut off:
	// "/path?query", or "*". Bytes above 0x7f, which are none of a URI's (RFC 3986,
	// section 2), are percent-encoded.
	Target []byte
	// Path and Query are the two parts of Target; Query is without "?".
	Path, Query []byte
	// Authority is from the absolute form or from Host; empty if neither.
	Authority []byte
	HasHost   bool // there is a Host field, and it is Authority to the byte
	Absolute  bool // the target was in absolute form
	HTTP10    bool // the client speaks HTTP/1.0
	HTTP2     bool // the client speaks HTTP/2
	// Chunked or Length frame the body; Length is 0 without one.
	Chunked bool
	Length  int64
	// Close: the client wants, or its version implies, no further request.
	Close bool
	// KeepAlive10: an HTTP/1.0 client asked for keep-alive and must be told.
	KeepAlive10 bool
	// Upgrade is what may be passed on of the value of Upgrade, or nil.
	Upgrade []byte
	// Expect: the client waits for 100 Continue.
	Expect bool
	// ConnectionAuth: the credentials (NTLM, Negotiate) hold for the endpoint's
	// connection, which must then not be shared.
	ConnectionAuth bool
	// Values of single fields, nil when absent or (RequestID) given twice.
	ForwardedFor, ForwardedProto, ForwardedHost, ForwardedPort []byte
	RequestID, Referer, UserAgent                              []byte
	// forwardedLines counts the X-Forwarded-For lines; ForwardedFor is the last.
	forwardedLines int
	proxied        bool   // there are fields of FieldProxied
	port           string // the default one of the target's scheme; empty: none is known
	names          Names
}

// Reset forgets the request. Until the next Parse nothing refers to a buffer.
func (r *Request) Reset() { *r = Request{Head: Head{Fields: r.Fields[:0]}} }

// HasBody reports whether body bytes follow the head.
func (r *Request) HasBody() bool { return r.Chunked || r.Length > 0 }

// Idempotent reports whether the method may be repeated (RFC 9110, section 9.2.2).
func (r *Request) Idempotent() bool {
	switch string(r.Method) {
	case "GET", "HEAD", "PUT", "DELETE", "OPTIONS", "TRACE":
		return true
	}
	return false
}

// HeadEnd finds where the head in buf ends: the offset behind its empty line,
// or 0 if more bytes are needed. scanned is how far an earlier call has looked.
// It also stops at an empty line that lacks CR, so that parsing can refuse it.
func HeadEnd(buf []byte, scanned int) int {
	at := max(scanned-3, 0)
	for {
		nl := bytes.IndexByte(buf[at:], '\n')
		if nl < 0 {
			return 0
		}
		at += nl + 1
		switch {
		case at < len(buf) && buf[at] == '\n':
			return at + 1
		case at+1 < len(buf) && buf[at] == '\r' && buf[at+1] == '\n':
			return at + 2
		}
	}
}

// Parse reads the head that fills buf exactly (see HeadEnd). The Request
// refers to buf. Fields that must not go to another hop are marked Drop:
// connection options, aliases and identity fields; the caller adds its own.
func (r *Request) Parse(buf []byte, lim Limits) error {
	r.Reset()
	r.names = lim.Names
	at, err := r.parseStartLine(buf, lim)
	if err != nil {
		return err
	}
	n, err := r.parseFields(buf, at, lim.Fields)
	if err != nil {
		return err
	}
	if n != len(buf) {
		return errBareLF
	}
	return r.interpret()
}

func (r *Request) parseStartLine(buf []byte, lim Limits) (int, error) {
	nl := bytes.IndexByte(buf, '\n')
	if nl < 1 || buf[nl-1] != '\r' {
		return 0, errBareLF
	}
	line := buf[:nl-1]
	sp := bytes.IndexByte(line, ' ')
	if sp <= 0 || !validToken(line[:sp]) {
		return 0, errStartLine
	}
	r.Method = line[:sp]
	line = line[sp+1:]
	sp = bytes.IndexByte(line, ' ')
	if sp < 0 || sp > lim.Target {
		if sp < 0 && len(line) <= lim.Target {
			return 0, errStartLine
		}
		return 0, ErrURITooLong
	}
	target, version := line[:sp], line[sp+1:]
	if err := r.parseVersion(version); err != nil {
		return 0, err
	}
	return nl + 1, r.parseTarget(target)
}

func (r *Request) parseVersion(v []byte) error {
	if string(v) == "HTTP/1.1" {
		return nil
	}
	if len(v) != 8 || string(v[:5]) != "HTTP/" || v[6] != '.' || v[5] < '0' || v[5] > '9' || v[7] < '0' || v[7] > '9' {
		return errStartLine
	}
	if v[5] != '1' {
		return ErrVersion
	}
	r.HTTP10 = v[7] == '0'
	return nil
}

// parseTarget reads origin, absolute and asterisk form (RFC 9112, section
// 3.2). Authority form goes with CONNECT only, which the caller refuses.
func (r *Request) parseTarget(t []byte) error {
	if len(t) == 0 || !validTarget(t) {
		return errTarget
	}
	if hasHigh(t) {
		t = escapeHigh(t)
	}
	switch {
	case t[0] == '/':
	case len(t) == 1 && t[0] == '*':
		if string(r.Method) != "OPTIONS" {
			return errTarget
		}
		r.Target, r.Path = t, t
		return nil
	case string(r.Method) == "CONNECT":
		r.Target, r.Authority = t, t
		return nil
	default:
		rest, port := cutScheme(t)
		if port == "" {
			return errTarget
		}
		r.Absolute, r.port = true, port
		end := bytes.IndexAny(rest, "/?")
		if end < 0 {
			end = len(rest)
		}
		r.Authority = rest[:end]
		if len(r.Authority) == 0 {
			return errTarget
		}
		if t = rest[end:]; len(t) == 0 || t[0] == '?' {
			r.emptyPath(t)
			return nil
		}
	}
	r.Target, r.Path = t, t
	if q := bytes.IndexByte(t, '?'); q >= 0 {
		r.Path, r.Query = t[:q], t[q+1:]
	}
	return nil
}

// emptyPath completes "http://host" and "http://host?query" (RFC 9112, 3.2.1).
func (r *Request) emptyPath(t []byte) {
	if len(t) == 0 && string(r.Method) == "OPTIONS" {
		r.Target, r.Path = []byte("*"), []byte("*")
		return
	}
	r.Target = append([]byte("/"), t...)
	r.Path = r.Target[:1]
	if len(t) > 0 {
		r.Query = r.Target[2:]
	}
}

// cutScheme gives what is behind the scheme, and the scheme's default port
// (RFC 9110, section 4.2); none for other schemes.
func cutScheme(t []byte) (rest []byte, port string) {
	if len(t) > 7 && equalFold("http://", t[:7]) {
		return t[7:], "80"
	}
	if len(t) > 8 && equalFold("https://", t[:8]) {
		return t[8:], "443"
	}
	return nil, ""
}

// validTarget refuses controls and "#", which no client may send; spaces
// cannot be here. Bytes above 0x7f are tolerated, as everybody does.
func validTarget(t []byte) bool {
	return validValue(t) && bytes.IndexByte(t, '\t') < 0 && bytes.IndexByte(t, '#') < 0
}

// interpret reads the fields that frame, route and identify.
func (r *Request) interpret() error {
	var host, transfer, length, expect, ids int
	var upgrade, hostValue []byte
	closeAsked, keepAlive, wantsUpgrade := false, false, false
	for i := range r.Fields {
		f := &r.Fields[i]
		if f.ID == FieldOther {
			continue
		}
		v := r.Value(f)
		switch f.ID {
		case FieldHost:
			host++
			hostValue = v
		case FieldConnection:
			f.Drop = true
			closeAsked = closeAsked || hasElement(v, "close")
			keepAlive = keepAlive || hasElement(v, "keep-alive")
			wantsUpgrade = wantsUpgrade || hasElement(v, "upgrade")
			if err := r.dropNominated(v); err != nil {
				return err
			}
		case FieldContentLength:
			length++
			n, ok := parseLength(v)
			if !ok || length > 1 {
				return errLength
			}
			r.Length = n
			r.trimZeros(f)
		case FieldTransferEncoding:
			if transfer++; transfer > 1 {
				return errTransfer
			}
			if err := codingError(v); err != nil {
				return err
			}
			f.Drop = true
			r.Chunked = true
		case FieldUpgrade:
			f.Drop = true
			if upgrade != nil {
				return errUpgradeField
			}
			upgrade = v
		case FieldExpect:
			expect++
			if !equalFold("100-continue", v) || expect > 1 {
				return ErrExpect
			}
			f.Drop = true
			r.Expect = true
		case FieldHopByHop, FieldIdentity, FieldAlias:
			f.Drop = true
		case FieldProxied:
			f.Drop = true
			r.proxied = true
		case FieldUnderscore, FieldOddName:
			f.Drop = f.Drop || !r.names.pass(f.ID)
		case FieldForwarded, FieldProto, FieldFwdHost, FieldFwdPort:
			f.Drop = true
			r.keepForwarded(f.ID, v)
		case FieldAuthorization:
			r.ConnectionAuth = r.ConnectionAuth || connectionScheme(v)
		case FieldRequestID:
			f.Drop = true
			if r.RequestID = v; ids > 0 {
				r.RequestID = nil
			}
			ids++
		case FieldReferer:
			r.Referer = v
		case FieldUserAgent:
			r.UserAgent = v
		}
	}
	if transfer > 0 && (length > 0 || r.HTTP10) {
		return errTransfer
	}
	if err := r.setAuthority(host, hostValue); err != nil {
		return err
	}
	r.Close = closeAsked || (r.HTTP10 && !keepAlive)
	r.KeepAlive10 = r.HTTP10 && !r.Close
	r.Expect = r.Expect && !r.HTTP10 && r.HasBody()
	if wantsUpgrade && !r.HTTP10 {
		r.Upgrade = upgradable(upgrade) // also with a body, after which the switch comes (RFC 9110, section 7.8)
	}
	return nil
}

// keepForwarded remembers what a trusted proxy may have said. Of several lines
// the last counts, which is the nearest proxy's; see also JoinForwardedFor.
func (r *Request) keepForwarded(id FieldID, v []byte) {
	switch id {
	case FieldForwarded:
		r.ForwardedFor = v
		r.forwardedLines++
	case FieldProto:
		r.ForwardedProto = v
	case FieldFwdHost:
		r.ForwardedHost = v
	case FieldFwdPort:
		r.ForwardedPort = v
	}
}

// JoinForwardedFor makes ForwardedFor the whole list when it is spread over
// several lines (RFC 9110, section 5.3). It allocates only then.
func (r *Request) JoinForwardedFor() {
	if r.forwardedLines < 2 {
		return
	}
	var all []byte
	for i := range r.Fields {
		f := &r.Fields[i]
		if f.ID != FieldForwarded || f.valueStart == f.valueEnd {
			continue
		}
		if len(all) > 0 {
			all = append(all, ", "...)
		}
		all = append(all, r.Value(f)...)
	}
	r.ForwardedFor, r.forwardedLines = all, 1
}

// Believe passes on what only a trusted proxy may say, for a client that is one.
func (r *Request) Believe() {
	if !r.proxied {
		return
	}
	for i := range r.Fields {
		if f := &r.Fields[i]; f.ID == FieldProxied {
			f.Drop = false
		}
	}
}

func (r *Request) setAuthority(count int, host []byte) error {
	if count > 1 || (count == 0 && !r.HTTP10) {
		return errHost
	}
	r.HasHost = count == 1
	if r.Absolute || string(r.Method) == "CONNECT" {
		if count == 1 {
			return r.settleHost(host)
		}
		return nil
	}
	r.Authority = host
	return nil
}

// settleHost compares the Host field with the Authority that the target has
// named. RFC 9112, section 3.2.2, lets the target win; two names for one request
// are how filters are bypassed, so they must agree. The default port of the
// scheme may be left out in either (RFC 9110, section 4.2.3). What goes on is then
// Authority alone.
func (r *Request) settleHost(host []byte) error {
	if bytes.Equal(host, r.Authority) {
		return nil
	}
	if !bytes.EqualFold(withoutPort(host, r.port), withoutPort(r.Authority, r.port)) {
		return errHost
	}
	r.DropHost()
	return nil
}

// withoutPort cuts the port off an authority if it is this one, or empty.
func withoutPort(authority []byte, port string) []byte {
	i := bytes.LastIndexByte(authority, ':')
	if i < 0 || port == "" {
		return authority
	}
	if p := authority[i+1:]; len(p) == 0 || string(p) == port {
		return authority[:i]
	}
	return authority
}

// parseLength reads 1*DIGIT, at most 18 of them.
func parseLength(v []byte) (n int64, ok bool) {
	if len(v) == 0 || len(v) > 18 {
		return 0, false
	}
	for _, c := range v {
		if c < '0' || c > '9' {
			return 0, false
		}
		n = n*10 + int64(c-'0')
	}
	return n, true
}

// codingError accepts exactly "chunked". Other codings are ErrCoding (RFC 9112,
// section 6.1), by themselves or with chunked behind them. All else is an
// obfuscation: chunked not last or twice (section 6.3), or no list of codings.
func codingError(v []byte) error {
	if equalFold("chunked", v) {
		return nil
	}
	for rest := v; ; {
		var e []byte
		last := bytes.IndexByte(rest, ',') < 0
		e, rest = nextElement(rest)
		name, ok := skipToken(e)
		if !ok || !validExtensions(name) {
			return errTransfer
		}
		if coding := e[:len(e)-len(name)]; equalFold("chunked", coding) && (!last || len(name) > 0) {
			return errTransfer
		}
		if last {
			return ErrCoding
		}
	}
}

// upgradable gives the protocols of an Upgrade that may be passed on, as they were
// written; nil if there is none. It allocates only when others stand among them.
func upgradable(v []byte) []byte {
	if mayUpgrade(v) {
		return v
	}
	var some []byte
	for len(v) > 0 {
		var p []byte
		if p, v = nextElement(v); !mayUpgradeTo(p) {
			continue
		}
		if len(some) > 0 {
			some = append(some, ", "...)
		}
		some = append(some, p...)
	}
	return some
}

// mayUpgrade reports whether there are protocols, all of which may be passed on.
func mayUpgrade(v []byte) bool {
	if len(v) == 0 {
		return false
	}
	for len(v) > 0 {
		var p []byte
		if p, v = nextElement(v); !mayUpgradeTo(p) {
			return false
		}
	}
	return true
}

// mayUpgradeTo refuses protocols that would change what we and the endpoint think
// of the connection.
func mayUpgradeTo(p []byte) bool {
	name, version, ok := bytes.Cut(p, []byte("/"))
	if !validToken(name) || ok && !validToken(version) {
		return false
	}
	return !equalFold("h2c", name) && !equalFold("h2", name) && !equalFold("http", name) && !equalFold("tls", name)
}

// DropHost drops the Host field, for a request that gets another one.
func (r *Request) DropHost() {
	r.HasHost = false
	for i := range r.Fields {
		if r.Fields[i].ID == FieldHost {
			r.Fields[i].Drop = true
		}
	}
}

// trimZeros takes the leading zeros off a number, which some read as octal.
func (h *Head) trimZeros(f *Field) {
	for f.valueEnd-f.valueStart > 1 && h.buf[f.valueStart] == '0' {
		f.valueStart++
		f.Repair = true
	}
}

package http1

import "bytes"

// FieldID tells the fields that Gatehouse knows apart from all others.
type FieldID uint8

// The known fields. Identity and hop-by-hop fields are recognised in their
// aliases (underscore, dot and so on) too.
const (
	FieldOther FieldID = iota
	FieldHost
	FieldConnection
	FieldContentLength
	FieldTransferEncoding
	FieldUpgrade
	FieldExpect
	FieldTrailer
	FieldHopByHop      // Keep-Alive, Proxy-Connection, TE, Proxy-Authenticate, Proxy-Authorization, HTTP2-Settings
	FieldForwarded     // X-Forwarded-For
	FieldProto         // X-Forwarded-Proto
	FieldFwdHost       // X-Forwarded-Host
	FieldFwdPort       // X-Forwarded-Port
	FieldIdentity      // passed on from nobody: a field of Gatehouse's own (X-Real-IP, ssl-client-*), or one that overrules the path (X-Original-URL)
	FieldProxied       // every other field by which a proxy tells who the client is or what was asked for
	FieldRequestID     // X-Request-ID
	FieldReferer       // Referer
	FieldUserAgent     // User-Agent
	FieldAuthorization // Authorization
	FieldChallenge     // WWW-Authenticate
	FieldDate          // Date
	FieldAlias         // a framing or routing field in a spelling that only some backends read as such
	FieldUnderscore    // any other field with an underscore in its name
	FieldOddName       // any other field whose name has characters besides letters, digits, hyphens and underscores
)

// Field is one field line as offsets into its Head's buffer.
type Field struct {
	start, nameEnd, valueStart, valueEnd, end uint32
	ID                                        FieldID
	Drop                                      bool // not copied to the other side
	// Repair: the line is not "Name: value" with exactly that white space, and is
	// written so, lest the other side trims it differently.
	Repair bool
}

// known lists field names by their length; all folded.
var known = [...][]struct {
	name string
	id   FieldID
}{
	2:  {{"te", FieldHopByHop}},
	4:  {{"host", FieldHost}, {"date", FieldDate}},
	5:  {{"proxy", FieldHopByHop}}, // CGI makes HTTP_PROXY of it (httpoxy, CVE-2016-5385)
	6:  {{"expect", FieldExpect}, {"x-host", FieldProxied}},
	7:  {{"upgrade", FieldUpgrade}, {"trailer", FieldTrailer}, {"referer", FieldReferer}},
	8:  {{"x-scheme", FieldIdentity}},
	9:  {{"forwarded", FieldProxied}, {"x-real-ip", FieldIdentity}, {"client-ip", FieldProxied}},
	10: {{"connection", FieldConnection}, {"user-agent", FieldUserAgent}, {"keep-alive", FieldHopByHop}},
	11: {{"x-client-ip", FieldProxied}, {"client-cert", FieldProxied}, {"x-remote-ip", FieldProxied},
		{"x-forwarded", FieldProxied}, {"remote-addr", FieldProxied}, {"remote-user", FieldProxied}},
	12: {{"x-request-id", FieldRequestID}, {"x-url-scheme", FieldProxied}},
	13: {{"authorization", FieldAuthorization}, {"x-rewrite-url", FieldIdentity}, {"forwarded-for", FieldProxied},
		{"x-remote-addr", FieldProxied}, {"x-remote-user", FieldProxied}, {"x-client-cert", FieldProxied}, {"fly-client-ip", FieldProxied}},
	14: {{"content-length", FieldContentLength}, {"x-original-url", FieldIdentity}, {"true-client-ip", FieldProxied}, {"http2-settings", FieldHopByHop},
		{"x-remote-group", FieldProxied}, {"x-proxyuser-ip", FieldProxied}},
	15: {{"x-forwarded-for", FieldForwarded}, {"front-end-https", FieldProxied}, {"proxy-client-ip", FieldProxied}},
	16: {{"proxy-connection", FieldHopByHop}, {"www-authenticate", FieldChallenge}, {"x-forwarded-host", FieldFwdHost}, {"x-forwarded-port", FieldFwdPort},
		{"cf-connecting-ip", FieldProxied}, {"fastly-client-ip", FieldProxied}, {"x-azure-clientip", FieldProxied},
		{"x-azure-socketip", FieldProxied}, {"x-originating-ip", FieldProxied}},
	17: {{"transfer-encoding", FieldTransferEncoding}, {"x-forwarded-proto", FieldProto}, {"client-cert-chain", FieldProxied}},
	18: {{"proxy-authenticate", FieldHopByHop}, {"x-forwarded-scheme", FieldIdentity}, {"cf-connecting-ipv6", FieldProxied},
		{"wl-proxy-client-ip", FieldProxied}},
	19: {{"proxy-authorization", FieldHopByHop}, {"x-cluster-client-ip", FieldProxied}, {"x-appengine-user-ip", FieldProxied}},
	20: {{"x-http-host-override", FieldProxied}},
	24: {{"x-original-forwarded-for", FieldIdentity}, {"x-envoy-external-address", FieldProxied}},
	25: {{"x-original-forwarded-host", FieldIdentity}},
}

// families are fields by their first bytes: whatever a proxy in front of us might
// say of the client or of the request. They are asked after known.
var families = [...]struct {
	prefix string
	id     FieldID
}{
	{"x-forwarded-", FieldProxied},
	{"x-original-", FieldProxied},
	{"ssl-client-", FieldIdentity},
	{"x-ssl-client-", FieldProxied},
	{"x-tls-client-", FieldProxied},
}

// identify finds the ID of a field name. class joins the classes of its characters.
func identify(name []byte, class uint8) FieldID {
	n := len(name)
	if n < len(known) {
		for i := range known[n] {
			k := &known[n][i]
			if fold[name[0]] == k.name[0] && equalFolded(k.name, name) {
				return aliasOf(k.id, class)
			}
		}
	}
	if c := fold[name[0]]; c == 'x' || c == 's' {
		for i := range families {
			f := &families[i]
			if n > len(f.prefix) && equalFolded(f.prefix, name[:len(f.prefix)]) {
				return aliasOf(f.id, class)
			}
		}
	}
	return otherName(class)
}

// otherName is the ID of a field that is not known.
func otherName(class uint8) FieldID {
	switch {
	case class&nameOdd != 0:
		return FieldOddName
	case class&nameUnderscore != 0:
		return FieldUnderscore
	}
	return FieldOther
}

// aliasOf turns a framing, routing or client-supplied field into FieldAlias
// when it is not spelled with hyphens: it is not that field for us, but could
// be for a backend.
func aliasOf(id FieldID, class uint8) FieldID {
	if class == nameHyphen {
		return id
	}
	switch id {
	case FieldForwarded, FieldProto, FieldFwdHost, FieldFwdPort, FieldIdentity, FieldProxied:
		return FieldIdentity // no proxy spells it so: not even a trusted one is believed
	case FieldReferer, FieldUserAgent, FieldAuthorization, FieldChallenge:
		return otherName(class)
	}
	return FieldAlias
}

func equalFolded(folded string, b []byte) bool {
	if len(folded) != len(b) {
		return false
	}
	for i := range len(folded) {
		if fold[b[i]] != folded[i] {
			return false
		}
	}
	return true
}

// Head is a start line with its fields, in the buffer it was read into. It is
// valid until that buffer is reused.
type Head struct {
	buf    []byte // start line to the empty line, inclusive
	Fields []Field
}

// Name of the field as it was spelled.
func (h *Head) Name(f *Field) []byte { return h.buf[f.start:f.nameEnd] }

// Value of the field without surrounding white space.
func (h *Head) Value(f *Field) []byte { return h.buf[f.valueStart:f.valueEnd] }

// Get returns the value of the first field with the (lower-case) name, or nil.
// It is a linear search, for the few fields that have no ID.
func (h *Head) Get(lower string) []byte {
	for i := range h.Fields {
		if f := &h.Fields[i]; equalFold(lower, h.Name(f)) {
			return h.Value(f)
		}
	}
	return nil
}

// Count is how many fields have the ID.
func (h *Head) Count(id FieldID) (n int) {
	for i := range h.Fields {
		if h.Fields[i].ID == id {
			n++
		}
	}
	return n
}

// parseFields reads field lines from buf[at:] up to and including the empty
// line, which must be there. It gives the offset behind it.
func (h *Head) parseFields(buf []byte, at, maxFields int) (int, error) {
	h.buf = buf
	h.Fields = h.Fields[:0]
	for {
		line := buf[at:]
		nl := bytes.IndexByte(line, '\n')
		if nl < 1 || line[nl-1] != '\r' {
			return 0, errBareLF
		}
		if nl == 1 {
			h.buf = buf[:at+2]
			return at + 2, nil
		}
		if len(h.Fields) == maxFields {
			return 0, ErrTooManyFields
		}
		f, err := parseField(line[:nl-1])
		if err != nil {
			return 0, nameField(err, line[:nl-1])
		}
		base := uint32(at)
		f.start = base
		f.nameEnd += base
		f.valueStart += base
		f.valueEnd += base
		f.end = base + uint32(nl) + 1
		h.Fields = append(h.Fields, f)
		at += nl + 1
	}
}

// nameField adds to an error of parseField which field it is about.
func nameField(err error, line []byte) error {
	name, _, ok := bytes.Cut(line, []byte(":"))
	rule, is := err.(Rule)
	if !ok || !is || !validToken(name) {
		return err
	}
	return &FieldError{Rule: rule, Name: string(name[:min(len(name), 64)])}
}

// parseField reads one line without its CRLF.
func parseField(line []byte) (f Field, err error) {
	if line[0] == ' ' || line[0] == '\t' {
		return f, errObsFold
	}
	colon, class := scanName(line)
	if colon == len(line) || line[colon] != ':' || colon == 0 {
		return f, errFieldName
	}
	value := line[colon+1:]
	if !validValue(value) {
		return f, errFieldValue
	}
	start, end := colon+1, len(line)
	for start < end && isSpace(line[start]) {
		start++
	}
	for end > start && isSpace(line[end-1]) {
		end--
	}
	f.nameEnd, f.valueStart, f.valueEnd = uint32(colon), uint32(start), uint32(end)
	f.Repair = len(value) > 0 && (value[0] != ' ' || start > colon+2 || end != len(line))
	f.ID = identify(line[:colon], class)
	return f, nil
}

// AppendFields appends all fields that are not dropped, as they were received,
// in maximal runs; only lines with other white space than most are written anew.
func (h *Head) AppendFields(dst []byte) []byte {
	runStart, runEnd := uint32(0), uint32(0)
	for i := range h.Fields {
		f := &h.Fields[i]
		if f.Drop {
			continue
		}
		if f.Repair {
			dst = append(dst, h.buf[runStart:runEnd]...)
			runStart, runEnd = f.end, f.end
			dst = append(append(dst, h.Name(f)...), ": "...)
			dst = append(append(dst, h.Value(f)...), "\r\n"...)
			continue
		}
		if f.start != runEnd {
			dst = append(dst, h.buf[runStart:runEnd]...)
			runStart = f.start
		}
		runEnd = f.end
	}
	return append(dst, h.buf[runStart:runEnd]...)
}

// dropNominated drops the fields that a Connection value names. Naming a field
// that frames or routes the message is refused: a next hop could read it
// without that field.
func (h *Head) dropNominated(value []byte) error {
	for len(value) > 0 {
		var name []byte
		name, value = nextElement(value)
		if len(name) == 0 || equalFold("close", name) || equalFold("keep-alive", name) || equalFold("upgrade", name) {
			continue
		}
		n, class := scanName(name)
		if n != len(name) {
			return errConnection
		}
		switch identify(name, class) {
		case FieldHost, FieldContentLength, FieldTransferEncoding:
			return errConnection
		}
		for i := range h.Fields {
			f := &h.Fields[i]
			if n := h.Name(f); len(n) == len(name) && bytes.EqualFold(n, name) {
				f.Drop = true
				if f.ID == FieldProxied {
					f.ID = FieldHopByHop // and nobody is believed: see Believe
				}
			}
		}
	}
	return nil
}

func hasElement(value []byte, lower string) bool {
	for len(value) > 0 {
		var e []byte
		e, value = nextElement(value)
		if equalFold(lower, e) {
			return true
		}
	}
	return false
}

// DropNamed drops all fields with the (lower-case) name.
func (h *Head) DropNamed(lower string) {
	for i := range h.Fields {
		if f := &h.Fields[i]; equalFold(lower, h.Name(f)) {
			f.Drop = true
		}
	}
}

// Any reports whether there is a field that is not dropped.
func (h *Head) Any() bool {
	for i := range h.Fields {
		if !h.Fields[i].Drop {
			return true
		}
	}
	return false
}

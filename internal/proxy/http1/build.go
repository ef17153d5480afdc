package http1

import (
	"bytes"
	"net/http"
	"strconv"
)

// Heads that do not come as text (HTTP/2, HTTP/3) are built field by field into
// the same structures that Parse fills, and then interpreted by the same code:
// BeginBuild, AddField for every field, FinishBuild. What the version itself
// forbids (upper case, connection-specific fields, pseudo-fields out of place)
// is for the caller to refuse.

// BeginBuild empties the head and makes it grow in buf, which is from
// GetBuffer. A head that outgrows it moves to a larger one and gives the old
// one back, so that the caller returns what Buffer gives, not buf.
func (h *Head) BeginBuild(buf []byte) {
	h.buf = buf[:0]
	h.Fields = h.Fields[:0]
}

// Buffer is the memory that the head uses, for PutBuffer once it is done with.
func (h *Head) Buffer() []byte { return h.buf[:0] }

// reserve makes room for n more bytes.
func (h *Head) reserve(n int) {
	if cap(h.buf)-len(h.buf) >= n {
		return
	}
	n += len(h.buf)
	var b []byte
	if n <= LargeBuffer {
		b = GetBuffer(n)[:0]
	} else {
		b = make([]byte, 0, n+n/2)
	}
	b = append(b, h.buf...)
	PutBuffer(h.buf)
	h.buf = b
}

// AddField appends a field line. It refuses a name that is no token, and a
// value with control bytes or surrounding white space (RFC 9113, section
// 8.2.1), since either could become something else on an HTTP/1.1 connection.
func (h *Head) AddField(name, value string) error {
	h.reserve(len(name) + len(value) + 4)
	start := len(h.buf)
	b := append(h.buf, name...)
	nameEnd := len(b)
	b = append(b, ':', ' ')
	b = append(b, value...)
	valueEnd := len(b)
	b = append(b, '\r', '\n')
	n, v := b[start:nameEnd], b[nameEnd+2:valueEnd]
	length, class := scanName(n)
	if length == 0 || length != len(n) {
		return errFieldName
	}
	if !validValue(v) || len(v) > 0 && (isSpace(v[0]) || isSpace(v[len(v)-1])) {
		return &FieldError{Rule: errFieldValue, Name: name[:min(len(name), 64)]}
	}
	h.buf = b
	h.Fields = append(h.Fields, Field{
		start: uint32(start), nameEnd: uint32(nameEnd),
		valueStart: uint32(nameEnd + 2), valueEnd: uint32(valueEnd), end: uint32(len(b)),
		ID: identify(n, class),
	})
	return nil
}

func isSpace(c byte) bool { return c == ' ' || c == '\t' }

// has reports whether there is a field of the ID.
func (h *Head) has(id FieldID) bool {
	for i := range h.Fields {
		if h.Fields[i].ID == id {
			return true
		}
	}
	return false
}

// FinishTrailer ends the building of a trailer: it marks Drop what must not be
// in one, as for the trailer of a chunked body.
func (h *Head) FinishTrailer(names Names) {
	for i := range h.Fields {
		f := &h.Fields[i]
		f.Drop = !names.pass(f.ID) || forbiddenTrailer(h.Name(f))
	}
}

// Control is what a request says outside of its fields.
type Control struct {
	Method    string
	Target    string // "/path?query", or "*"; empty with a plain CONNECT
	Authority string // empty if only Host tells
	Scheme    string // "http", "https", or empty with a plain CONNECT
	// Upgrade is the protocol of an extended CONNECT (RFC 8441), which becomes
	// the GET with Upgrade that it stands for.
	Upgrade string
	// Body: payload may follow.
	Body bool
}

// BeginBuild makes r ready for AddField; see Head.BeginBuild.
func (r *Request) BeginBuild(buf []byte) {
	r.Reset()
	r.Head.BeginBuild(buf)
}

// FinishBuild ends the building of a request. It accepts and refuses what Parse
// does. A body without Content-Length makes the request Chunked, which is how
// an HTTP/1.1 connection must carry it; Authority becomes the Host field if
// there is none. After an error only Method, Target and Authority may be set.
func (r *Request) FinishBuild(c Control, lim Limits) error {
	if len(r.Fields) > lim.Fields {
		return ErrTooManyFields
	}
	if c.Authority != "" && !r.has(FieldHost) {
		if err := r.AddField("host", c.Authority); err != nil {
			return errHost
		}
	}
	method, target := c.Method, c.Target
	switch {
	case c.Upgrade != "":
		method = "GET"
	case method == "CONNECT":
		target = c.Authority
	}
	r.reserve(len(method) + len(target) + len(c.Authority) + len(c.Upgrade))
	r.Method = r.keep(method)
	if !validToken(r.Method) {
		return errStartLine
	}
	r.names = lim.Names
	switch c.Scheme {
	case "http":
		r.port = "80"
	case "https":
		r.port = "443"
	}
	t := r.keep(target)
	authority := r.keep(c.Authority)
	upgrade := r.keep(c.Upgrade)
	if bytes.IndexByte(t, ' ') >= 0 || (method != "CONNECT" && (len(t) == 0 || t[0] != '/' && target != "*")) {
		return errTarget
	}
	if err := r.parseTarget(t); err != nil {
		return err
	}
	r.Chunked = c.Body && c.Upgrade == "" && !r.has(FieldContentLength)
	if err := r.interpret(); err != nil {
		return err
	}
	if c.Authority != "" && method != "CONNECT" {
		// RFC 9113, section 8.3.1: they must not differ, and :authority wins.
		host := r.Authority
		r.Authority = authority
		if err := r.settleHost(host); err != nil {
			return err
		}
	}
	if bytes.IndexByte(r.Authority, '@') >= 0 {
		return errHost
	}
	if !c.Body && r.Length > 0 || c.Upgrade != "" && r.has(FieldContentLength) {
		return errLength
	}
	if c.Upgrade != "" {
		if !mayUpgrade(upgrade) {
			return errUpgradeField
		}
		r.Upgrade = upgrade
	}
	if len(t) > lim.Target {
		return ErrURITooLong
	}
	return nil
}

// keep copies s behind the fields. There is room.
func (r *Request) keep(s string) []byte {
	at := len(r.buf)
	r.buf = append(r.buf, s...)
	return r.buf[at:]
}

// BeginBuild makes r ready for AddField; see Head.BeginBuild.
func (r *Response) BeginBuild(buf []byte) {
	*r = Response{Head: Head{Fields: r.Fields[:0]}, Length: -1}
	r.Head.BeginBuild(buf)
}

// FinishBuild ends the building of a response with a status from 100 to 999.
// head says that the request was HEAD, body that payload may follow. Without
// Content-Length the response is Chunked, unless it has no body by its nature.
func (r *Response) FinishBuild(status int, head, body bool) error {
	if status < 100 || status > 999 {
		return errStatusLine
	}
	r.Status = status
	text := http.StatusText(status)
	r.reserve(4 + len(text))
	at := len(r.buf)
	r.buf = strconv.AppendInt(r.buf, int64(status), 10)
	r.buf = append(append(r.buf, ' '), text...)
	r.StatusText = r.buf[at:]
	none := head || status < 200 || status == http.StatusNoContent || status == http.StatusNotModified
	r.Chunked = !none && !r.has(FieldContentLength)
	if err := r.interpret(head); err != nil {
		return err
	}
	if !body && !r.NoBody && r.Length > 0 {
		return errLength
	}
	r.Close = false
	return nil
}

// Size is how many bytes of fields were read or built, roughly: enough to make
// room for them elsewhere.
func (h *Head) Size() int { return len(h.buf) }

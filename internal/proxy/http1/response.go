package http1

import "bytes"

// Response is a parsed response head. Reuse it from response to response.
type Response struct {
	Head
	Status int
	// StatusText is from the status code to the end of the line: "200 OK".
	StatusText []byte
	HTTP10     bool
	// Exactly one of these frames the body, unless NoBody: Chunked, Length
	// (>= 0), or the end of the connection (Length -1).
	Chunked bool
	Length  int64
	NoBody  bool // by status or method: framing fields describe another answer
	// Doubtful: the response cannot have a body, and its fields promise one all the
	// same. Whether bytes follow is anybody's guess, so nothing else may be taken
	// from the connection; see Close.
	Doubtful bool
	Dated    bool // there is a Date
	// Close: the connection cannot be used again.
	Close   bool
	Upgrade []byte // value of Upgrade, on 101 only
	// KeepAlive is how long the server keeps the connection otherwise.
	KeepAlive KeepAlive
	// ConnectionAuth: the endpoint asks for a login of the connection (NTLM,
	// Negotiate), which must then not be shared.
	ConnectionAuth bool
}

// Reset forgets the answer. Until the next Parse nothing refers to a buffer.
func (r *Response) Reset() { *r = Response{Head: Head{Fields: r.Fields[:0]}} }

// Parse reads the head that fills buf exactly (see HeadEnd). head says that
// the request was HEAD. Connection options are marked Drop.
func (r *Response) Parse(buf []byte, maxFields int, head bool) error {
	*r = Response{Head: Head{Fields: r.Fields[:0]}, Length: -1, KeepAlive: noKeepAlive}
	nl := bytes.IndexByte(buf, '\n')
	if nl < 1 || buf[nl-1] != '\r' {
		return errBareLF
	}
	if err := r.parseStatusLine(buf[:nl-1]); err != nil {
		return err
	}
	n, err := r.parseFields(buf, nl+1, maxFields)
	if err != nil {
		return err
	}
	if n != len(buf) {
		return errBareLF
	}
	return r.interpret(head)
}

func (r *Response) parseStatusLine(line []byte) error {
	if len(line) < 12 || string(line[:7]) != "HTTP/1." || line[7] < '0' || line[7] > '9' || line[8] != ' ' {
		return errStatusLine
	}
	r.HTTP10 = line[7] == '0'
	for _, c := range line[9:12] {
		if c < '0' || c > '9' {
			return errStatusLine
		}
		r.Status = r.Status*10 + int(c-'0')
	}
	// 600 to 999 mean nothing (RFC 9110, section 15), but neither are they ambiguous:
	// endpoints have statuses of their own, and nginx and HAProxy pass them on.
	if r.Status < 100 || (len(line) > 12 && line[12] != ' ') || !validValue(line[12:]) {
		return errStatusLine
	}
	r.StatusText = line[9:]
	return nil
}

func (r *Response) interpret(head bool) error {
	r.NoBody = head || r.Status < 200 || r.Status == 204 || r.Status == 304
	var fr framing
	closeAsked, keepAlive := false, false
	for i := range r.Fields {
		f := &r.Fields[i]
		if f.ID == FieldOther {
			continue
		}
		v := r.Value(f)
		switch f.ID {
		case FieldConnection:
			f.Drop = true
			closeAsked = closeAsked || hasElement(v, "close")
			keepAlive = keepAlive || hasElement(v, "keep-alive")
			if err := r.dropNominated(v); err != nil {
				return err
			}
		case FieldContentLength:
			fr.addLength(v)
			r.trimZeros(f)
		case FieldTransferEncoding:
			f.Drop = true
			fr.addCoding(v)
		case FieldUpgrade:
			f.Drop = true
			r.Upgrade = v
		case FieldDate:
			r.Dated = true
		case FieldHopByHop:
			// Proxy-Authenticate is for the client of a forward proxy, which
			// this is not.
			f.Drop = true
			if equalFold("keep-alive", r.Name(f)) {
				r.KeepAlive.read(v)
			}
		case FieldChallenge:
			for len(v) > 0 {
				var challenge []byte
				challenge, v = nextElement(v)
				r.ConnectionAuth = r.ConnectionAuth || connectionScheme(challenge)
			}
		case FieldAlias:
			f.Drop = true
		}
	}
	if err := r.frame(&fr); err != nil {
		return err
	}
	r.Close = closeAsked || (r.HTTP10 && !keepAlive) || (!r.NoBody && !r.Chunked && r.Length < 0) || r.Doubtful
	if r.Status != 101 {
		r.Upgrade = nil
	} else if len(r.Upgrade) > 0 && !mayUpgrade(r.Upgrade) {
		return errUpgradeField // nobody can have been asked for it
	}
	return nil
}

// framing is what the framing fields of a response say.
type framing struct {
	lengths, codings int
	length           int64
	err              error // the first that is wrong
}

func (fr *framing) addLength(v []byte) {
	n, ok := parseLength(v)
	fr.length = n
	if fr.lengths++; (!ok || fr.lengths > 1) && fr.err == nil {
		fr.err = errLength
	}
}

func (fr *framing) addCoding(v []byte) {
	if fr.codings++; (!equalFold("chunked", v) || fr.codings > 1) && fr.err == nil {
		fr.err = errTransfer
	}
}

// frame decides how the body is framed (RFC 9112, section 6.3). Rule 1 comes first:
// a response that cannot have a body has none, whatever its fields say, and they
// cannot make it ambiguous.
func (r *Response) frame(fr *framing) error {
	if fr.err == nil && fr.codings > 0 && (fr.lengths > 0 || r.HTTP10) {
		fr.err = errTransfer
	}
	if !r.NoBody {
		if r.Chunked = fr.codings > 0 || r.Chunked; fr.lengths > 0 {
			r.Length = fr.length
		}
		return fr.err
	}
	r.Chunked = false
	if r.Status < 200 || r.Status == 204 {
		// RFC 9110, section 8.6: no Content-Length with these. There are servers that
		// frame them.
		r.DropLength()
		r.Doubtful = fr.err != nil || fr.codings > 0 || fr.length > 0
		return nil
	}
	// To HEAD, and with 304, both fields tell of the response to a GET.
	if fr.err != nil {
		r.DropLength()
		r.Doubtful = true
	} else if fr.lengths > 0 {
		r.Length = fr.length
	}
	return nil
}

// AppendStatusLine appends the status line for a client of HTTP/1.1, with the
// space behind the code that stands there even without a reason (RFC 9112, section
// 4), which not all endpoints send.
func (r *Response) AppendStatusLine(b []byte) []byte {
	b = append(b, "HTTP/1.1 "...)
	b = append(b, r.StatusText...)
	if len(r.StatusText) == 3 {
		b = append(b, ' ')
	}
	return append(b, '\r', '\n')
}

// DropLength drops Content-Length, for an answer that is framed otherwise.
func (r *Response) DropLength() {
	for i := range r.Fields {
		if r.Fields[i].ID == FieldContentLength {
			r.Fields[i].Drop = true
		}
	}
}

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
	if r.Status < 100 || r.Status > 599 || (len(line) > 12 && line[12] != ' ') || !validValue(line[12:]) {
		return errStatusLine
	}
	r.StatusText = line[9:]
	return nil
}

func (r *Response) interpret(head bool) error {
	transfer, length := 0, 0
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
			length++
			n, ok := parseLength(v)
			if !ok || length > 1 {
				return errLength
			}
			r.Length = n
		case FieldTransferEncoding:
			transfer++
			if !equalFold("chunked", v) {
				return errTransfer
			}
			f.Drop = true
			r.Chunked = true
		case FieldUpgrade:
			f.Drop = true
			r.Upgrade = v
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
	if transfer > 1 || (transfer > 0 && (length > 0 || r.HTTP10)) {
		return errTransfer
	}
	r.NoBody = head || r.Status < 200 || r.Status == 204 || r.Status == 304
	misframed := (r.Status < 200 || r.Status == 204) && (transfer > 0 || r.Length > 0)
	if misframed && r.Status != 204 {
		return errTransfer
	}
	if misframed {
		// There are servers that frame a 204. It has no body all the same (RFC
		// 9112, section 6.3), but whether they send one is anybody's guess.
		r.DropLength()
		closeAsked = true
	}
	r.Close = closeAsked || (r.HTTP10 && !keepAlive) || (!r.NoBody && !r.Chunked && r.Length < 0)
	if r.Status != 101 {
		r.Upgrade = nil
	}
	return nil
}

// DropLength drops Content-Length, for an answer that is framed otherwise.
func (r *Response) DropLength() {
	for i := range r.Fields {
		if r.Fields[i].ID == FieldContentLength {
			r.Fields[i].Drop = true
		}
	}
}

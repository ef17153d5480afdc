package http1

import (
	"bytes"
	"errors"
	"io"
	"testing/iotest"
)

// message is what was read of one message, copied out of all buffers.
type message struct {
	req     Request
	res     Response
	head    []byte // owned by the message: req and res refer to it
	payload []byte
	trailer []string // names and values in turn, dropped ones included
	rest    []byte   // bytes behind the message
}

var errCut = errors.New("input ends within the message")

// readHead reads as a connection does: through a Reader, looking for the end.
func readHead(r *Reader) ([]byte, error) {
	for scanned := 0; ; {
		in := r.Unread()
		for len(in) >= 2 && in[0] == '\r' && in[1] == '\n' {
			r.Consume(2)
			in, scanned = in[2:], 0
		}
		if end := HeadEnd(in, scanned); end > 0 {
			r.Consume(end)
			return bytes.Clone(in[:end]), nil
		}
		scanned = len(in)
		if err := r.Fill(); err != nil {
			if err == io.EOF {
				err = errCut
			}
			return nil, err
		}
	}
}

func (m *message) readBody(r *Reader, b *Body) error {
	for !b.Done() {
		data, err := b.Next(r)
		if err != nil {
			return err
		}
		m.payload = append(m.payload, data...)
	}
	for i := range b.Trailer().Fields {
		f := &b.Trailer().Fields[i]
		m.trailer = append(m.trailer, string(b.Trailer().Name(f)), string(b.Trailer().Value(f)))
	}
	m.rest = bytes.Clone(r.Unread())
	left, err := io.ReadAll(r.Src)
	m.rest = append(m.rest, left...)
	return err
}

func readRequest(src io.Reader) (m message, err error) {
	r := Reader{Src: src}
	defer r.Release()
	if m.head, err = readHead(&r); err != nil {
		return m, err
	}
	if err = m.req.Parse(m.head, testLimits); err != nil {
		return m, err
	}
	var b Body
	b.RequestBody(&m.req, 32)
	return m, m.readBody(&r, &b)
}

func readResponse(src io.Reader, head bool) (m message, err error) {
	r := Reader{Src: src}
	defer r.Release()
	if m.head, err = readHead(&r); err != nil {
		return m, err
	}
	if err = m.res.Parse(m.head, testLimits.Fields, head); err != nil {
		return m, err
	}
	var b Body
	b.ResponseBody(&m.res, 32)
	return m, m.readBody(&r, &b)
}

// sources gives the same bytes at once, one by one, and cut at one place.
func sources(in []byte, cut int) map[string]io.Reader {
	return map[string]io.Reader{
		"at once":    bytes.NewReader(in),
		"one by one": iotest.OneByteReader(bytes.NewReader(in)),
		"cut":        io.MultiReader(bytes.NewReader(in[:cut]), bytes.NewReader(in[cut:])),
	}
}

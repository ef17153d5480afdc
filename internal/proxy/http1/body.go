package http1

import (
	"errors"
	"io"
	"net"
	"syscall"
)

// Body reads the payload of one message from a Reader.
type Body struct {
	kind   bodyKind
	done   bool
	left   int64
	chunks Chunks
	// Size counts payload bytes given so far.
	Size int64
}

type bodyKind uint8

const (
	bodyNone bodyKind = iota
	bodyLength
	bodyChunked
	bodyToEOF
)

// RequestBody frames the body of a parsed request.
func (b *Body) RequestBody(r *Request, maxFields int) {
	b.reset(maxFields)
	b.chunks.Names = r.names
	switch {
	case r.Chunked:
		b.kind = bodyChunked
	case r.Length > 0:
		b.kind, b.left = bodyLength, r.Length
	default:
		b.done = true
	}
}

// ResponseBody frames the body of a parsed response.
func (b *Body) ResponseBody(r *Response, maxFields int) {
	b.reset(maxFields)
	b.chunks.Names = NamesAny
	switch {
	case r.NoBody || r.Length == 0:
		b.done = true
	case r.Chunked:
		b.kind = bodyChunked
	case r.Length > 0:
		b.kind, b.left = bodyLength, r.Length
	default:
		b.kind = bodyToEOF
	}
}

func (b *Body) reset(maxFields int) {
	fields := b.chunks.Trailer.Fields[:0]
	*b = Body{chunks: Chunks{Fields: maxFields, Trailer: Head{Fields: fields}}}
}

// Done reports whether the whole body was given.
func (b *Body) Done() bool { return b.done }

// Left is how many bytes of a body with a length are still to come, else -1.
func (b *Body) Left() int64 {
	if b.kind != bodyLength {
		return -1
	}
	return b.left
}

// Skip counts n bytes of a body with a length that were moved past the Reader.
func (b *Body) Skip(n int64) {
	b.left -= n
	b.Size += n
	b.done = b.left == 0
}

// Trailer gives the trailer fields of a chunked body that is done.
func (b *Body) Trailer() *Head { return &b.chunks.Trailer }

// Buffered gives the next run of payload that was read already, without
// reading. Nothing and no error: more must be read, or Done.
func (b *Body) Buffered(r *Reader) ([]byte, error) {
	if b.done {
		return nil, nil
	}
	in := r.Unread()
	switch b.kind {
	case bodyLength:
		n := int(min(int64(len(in)), b.left))
		r.Consume(n)
		b.Skip(int64(n))
		return in[:n], nil
	case bodyChunked:
		data, used, done, err := b.chunks.Next(in)
		if err != nil {
			return nil, err
		}
		r.Consume(used)
		b.done = done
		b.Size += int64(len(data))
		return data, nil
	default:
		r.Consume(len(in))
		b.Size += int64(len(in))
		return in, nil
	}
}

// Next gives the next run of payload, reading when it must; the run is valid
// until the next call. At the end it gives nothing and Done is true. A message
// cut off by the end of the connection is io.ErrUnexpectedEOF.
func (b *Body) Next(r *Reader) ([]byte, error) {
	for {
		data, err := b.Buffered(r)
		if len(data) > 0 || err != nil || b.done {
			return data, err
		}
		if err := r.Fill(); err != nil {
			return nil, b.Ended(err)
		}
	}
}

// Ended takes the error of a read and says what it means for the body: nil when
// the end of the connection is the body's, io.ErrUnexpectedEOF when it is cut.
func (b *Body) Ended(err error) error {
	if err != io.EOF {
		return err
	}
	if b.kind != bodyToEOF {
		return io.ErrUnexpectedEOF
	}
	b.done = true
	return nil
}

// IsTimeout reports whether err is a deadline that has passed: one of ours, after
// which the connection is as good as before, and not the kernel's ETIMEDOUT,
// which ends it.
func IsTimeout(err error) bool {
	ne, ok := err.(net.Error)
	return ok && ne.Timeout() && !errors.Is(err, syscall.ETIMEDOUT)
}

// Empty makes b the body of a message without one.
func (b *Body) Empty() {
	b.reset(0)
	b.done = true
}

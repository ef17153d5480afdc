package http1

import (
	"errors"
	"io"
	"sync"
)

// Buffer sizes: an idle connection holds the smallest, a large head or a
// stream of body bytes grows through the others.
const (
	SmallBuffer  = 4 << 10
	MediumBuffer = 16 << 10
	LargeBuffer  = 72 << 10 // 64 KiB with a head before them
)

// ErrBufferFull is returned by Fill when what is unread fills the largest buffer.
var ErrBufferFull = errors.New("buffer full")

// pools of buffers by size. They are shared by all connections: a Pool is the
// only global state here and is not visible to anybody.
var pools = [...]sync.Pool{
	{New: func() any { return new([SmallBuffer]byte) }},
	{New: func() any { return new([MediumBuffer]byte) }},
	{New: func() any { return new([LargeBuffer]byte) }},
}

// GetBuffer lends a buffer of one of the three sizes; n is rounded up to it.
func GetBuffer(n int) []byte {
	switch {
	case n <= SmallBuffer:
		return pools[0].Get().(*[SmallBuffer]byte)[:]
	case n <= MediumBuffer:
		return pools[1].Get().(*[MediumBuffer]byte)[:]
	default:
		return pools[2].Get().(*[LargeBuffer]byte)[:]
	}
}

// PutBuffer returns what GetBuffer lent. Slices of other sizes are ignored.
func PutBuffer(b []byte) {
	b = b[:cap(b)]
	switch len(b) {
	case SmallBuffer:
		pools[0].Put((*[SmallBuffer]byte)(b))
	case MediumBuffer:
		pools[1].Put((*[MediumBuffer]byte)(b))
	case LargeBuffer:
		pools[2].Put((*[LargeBuffer]byte)(b))
	}
}

// Reader buffers one direction of a connection. Src is the seam for other ways
// of reading: Fill is the only place that reads.
type Reader struct {
	Src  io.Reader
	buf  []byte
	r, w int
}

// Unread gives the bytes that were read but not consumed. They stay valid until
// the next Fill, Detach or Release.
func (r *Reader) Unread() []byte { return r.buf[r.r:r.w] }

// Consume marks n unread bytes as used.
func (r *Reader) Consume(n int) {
	if n > r.w-r.r {
		panic("BUG: http1.Reader.Consume beyond what was read")
	}
	r.r += n
}

// Fill reads once, behind what is unread; it grows the buffer when it is full.
// It returns ErrBufferFull at LargeBuffer, or the error of Src.
func (r *Reader) Fill() error {
	if err := r.room(); err != nil {
		return err
	}
	n, err := r.Src.Read(r.buf[r.w:])
	r.w += n
	if n > 0 {
		return nil
	}
	if err == nil {
		err = io.ErrNoProgress
	}
	return err
}

func (r *Reader) room() error {
	if r.r == r.w {
		r.r, r.w = 0, 0
	}
	switch {
	case r.buf == nil:
		r.buf = GetBuffer(SmallBuffer)
	case r.w < len(r.buf):
	case r.r > 0:
		r.w = copy(r.buf, r.buf[r.r:r.w])
		r.r = 0
	case len(r.buf) >= LargeBuffer:
		return ErrBufferFull
	default:
		r.Grow(len(r.buf) + 1)
	}
	return nil
}

// Grow makes the buffer hold at least n bytes (at most LargeBuffer).
func (r *Reader) Grow(n int) {
	if len(r.buf) >= n || len(r.buf) == LargeBuffer {
		return
	}
	old := r.Detach(n)
	PutBuffer(old)
}

// Detach gives the caller the present buffer, in which a head may live on, and
// goes on with the unread bytes in another of at least n bytes. The caller
// returns the old one with PutBuffer.
func (r *Reader) Detach(n int) (old []byte) {
	old = r.buf
	fresh := GetBuffer(max(n, r.w-r.r))
	r.w = copy(fresh, old[r.r:r.w])
	r.r, r.buf = 0, fresh
	return old
}

// Release returns the buffer; what is unread is lost.
func (r *Reader) Release() {
	if r.buf != nil {
		PutBuffer(r.buf)
	}
	r.buf, r.r, r.w = nil, 0, 0
}

// Shrink gives back a large buffer while nothing is unread.
func (r *Reader) Shrink() {
	if r.r == r.w && len(r.buf) > SmallBuffer {
		r.Release()
	}
}

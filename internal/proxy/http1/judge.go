package http1

import "bytes"

// Judge looks at a request head as its bytes come, so that what can become no
// request is refused at once and not when its sender has been waited for. The zero
// value is ready for a head; each byte is looked at a bounded number of times,
// however many pieces it comes in.
type Judge struct {
	line   int // where the present line begins
	seen   int // how far was looked
	fields int // whole field lines
	part   part
	cr     bool // the last byte was CR
	mark   int  // where the present part of the line begins
}

// part is of a line that has not ended.
type part uint8

const (
	partName  part = iota // method or field name
	partValue             // target or field value
	partRest              // what is behind the target
)

// Judge takes all of the head that has come so far: the bytes of the last call,
// which may have been moved in memory, with more behind them. end is the offset
// behind its empty line, or 0 while more is needed. It refuses only what Parse
// would refuse whatever came behind it.
func (j *Judge) Judge(in []byte, lim Limits) (end int, err error) {
	for {
		nl := bytes.IndexByte(in[j.seen:], '\n')
		if nl < 0 {
			err = j.judgePart(in, lim)
			j.seen = len(in)
			return 0, err
		}
		next := j.seen + nl + 1
		line := in[j.line:next]
		if len(line) < 2 || line[len(line)-2] != '\r' {
			return 0, errBareLF
		}
		switch {
		case j.line == 0:
			var r Request
			_, err = r.parseStartLine(line, lim)
		case len(line) == 2:
			return next, nil
		case j.fields == lim.Fields:
			err = ErrTooManyFields
		default:
			j.fields++
			_, err = parseField(line[:len(line)-2])
		}
		if err != nil {
			return 0, err
		}
		j.line, j.seen, j.mark, j.part, j.cr = next, next, next, partName, false
	}
}

// judgePart judges those bytes of an unfinished line that are new.
func (j *Judge) judgePart(in []byte, lim Limits) error {
	start := j.line == 0
	for i := j.seen; i < len(in); i++ {
		c := in[i]
		if j.cr {
			return errBareCR // it was not the line's end
		}
		if c == '\r' {
			j.cr = true
			continue
		}
		switch j.part {
		case partName:
			switch {
			case isToken[c]:
			case i > j.mark && (start && c == ' ' || !start && c == ':'):
				j.part, j.mark = partValue, i+1
			case start:
				return errStartLine
			case i == j.mark && isSpace(c):
				return errObsFold
			default:
				return errFieldName
			}
		case partValue:
			switch {
			case !start:
				if c < 0x20 && c != '\t' || c == 0x7f {
					return errFieldValue
				}
			case c == ' ':
				j.part = partRest
			case c < 0x20, c == 0x7f, c == '#':
				return errTarget
			case i-j.mark >= lim.Target:
				return ErrURITooLong
			}
		case partRest:
			if c < 0x20 || c >= 0x7f {
				return errStartLine
			}
		}
	}
	return nil
}

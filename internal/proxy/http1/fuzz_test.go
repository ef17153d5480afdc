package http1

import (
	"bytes"
	"testing"
)

// A request that was accepted is accepted again as it would be passed on, and
// then says the same; in pieces it reads as it does at once.
func FuzzRequest(f *testing.F) {
	for _, v := range valid {
		if len(v.in) < 4096 {
			f.Add([]byte(v.in), uint16(7))
		}
	}
	f.Fuzz(func(t *testing.T, in []byte, cut uint16) {
		want, wantErr := readRequest(bytes.NewReader(in))
		for how, src := range sources(in, int(cut)%(len(in)+1)) {
			got, err := readRequest(src)
			if err != wantErr || err == nil && !(bytes.Equal(got.payload, want.payload) && bytes.Equal(got.rest, want.rest)) {
				t.Fatalf("%s: %q, %v; want %q, %v", how, got.payload, err, want.payload, wantErr)
			}
		}
		if wantErr != nil {
			return
		}
		if end := HeadEnd(want.head, 0); end != len(want.head) {
			t.Fatalf("head of %d bytes ends at %d: %q", len(want.head), end, want.head)
		}
		noControls(t, want.req.Method, want.req.Target, want.req.Authority, want.req.RequestID, want.req.ForwardedFor, want.req.Upgrade)
		if len(want.req.Path) == 0 {
			return // authority form
		}
		again := append([]byte(nil), want.req.Method...)
		again = append(again, ' ')
		again = append(again, want.req.Target...)
		again = append(again, " HTTP/1.1\r\n"...)
		if !want.req.HasHost {
			again = append(again, "Host: "...)
			again = append(again, want.req.Authority...)
			again = append(again, "\r\n"...)
		}
		again = want.req.AppendFields(again)
		again = append(again, "\r\n"...)
		var second Request
		if err := second.Parse(again, testLimits); err != nil {
			t.Fatalf("%q is passed on as %q: %v", in, again, err)
		}
		for i := range second.Fields {
			if second.Fields[i].Drop {
				t.Fatalf("%q is passed on: %q", second.Name(&second.Fields[i]), again)
			}
		}
		if !bytes.Equal(second.Target, want.req.Target) || !bytes.EqualFold(second.Authority, want.req.Authority) || second.Length != want.req.Length && !want.req.Chunked {
			t.Fatalf("%q is passed on as %q", in, again)
		}
	})
}

func FuzzResponse(f *testing.F) {
	for _, in := range validResponses {
		f.Add([]byte(in), false, uint16(9))
	}
	f.Fuzz(func(t *testing.T, in []byte, head bool, cut uint16) {
		want, wantErr := readResponse(bytes.NewReader(in), head)
		for how, src := range sources(in, int(cut)%(len(in)+1)) {
			got, err := readResponse(src, head)
			if err != wantErr || err == nil && !(bytes.Equal(got.payload, want.payload) && bytes.Equal(got.rest, want.rest)) {
				t.Fatalf("%s: %q, %v; want %q, %v", how, got.payload, err, want.payload, wantErr)
			}
		}
		if wantErr == nil {
			noControls(t, want.res.StatusText, want.res.Upgrade)
		}
	})
}

// What is decoded and framed anew decodes to the same payload.
func FuzzChunks(f *testing.F) {
	for _, s := range []string{"5\r\nhello\r\n0\r\n\r\n", "5;a=\"b\\\"\"\r\nhello\r\n0;x\r\nX: y\r\n\r\n", "fffffffffffffff\r\n", "0\r\n\r\nGET", "1\nx"} {
		f.Add([]byte(s), uint16(3))
	}
	f.Fuzz(func(t *testing.T, in []byte, cut uint16) {
		decode := func(feed func(have int) int) (payload, rest []byte, err error) {
			c := Chunks{Fields: 32}
			at, have := 0, feed(0)
			for {
				data, used, done, err := c.Next(in[at:have])
				if err != nil || done {
					return payload, in[at+used:], err
				}
				payload = append(payload, data...)
				if at += used; len(data) == 0 {
					if have == len(in) {
						return payload, nil, errCut
					}
					have = feed(have)
				}
			}
		}
		payload, rest, err := decode(func(int) int { return len(in) })
		pieces, restPieces, errPieces := decode(func(have int) int { return min(have+1+int(cut)%5, len(in)) })
		if err != errPieces || !bytes.Equal(payload, pieces) && err == nil || !bytes.Equal(rest, restPieces) && err == nil {
			t.Fatalf("at once %q %v, in pieces %q %v", payload, err, pieces, errPieces)
		}
		if err != nil {
			return
		}
		again := append(AppendChunkSize(nil, len(payload)), payload...)
		if len(payload) > 0 {
			again = append(again, "\r\n0\r\n"...)
		}
		again = append(again, "\r\n"...)
		var c Chunks
		data, used, _, err := c.Next(again)
		if err != nil || !bytes.Equal(data, payload) {
			t.Fatalf("%q: %q, %d, %v", again, data, used, err)
		}
	})
}

func noControls(t *testing.T, values ...[]byte) {
	t.Helper()
	for _, v := range values {
		if bytes.ContainsAny(v, "\r\n\x00") {
			t.Fatalf("control byte in %q", v)
		}
	}
}

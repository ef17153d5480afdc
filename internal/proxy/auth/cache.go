package auth

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"runtime"
	"sync"
	"sync/atomic"
	"time"
)

// Bounds of a Cache. Some 250 KiB when full.
const (
	maxGranted = 4096 // right passwords remembered
	// maxRefused wrong ones are remembered, so that a client that repeats one
	// burns no CPU. They have a table of their own and push out no right one.
	maxRefused = 1024
	// maxSlots bounds the memory of concurrent argon2 checks: 8 x htpasswd.MaxArgon2Memory.
	maxSlots = 8
	// Checks that wait for a slot, over all guards and of one guard: one host
	// under attack must not use up the places of all.
	maxWaiting      = 1024
	maxWaitingUsers = 256
	// maxWait bounds the time of one who waits: longer than any check takes.
	maxWait = 10 * time.Second
)

// Cache remembers verified credentials and schedules slow checks. One serves
// all guards for the life of the process: what it knows is keyed by the user's
// name, the stored hash and the password, of which the first two change with
// the file. So nothing in it grows stale, and nothing expires.
type Cache struct {
	inner, outer [sha256.BlockSize]byte // the key of HMAC, padded and masked
	granted      *table
	refused      *table
	slots        chan struct{}

	mu      sync.Mutex
	flights map[digest]*flight
	waiting int // goroutines that wait for a slot or for a flight
}

// digest stands for a user's line with one password.
type digest [sha256.Size]byte

// flight is one check that runs or waits to run.
type flight struct {
	done    chan struct{}
	outcome Outcome // Granted, Refused, or Overloaded: not checked
}

// NewCache makes an empty Cache. slots is how many slow checks may run at
// once; 0 is half of GOMAXPROCS, at least 1 and at most 8: the other half is
// left to requests that need no check.
func NewCache(slots int) *Cache {
	if slots <= 0 {
		slots = min(max(1, runtime.GOMAXPROCS(0)/2), maxSlots)
	}
	c := &Cache{
		granted: newTable(maxGranted),
		refused: newTable(maxRefused),
		slots:   make(chan struct{}, slots),
		flights: make(map[digest]*flight),
	}
	var key [sha256.BlockSize]byte
	rand.Read(key[:])
	for i, k := range key {
		c.inner[i], c.outer[i] = k^0x36, k^0x5c
	}
	return c
}

// message is where credentials are decoded to, with room for what is hashed in
// front of them: the masked key and the line's ID.
type message [sha256.BlockSize + sha256.Size + (maxCredentials+2)/3*3]byte

func (m *message) credentials() []byte { return m[sha256.BlockSize+sha256.Size:] }

// digest is the HMAC-SHA256 (RFC 2104) of id and the n bytes of credentials in
// m. It is computed by hand for being free of allocations.
func (c *Cache) digest(m *message, id lineID, n int) digest {
	copy(m[:], c.inner[:])
	copy(m[sha256.BlockSize:], id[:])
	sum := sha256.Sum256(m[:sha256.BlockSize+sha256.Size+n])
	var o [sha256.BlockSize + sha256.Size]byte
	copy(o[:], c.outer[:])
	copy(o[sha256.BlockSize:], sum[:])
	return sha256.Sum256(o[:])
}

// verify checks a password that is not remembered, or waits for the one who
// does it already.
func (c *Cache) verify(ctx context.Context, u *Users, e *entry, known bool, d digest, password string) (string, Outcome) {
	ctx, cancel := context.WithTimeout(ctx, maxWait)
	defer cancel()
	for {
		o, f, mine := c.join(u, d)
		if f == nil {
			return e.named(o), o
		}
		if mine {
			o = c.fly(ctx, u, f, d, func() bool { return e.hash.MatchesPassword(password) && known })
			return e.named(o), o
		}
		select {
		case <-f.done:
			c.leave(u)
			// Overloaded is the fate of the one who gave up waiting, not ours.
			if f.outcome != Overloaded {
				return e.named(f.outcome), f.outcome
			}
		case <-ctx.Done():
			c.leave(u)
			return "", Overloaded
		}
	}
}

// join takes a place among those who wait: for the flight of d, which is mine
// to fly if there was none. Without a flight the outcome is known already.
func (c *Cache) join(u *Users, d digest) (o Outcome, f *flight, mine bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	// A flight may have ended since the tables were looked at.
	if c.granted.has(d) {
		return Granted, nil, false
	}
	if c.refused.has(d) {
		return Refused, nil, false
	}
	if c.waiting >= maxWaiting || u.waiting >= maxWaitingUsers {
		return Overloaded, nil, false
	}
	c.waiting++
	u.waiting++
	if f = c.flights[d]; f != nil {
		return 0, f, false
	}
	f = &flight{done: make(chan struct{}), outcome: Overloaded}
	c.flights[d] = f
	return 0, f, true
}

func (c *Cache) leave(u *Users) {
	c.mu.Lock()
	c.waiting--
	u.waiting--
	c.mu.Unlock()
}

// fly waits for a slot and checks. Whatever happens, the flight ends.
func (c *Cache) fly(ctx context.Context, u *Users, f *flight, d digest, check func() bool) Outcome {
	defer func() {
		c.mu.Lock()
		defer c.mu.Unlock()
		switch f.outcome {
		case Granted:
			c.granted.add(d)
		case Refused:
			c.refused.add(d)
		}
		delete(c.flights, d)
		close(f.done)
	}()
	select {
	case c.slots <- struct{}{}:
		c.leave(u)
	case <-ctx.Done():
		c.leave(u)
		return Overloaded
	}
	defer func() { <-c.slots }()
	if ctx.Err() != nil {
		return Overloaded // both were ready: nobody waits for the answer any more
	}
	if check() {
		f.outcome = Granted
	} else {
		f.outcome = Refused
	}
	return f.outcome
}

// ways is how many places one digest may have.
const ways = 8

// table is a bounded set of digests: many small sets, in each of which those
// not used of late give way. Digests are under a secret key, so nobody can
// choose the set, and comparing them in any way betrays nothing.
type table struct{ sets []set }

type set struct {
	marks [ways]atomic.Pointer[mark]
	hand  int
}

type mark struct {
	digest digest
	used   atomic.Bool
}

func newTable(size int) *table { return &table{sets: make([]set, size/ways)} }

func (t *table) set(d digest) *set {
	return &t.sets[binary.LittleEndian.Uint64(d[:])%uint64(len(t.sets))]
}

// has reports whether d is there. It takes no lock.
func (t *table) has(d digest) bool {
	s := t.set(d)
	for i := range s.marks {
		if m := s.marks[i].Load(); m != nil && m.digest == d {
			if !m.used.Load() { // written once, so that readers share the line
				m.used.Store(true)
			}
			return true
		}
	}
	return false
}

// add puts d in place of one that was not used since the hand last passed. The
// caller holds the Cache's lock.
func (t *table) add(d digest) {
	s := t.set(d)
	for {
		p := &s.marks[s.hand]
		s.hand = (s.hand + 1) % ways
		m := p.Load()
		if m == nil || !m.used.Swap(false) {
			p.Store(&mark{digest: d})
			return
		}
	}
}

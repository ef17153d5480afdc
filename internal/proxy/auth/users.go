package auth

import (
	"crypto/sha256"
	"encoding/binary"
	"errors"

	"gatehouse.dev/gatehouse/internal/htpasswd"
)

// ErrNoUsers says that nobody could pass, so that the guard cannot stand: the
// route it guards must answer 503.
var ErrNoUsers = errors.New("no usable user")

// Users are those of one file. Nothing about them ever changes, and they belong
// to guards of one Cache.
type Users struct {
	byName map[string]*entry
	// decoys are what unknown users are checked against: one for each user, of
	// the same kind and cost.
	decoys []*entry
	id     lineID // of all usable lines
	// waiting are those who wait for a check; the Cache's lock guards it.
	waiting int
}

// lineID is the hash of a name with its stored hash, or of all of them. It is
// as secret as they are.
type lineID [sha256.Size]byte

// entry is a usable line.
type entry struct {
	name string
	id   lineID
	hash hash
	kind kind
}

func (e *entry) named(o Outcome) string {
	if o != Granted {
		return ""
	}
	return e.name
}

// Len is the number of users.
func (u *Users) Len() int { return len(u.byName) }

// NewUsers makes the set of users, whose names differ. Without any the error is
// ErrNoUsers.
func NewUsers(users []htpasswd.User) (*Users, error) {
	if len(users) == 0 {
		return nil, ErrNoUsers
	}
	entries := make([]*entry, len(users))
	for i, u := range users {
		entries[i] = &entry{
			name: u.Name,
			id:   newLineID(u.Name, string(u.Hash.Stored)),
			hash: compile(u.Hash),
			kind: kind{fast: u.Hash.Scheme.Fast(), model: u.Hash.Model},
		}
	}
	return newUsers(entries, kind.decoy), nil
}

// newUsers makes the set of entries, whose names differ.
func newUsers(entries []*entry, decoy func(kind) hash) *Users {
	u := &Users{byName: make(map[string]*entry, len(entries))}
	all := sha256.New()
	for _, e := range entries {
		u.byName[e.name] = e
		all.Write(e.id[:])
	}
	all.Sum(u.id[:0])
	kinds := make(map[kind]*entry)
	for _, e := range entries {
		d := kinds[e.kind]
		if d == nil {
			d = &entry{hash: decoy(e.kind), kind: e.kind, id: u.id}
			kinds[e.kind] = d
		}
		u.decoys = append(u.decoys, d)
	}
	if len(kinds) == 1 {
		u.decoys = u.decoys[:1]
	}
	return u
}

// newLineID hashes name and stored, of which name has no NUL.
func newLineID(name, stored string) lineID {
	return sha256.Sum256([]byte(name + "\x00" + stored))
}

// lookup is the user's entry, or what to check in its place: nil when there are
// no users at all.
func (u *Users) lookup(name []byte) (e *entry, known bool) {
	if e := u.byName[string(name)]; e != nil {
		return e, true
	}
	switch len(u.decoys) {
	case 0:
		return nil, false
	case 1:
		return u.decoys[0], false
	}
	// Always the same decoy for a name, and none but who knows the file can
	// tell which.
	var m [sha256.Size + MaxUser]byte
	copy(m[:], u.id[:])
	n := copy(m[sha256.Size:], name)
	sum := sha256.Sum256(m[:sha256.Size+n])
	return u.decoys[binary.LittleEndian.Uint64(sum[:])%uint64(len(u.decoys))], false
}

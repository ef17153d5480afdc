package auth

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"strings"
)

// Bounds of a file.
const (
	MaxContent  = 1 << 20 // bytes, as of a Secret
	maxProblems = 50      // told one by one
)

// ErrNoUsers says that nobody could pass, so that the guard cannot stand: the
// route it guards must answer 503.
var ErrNoUsers = errors.New("no usable user")

// ErrTooLarge says that the content is larger than MaxContent.
var ErrTooLarge = fmt.Errorf("more than %d bytes", MaxContent)

// Problem is something to tell the owner of a file. It never holds a hash.
type Problem struct {
	Line int    // from 1; 0 in a map
	User string // as written; empty when the line does not tell
	// Refused says that the user cannot log in by this line. Otherwise the line
	// works, and the problem is advice.
	Refused bool
	Text    string // what is wrong, and the remedy
}

// String is the problem in one line.
func (p Problem) String() string {
	var b strings.Builder
	if p.Line > 0 {
		fmt.Fprintf(&b, "line %d: ", p.Line)
	}
	if p.User != "" {
		fmt.Fprintf(&b, "user %.64q: ", p.User)
	}
	return b.String() + p.Text
}

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

// ParseFile reads an htpasswd file as nginx does: "name:hash" with an optional
// ":comment", the first line of a name counts, and a '#' begins a comment. Lines
// that cannot be used are problems, and the others work; without any the error
// is ErrNoUsers.
//
// Hashes: bcrypt ($2a$, $2b$, $2y$), MD5-crypt ($apr1$, $1$), SHA-crypt ($5$,
// $6$), argon2id and argon2i (version 19), {SHA}, {SSHA} and {PLAIN}. Not: DES
// crypt, yescrypt, scrypt, argon2d, and bare cleartext.
func ParseFile(content []byte) (*Users, []Problem, error) {
	if len(content) > MaxContent {
		return nil, nil, ErrTooLarge
	}
	var b builder
	content = bytes.TrimPrefix(content, []byte("\xef\xbb\xbf"))
	n := 0
	for line := range strings.Lines(string(content)) {
		n++
		line = strings.TrimRight(line, "\r\n\t ")
		if line == "" || line[0] == '#' {
			continue
		}
		name, stored, ok := strings.Cut(line, ":")
		if !ok {
			// Nothing of it is shown: it may be a password.
			b.refuse(n, "", "no colon: a line is name:hash, as htpasswd -nB NAME prints it")
			continue
		}
		b.add(n, name, stored)
	}
	return b.users()
}

// ParseMap reads users whose names are the keys and whose hashes are the
// values. For the rest see ParseFile.
func ParseMap(content map[string][]byte) (*Users, []Problem, error) {
	size := 0
	var names []string
	for name, stored := range content {
		size += len(name) + len(stored)
		names = append(names, name)
	}
	if size > MaxContent {
		return nil, nil, ErrTooLarge
	}
	slices.Sort(names)
	var b builder
	for _, name := range names {
		stored := strings.TrimRight(string(content[name]), "\r\n\t ")
		if strings.ContainsAny(stored, "\r\n") {
			b.refuse(0, name, "more than one line: a key holds the hash of one user; a whole file needs auth-secret-type auth-file")
			continue
		}
		b.add(0, name, stored)
	}
	return b.users()
}

// builder gathers the usable lines of a file.
type builder struct {
	entries  []*entry
	byName   map[string]*entry
	problems []Problem
	untold   int
}

func (b *builder) tell(p Problem) {
	if len(b.problems) == maxProblems {
		b.untold++
		return
	}
	b.problems = append(b.problems, p)
}

func (b *builder) refuse(line int, name, text string) {
	b.tell(Problem{Line: line, User: name, Refused: true, Text: text})
}

// add reads one user's line.
func (b *builder) add(line int, name, stored string) {
	if text := checkName(name); text != "" {
		b.refuse(line, name, text)
		return
	}
	if b.byName[name] != nil {
		b.refuse(line, name, "named twice: the first line counts; remove one")
		return
	}
	stored, _, comment := strings.Cut(stored, ":")
	if comment && strings.HasPrefix(stored, plainPrefix) {
		b.refuse(line, name, "a colon ends a password in cleartext, and what follows would not count: "+remedy)
		return
	}
	h, k, err := parseHash(stored)
	if err != nil {
		b.refuse(line, name, err.Error())
		return
	}
	if k.advice != "" {
		b.tell(Problem{Line: line, User: name, Text: k.advice})
	}
	e := &entry{name: name, hash: h, kind: k, id: newLineID(name, stored)}
	if b.byName == nil {
		b.byName = make(map[string]*entry)
	}
	b.byName[name] = e
	b.entries = append(b.entries, e)
}

// checkName says what is wrong with a name that no client could send, or that
// is not what it looks like.
func checkName(name string) string {
	switch {
	case name == "":
		return "no name before the colon"
	case len(name) > MaxUser:
		return fmt.Sprintf("the name is longer than %d bytes", MaxUser)
	case strings.TrimSpace(name) != name:
		return "the name begins or ends with a space: remove it"
	case strings.ContainsFunc(name, func(r rune) bool { return r < ' ' || r == 0x7f || r == ':' }):
		return "the name has a colon or a control character, which Basic authentication cannot carry"
	}
	return ""
}

// users ends the building.
func (b *builder) users() (*Users, []Problem, error) {
	if b.untold > 0 {
		b.problems = append(b.problems, Problem{Refused: true, Text: fmt.Sprintf("%d more lines have problems", b.untold)})
	}
	if len(b.entries) == 0 {
		return nil, b.problems, ErrNoUsers
	}
	return newUsers(b.entries, kind.decoy), b.problems, nil
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

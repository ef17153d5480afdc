// Package htpasswd reads users and their stored hashes, and says of each line
// that cannot be used what is wrong and what to do.
//
// It takes the content of a Secret and gives a File. Translation tells its
// problems to the Secret's owner and hands on what can be used; the data plane
// checks passwords against the same File. So nothing passes translation that
// the data plane would refuse, and nothing is refused that nobody was told of.
//
// It checks no password, does no I/O, and no problem shows a hash.
package htpasswd

import (
	"bytes"
	"fmt"
	"maps"
	"slices"
	"strings"

	"gatehouse.dev/gatehouse/internal/ir"
)

// Bounds in bytes. htpasswd takes 255 of each; the cost of some hashes grows
// with the length of the password.
const (
	MaxContent  = 1 << 20 // as of a Secret
	MaxName     = 255
	MaxPassword = 256
)

// maxTold is how many Problems are told one by one.
const maxTold = 5

// User is a line by which somebody can log in.
type User struct {
	Name string // without colon, control characters and surrounding space
	Hash Hash
}

// File is what was read.
type File struct {
	Users   []User   // their names differ
	Refused Problems // of lines by which nobody can log in
	Weak    Problems // of Users whose hash is worth little
}

// Problem is something to tell the owner of a file. It never holds a hash.
type Problem struct {
	Line   int    // from 1; 0 in a map
	User   string // as written; empty when the line does not tell
	Text   string // what is wrong
	Remedy string
}

// String is where it is and what is wrong. A name is not shown in full: it may
// be something else, written to the wrong place.
func (p Problem) String() string {
	var b strings.Builder
	if p.Line > 0 {
		fmt.Fprintf(&b, "line %d: ", p.Line)
	}
	if p.User != "" {
		fmt.Fprintf(&b, "user %.40q: ", p.User)
	}
	return b.String() + p.Text
}

// Problems are the first few of a kind.
type Problems struct {
	First []Problem
	More  int // not kept
}

func (p *Problems) add(q Problem) {
	if len(p.First) == maxTold {
		p.More++
		return
	}
	p.First = append(p.First, q)
}

// Len is how many there are, with those not kept.
func (p Problems) Len() int { return len(p.First) + p.More }

// String is all of them in one line; empty when there is none.
func (p Problems) String() string {
	var told []string
	for _, q := range p.First {
		told = append(told, q.String())
	}
	if p.More > 0 {
		told = append(told, fmt.Sprintf("and %d more", p.More))
	}
	return strings.Join(told, "; ")
}

// Remedy is what to do about them, each remedy once.
func (p Problems) Remedy() string {
	var all []string
	for _, q := range p.First {
		if !slices.Contains(all, q.Remedy) {
			all = append(all, q.Remedy)
		}
	}
	return strings.Join(all, "; ")
}

// ParseFile reads an htpasswd file as nginx does: "name:hash" with an optional
// ":comment", and a '#' begins a comment. Of several lines of a name the first
// counts, also when nobody can log in by it.
//
// Hashes: bcrypt ($2a$, $2b$, $2y$), MD5-crypt ($apr1$, $1$), SHA-crypt ($5$,
// $6$), argon2id and argon2i (version 19), {SHA}, {SSHA} and {PLAIN}. Not: DES
// crypt, yescrypt, scrypt, argon2d, and bare cleartext.
func ParseFile(content []byte) File {
	var r reading
	content = bytes.TrimSuffix(content, []byte("\n")) // which Lines may have added
	if len(content) > MaxContent {
		r.tooLarge()
		return r.file
	}
	content = bytes.TrimPrefix(content, []byte(byteOrderMark))
	n := 0
	for line := range strings.Lines(string(content)) {
		n++
		line = strings.TrimSpace(line)
		if line == "" || line[0] == '#' {
			continue
		}
		name, stored, ok := strings.Cut(line, ":")
		if !ok {
			// Nothing of it is shown: it may be a password.
			r.refuse(n, "", fault{"no colon", "write each line as name:hash, as htpasswd -nB NAME prints it"})
			continue
		}
		r.add(n, name, stored)
	}
	return r.file
}

// ParseMap reads users whose names are the keys and whose hashes are the
// values, in the order of the names. For the rest see ParseFile.
func ParseMap(content map[string][]byte) File {
	var r reading
	size := 0
	for name, stored := range content {
		size += len(name) + len(stored) + len(":\n")
	}
	if size > MaxContent {
		r.tooLarge()
		return r.file
	}
	for _, name := range slices.Sorted(maps.Keys(content)) {
		stored := strings.TrimSpace(string(content[name]))
		if strings.ContainsAny(stored, "\r\n") {
			r.refuse(0, name, fault{"more than one line", "put the hash of one user under each key; a whole file needs auth-secret-type: auth-file"})
			continue
		}
		r.add(0, name, stored)
	}
	return r.file
}

// Lines are the Users as a file that ParseFile reads as the same Users, with
// no Problem but the weak ones.
func (f File) Lines() ir.Secret {
	var b bytes.Buffer
	for _, u := range f.Users {
		b.WriteString(u.Name)
		b.WriteByte(':')
		b.Write(u.Hash.Stored)
		b.WriteByte('\n')
	}
	return b.Bytes()
}

// reading gathers a File.
type reading struct {
	file File
	seen map[string]bool
}

// fault is what is wrong with a line, and the remedy.
type fault struct{ text, remedy string }

func (r *reading) refuse(line int, name string, f fault) {
	r.file.Refused.add(Problem{Line: line, User: name, Text: f.text, Remedy: f.remedy})
}

func (r *reading) tooLarge() {
	r.refuse(0, "", fault{fmt.Sprintf("more than %d bytes", MaxContent), "keep fewer users in one Secret"})
}

// add reads one user's line.
func (r *reading) add(line int, name, stored string) {
	if f := checkName(name); f != nil {
		r.refuse(line, name, *f)
		return
	}
	if r.seen[name] {
		r.refuse(line, name, fault{"named twice, and the first line counts", "keep one line of each user"})
		return
	}
	if r.seen == nil {
		r.seen = make(map[string]bool)
	}
	r.seen[name] = true
	stored, _, comment := strings.Cut(stored, ":")
	if comment && strings.HasPrefix(stored, string(Plain)) {
		r.refuse(line, name, fault{"a colon ends a password in cleartext, and what follows would not count", remake})
		return
	}
	h, f := parseHash(stored)
	if f != nil {
		r.refuse(line, name, *f)
		return
	}
	if text := h.Scheme.weakness(); text != "" {
		r.file.Weak.add(Problem{Line: line, User: name, Text: text, Remedy: remake})
	}
	r.file.Users = append(r.file.Users, User{Name: name, Hash: h})
}

const byteOrderMark = "\ufeff"

// checkName says what is wrong with a name that no client could send, or that
// would be read as something else.
func checkName(name string) *fault {
	const remedy = "give the user another name"
	switch {
	case name == "":
		return &fault{"no name before the colon", "write each line as name:hash, as htpasswd -nB NAME prints it"}
	case len(name) > MaxName:
		return &fault{fmt.Sprintf("the name is longer than %d bytes", MaxName), remedy}
	case strings.TrimSpace(name) != name:
		return &fault{"the name begins or ends with a space", "remove the space"}
	case name[0] == '#' || strings.HasPrefix(name, byteOrderMark):
		return &fault{"the name begins with # or a byte order mark, which is not part of a name in a file", remedy}
	case strings.ContainsFunc(name, func(r rune) bool { return isControl(r) || r == ':' }):
		return &fault{"the name has a colon or a control character, which Basic authentication cannot carry", remedy}
	}
	return nil
}

// isControl knows what RFC 7617 section 2 forbids in names and passwords.
func isControl(r rune) bool { return r < ' ' || r == 0x7f }

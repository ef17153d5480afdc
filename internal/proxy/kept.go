package proxy

import (
	"crypto/sha256"

	"gatehouse.dev/gatehouse/internal/htpasswd"
	"gatehouse.dev/gatehouse/internal/ir"
	"gatehouse.dev/gatehouse/internal/proxy/auth"
)

// keptUsers keeps parsed htpasswd files by their content, from one compile to
// the next: a thousand Routes may share one.
type keptUsers struct {
	known map[[sha256.Size]byte]*userFile
	// last was parsed of lastContent, which the Config being compiled holds: most
	// Routes that share a file share its bytes, and need no hash of them.
	last        *userFile
	lastContent ir.Secret
}

type userFile struct {
	users *auth.Users
	err   error
	asked bool // since the last retain
}

// parse gives the users of the file.
func (k *keptUsers) parse(content ir.Secret) (*auth.Users, error) {
	if k.last != nil && len(content) > 0 && len(content) == len(k.lastContent) && &content[0] == &k.lastContent[0] {
		return k.last.users, k.last.err
	}
	id := sha256.Sum256(content)
	f := k.known[id]
	if f == nil {
		f = &userFile{}
		f.users, f.err = auth.NewUsers(htpasswd.ParseFile(content).Users)
		k.known[id] = f
	}
	f.asked = true
	k.last, k.lastContent = f, content
	return f.users, f.err
}

// review counts no file as asked for, until keep or parse says so.
func (k *keptUsers) review() {
	k.last, k.lastContent = nil, nil
	for _, f := range k.known {
		f.asked = false
	}
}

// keep counts the file, if it is known, as asked for.
func (k *keptUsers) keep(content ir.Secret) {
	if k.last != nil && len(content) > 0 && len(content) == len(k.lastContent) && &content[0] == &k.lastContent[0] {
		return
	}
	if f := k.known[sha256.Sum256(content)]; f != nil {
		f.asked = true
		k.last, k.lastContent = f, content
	}
}

// retain forgets the files that were not asked for since it was last called.
func (k *keptUsers) retain() {
	k.last, k.lastContent = nil, nil
	for id, f := range k.known {
		if !f.asked {
			delete(k.known, id)
		}
		f.asked = false
	}
}

package resolve

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"

	"gatehouse.dev/gatehouse/internal/ir"
	"gatehouse.dev/gatehouse/internal/verdict"
)

// usersKey is the key of a Secret that holds an htpasswd file.
const usersKey = "auth"

// Users are "user:hash" lines, without comments, without repeated users (the
// first counts, as in nginx) and without those that cannot log in.
type Users struct {
	Lines ir.Secret
	// Refused are the users that were left out, and why, in words.
	Refused []string
}

// FileUsers reads the htpasswd file under the key "auth".
func FileUsers(v Objects, name types.NamespacedName) (Users, *Problem) {
	secret := v.Secret(name.Namespace, name.Name)
	if secret == nil {
		return Users{}, missingSecret(name)
	}
	file, ok := secret.Data[usersKey]
	if !ok {
		return Users{}, badUsers(name, `it has no key "auth"`, "put an htpasswd file under the key auth, or set auth-secret-type: auth-map")
	}
	var g gatheredUsers
	n := 0
	for line := range strings.Lines(strings.TrimPrefix(string(file), "\ufeff")) {
		n++
		line = strings.TrimSpace(line)
		if line == "" || line[0] == '#' {
			continue
		}
		user, hash, ok := strings.Cut(line, ":")
		if !ok {
			g.refuse(fmt.Sprintf("line %d has no colon", n))
			continue
		}
		hash, _, comment := strings.Cut(hash, ":")
		if comment && strings.HasPrefix(hash, plainPrefix) {
			g.refuse(fmt.Sprintf("the password of user %.40q has a colon", user))
			continue
		}
		g.add(user, hash)
	}
	return g.users(name)
}

// MapUsers takes every key of the Secret for a user and its value for the hash.
func MapUsers(v Objects, name types.NamespacedName) (Users, *Problem) {
	secret := v.Secret(name.Namespace, name.Name)
	if secret == nil {
		return Users{}, missingSecret(name)
	}
	// The keys of other types have their own meaning, and are not all at hand.
	if secret.Type != "" && secret.Type != corev1.SecretTypeOpaque {
		return Users{}, badUsers(name, "its type is "+string(secret.Type), "use a Secret of type Opaque")
	}
	var g gatheredUsers
	for _, user := range slices.Sorted(maps.Keys(secret.Data)) {
		g.add(user, strings.TrimSpace(string(secret.Data[user])))
	}
	return g.users(name)
}

func badUsers(name types.NamespacedName, why, remedy string) *Problem {
	return &Problem{"", verdict.SecretInvalid, fmt.Sprintf("Secret %s holds no usable users: %s", name, why), remedy}
}

type gatheredUsers struct {
	lines   strings.Builder
	seen    map[string]bool
	refused []string
}

func (g *gatheredUsers) refuse(why string) { g.refused = append(g.refused, why) }

// add never repeats a hash in what it says, nor the name of a user in full.
func (g *gatheredUsers) add(user, hash string) {
	if g.seen == nil {
		g.seen = map[string]bool{}
	}
	switch {
	case user == "":
		g.refuse("a user has no name")
		return
	case strings.ContainsAny(user, ":\n\r\x00") || strings.ContainsAny(hash, ":\n\r\x00"):
		g.refuse(fmt.Sprintf("user %.40q, or its hash, has a colon or a line break", user))
		return
	case !isHash(hash):
		g.refuse(fmt.Sprintf("the hash of user %.40q is of no kind that is known", user))
		return
	case g.seen[user]:
		g.refuse(fmt.Sprintf("user %.40q stands there twice", user))
		return
	}
	g.seen[user] = true
	g.lines.WriteString(user + ":" + hash + "\n")
}

func (g *gatheredUsers) users(name types.NamespacedName) (Users, *Problem) {
	if len(g.seen) == 0 {
		why := "it is empty"
		if len(g.refused) > 0 {
			why = g.refused[0]
		}
		return Users{}, badUsers(name, why, "write it with htpasswd -nB, a line user:hash for each user")
	}
	return Users{Lines: ir.Secret(g.lines.String()), Refused: g.refused}, nil
}

// plainPrefix stands before a password in cleartext.
const plainPrefix = "{PLAIN}"

// isHash knows the kinds of hash that the data plane checks by how they begin:
// bcrypt, MD5-crypt (apr1 and the plain one), SHA-256 and SHA-512 crypt, argon2,
// SHA-1 and salted SHA-1, and cleartext that says so. The data plane looks at
// the whole, and refuses what it cannot use.
func isHash(s string) bool {
	if rest, ok := strings.CutPrefix(s, plainPrefix); ok {
		return rest != ""
	}
	for _, prefix := range []string{"$2a$", "$2b$", "$2y$", "$apr1$", "$1$", "$5$", "$6$", "$argon2id$", "$argon2i$", "{SHA}", "{SSHA}"} {
		if rest, ok := strings.CutPrefix(s, prefix); ok {
			return len(rest) >= 8
		}
	}
	return false
}

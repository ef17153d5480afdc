package auth

import (
	"errors"
	"fmt"
	"reflect"
	"strings"
	"testing"

	"gatehouse.dev/gatehouse/internal/htpasswd"
)

// vectors are hashes of "secret" unless said otherwise, made by other programs.
var vectors = []struct{ password, stored string }{
	// perl's crypt with libxcrypt
	{"secret", "$2y$05$abcdefghijklmnopqrstuuOQiyCxlgf/oeuTqixKmWdcYUh4Hjl0a"},
	{"secret", "$2b$05$abcdefghijklmnopqrstuuOQiyCxlgf/oeuTqixKmWdcYUh4Hjl0a"},
	{"secret", "$2a$05$abcdefghijklmnopqrstuuOQiyCxlgf/oeuTqixKmWdcYUh4Hjl0a"},
	{"secret", "$6$rounds=1000$abcdefgh$nhYjN017qxiYztzyUpZtPnUQcnLy62KsunSLHNeLahp2EHPlAKmFFlrjEwSXGo2kgY5hR2.peKEg2VGUqIJJu1"},
	{"secret", "$5$rounds=12345$abcdefghijklmnop$0bC6ZdbhEutS4jjs9nRJ.KmwqSIWXVVre33Bmrvglu/"},
	// openssl passwd
	{"secret", "$apr1$abcdefgh$h9FWgUz3n9YxylKLlR5SQ/"},
	{"secret", "$1$abcdefgh$cHJi5PXp/ki/ktXzqlk6I1"},
	{"secret", "$5$abcdefgh$gruCpC7VkOTspMQTTSAR8mtlO9Upms.fwqE5y16JVM."},
	{"secret", "$6$abcdefgh$ltjgWl6579NluT/Vi1nwEvcil.G5Nbc4NiXZaNGStk8PSwGfQv72N2CKPPrVACtLtip/cZ/1GM/O6IND4WQhG."},
	// The Apache documentation's "myPassword".
	{"myPassword", "$2y$05$c4WoMPo3SXsafkva.HHa6uXQZWr7oboPiC2bT/r7q1BB8I2s0BRqC"},
	{"myPassword", "$apr1$r31.....$HqJZimcKQFAMYayBlzkrA/"},
	{"myPassword", "{SHA}VBPuJHI7uixaa6LQGWx4s+5GKNE="},
	// The salts of Drepper's SHA-crypt specification, with perl
	{"Hello world!", "$5$saltstring$5B8vYYiY.CVt1RlTTf8KbXBH3hsxY/GNooZaBBGWEc5"},
	{"Hello world!", "$6$saltstring$svn8UoSVapNtMuq1ukKS4tPQd8iKwSMHWjl/O817G3uBnIFNjnQJuesI68u4OTLiBFdcbYEdFCoEOfaS35inz1"},
	{"Hello world!", "$5$rounds=10000$saltstringsaltst$3xv.VbSHBb41AL9AvLeujZkZRBAwqFMz2.opqey6IcA"},
	// The argon2 reference implementation's tests
	{"password", "$argon2id$v=19$m=256,t=2,p=1$c29tZXNhbHQ$nf65EOgLrQMR/uIPnA4rEsF5h7TKyQwu9U1bMCHGi/4"},
	{"password", "$argon2id$v=19$m=256,t=2,p=2$c29tZXNhbHQ$bQk8UB/VmZZF4Oo79iDXuL5/0ttZwg2f/5U52iv1cDc"},
	{"password", "$argon2i$v=19$m=256,t=2,p=1$c29tZXNhbHQ$iekCn0Y3spW+sCcFanM2xBT63UP2sghkUoHLIUpWRS8"},
	// openssl dgst -sha1 and base64
	{"secret", "{SHA}5en6G6MezRroT3XKqkdPOmY/BfQ="},
	{"secret", "{SSHA}1G904nLkTkGWjKNnQuB/hpWXC/hzYWx0c2FsdA=="},
	{"secret", "{PLAIN}secret"},
}

func TestVectors(t *testing.T) {
	for _, v := range vectors {
		e, known := users(t, "bob:"+v.stored).lookup([]byte("bob"))
		if !known {
			t.Fatalf("%s: no user", v.stored)
		}
		h, k := e.hash, e.kind
		if !h.MatchesPassword(v.password) {
			t.Errorf("%s: refuses %q", v.stored, v.password)
		}
		for _, wrong := range []string{"", v.password + "x", v.password[1:], strings.ToUpper(v.password), v.stored} {
			if h.MatchesPassword(wrong) {
				t.Errorf("%s: takes %q", v.stored, wrong)
			}
		}
		if d := k.decoy(); d.MatchesPassword(v.password) || reflect.TypeOf(d) != reflect.TypeOf(h) {
			t.Errorf("%s: the decoy takes %q, or is of another kind", v.stored, v.password)
		}
		if again := htpasswd.Decoy(k.model); again.Model != k.model {
			t.Errorf("%s: the decoy %s is of another kind: %s", v.stored, k.model, again.Model)
		}
	}
}

const apr1 = "$apr1$abcdefgh$h9FWgUz3n9YxylKLlR5SQ/"

// A user's line keeps its ID as long as it says the same, wherever it stands.
func TestLineID(t *testing.T) {
	id := func(content, name string) lineID {
		e, _ := users(t, content).lookup([]byte(name))
		return e.id
	}
	a := id("bob:"+apr1, "bob")
	if b := id("# moved\nann:{PLAIN}x\nbob:"+apr1+":comment\n", "bob"); a != b {
		t.Error("the ID changes with other lines")
	}
	if b := id("bob:{PLAIN}x", "bob"); a == b {
		t.Error("the ID does not change with the hash")
	}
	if b := id("bo:"+apr1, "bo"); a == b {
		t.Error("the ID does not change with the name")
	}
	// An unknown user is known by the file: it may have a line in the next.
	if a, b := id("bob:"+apr1, "eve"), id("ann:"+apr1, "eve"); a == b {
		t.Error("an unknown user's ID does not change with the file")
	}
}

// Whatever is read of a file can be checked and has a decoy of its kind.
func FuzzNewUsers(f *testing.F) {
	for _, v := range vectors {
		f.Add([]byte("bob:" + v.stored + "\nann:" + v.stored + ":x\n"))
	}
	f.Add([]byte("bob:$2y$05$\n#x\n:\n\n$5$rounds=1000$a$b:$6$rounds=1000$a$b\n"))
	f.Fuzz(func(t *testing.T, content []byte) {
		parsed := htpasswd.ParseFile(content).Users
		u, err := NewUsers(parsed)
		if len(parsed) == 0 {
			if u != nil || !errors.Is(err, ErrNoUsers) {
				t.Fatalf("%v, %v", u, err)
			}
			return
		}
		if err != nil || u.Len() != len(parsed) {
			t.Fatalf("%d users, want %d, and %v", u.Len(), len(parsed), err)
		}
		for name, e := range u.byName {
			if name != e.name || len(name) > MaxUser {
				t.Fatalf("user %q as %q", e.name, name)
			}
			d := e.kind.decoy()
			if cheap(e.kind.model) { // no panic, whatever was read
				e.hash.MatchesPassword("secret")
				d.MatchesPassword("secret")
			}
		}
	})
}

// cheap reports whether a hash may be tried within a fuzz run.
func cheap(model string) bool {
	var n int
	for _, format := range []string{"$2y$%d$", "$5$rounds=%d$", "$6$rounds=%d$", "$argon2id$v=19$m=%d,t=2", "$argon2i$v=19$m=%d,t=2"} {
		if _, err := fmt.Sscanf(model, format, &n); err == nil {
			return n <= 4 || format[1] != '2' && n <= 1024
		}
	}
	return !strings.HasPrefix(model, "$argon2")
}

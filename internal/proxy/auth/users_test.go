package auth

import (
	"errors"
	"fmt"
	"strings"
	"testing"
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
		h, k, err := parseHash(v.stored)
		if err != nil {
			t.Errorf("%s: %v", v.stored, err)
			continue
		}
		if !h.MatchesPassword(v.password) {
			t.Errorf("%s: refuses %q", v.stored, v.password)
		}
		for _, wrong := range []string{"", v.password + "x", v.password[1:], strings.ToUpper(v.password), v.stored} {
			if h.MatchesPassword(wrong) {
				t.Errorf("%s: takes %q", v.stored, wrong)
			}
		}
		d := k.decoy()
		if d.MatchesPassword(v.password) {
			t.Errorf("%s: the decoy takes %q", v.stored, v.password)
		}
		if _, again, err := parseHash(k.model); err != nil || again != k {
			t.Errorf("%s: the decoy %s is of another kind: %+v, %v", v.stored, k.model, again, err)
		}
	}
}

func TestHashesRefused(t *testing.T) {
	f := func(stored, want string) {
		t.Helper()
		_, problems, err := ParseFile([]byte("bob:" + stored + "\n"))
		if !errors.Is(err, ErrNoUsers) || len(problems) != 1 {
			t.Errorf("%q: %v, %v", stored, problems, err)
			return
		}
		p := problems[0]
		if p.Line != 1 || p.User != "bob" || !p.Refused || !strings.Contains(p.Text, want) {
			t.Errorf("%q: %+v, want %q", stored, p, want)
		}
		if len(stored) > 9 && strings.Contains(p.String(), stored[9:]) {
			t.Errorf("%q: the problem shows the hash: %s", stored, p)
		}
	}
	const b = "abcdefghijklmnopqrstuuOQiyCxlgf/oeuTqixKmWdcYUh4Hjl0a"
	const sum5 = "gruCpC7VkOTspMQTTSAR8mtlO9Upms.fwqE5y16JVM."
	f("", "no hash")
	f("secret-in-cleartext", "not a hash that is known")
	f("{PLAIN", "not a hash")
	f("abNANd1rDfiNc", "DES crypt is not supported")
	f("$y$j9T$abcdefgh$IUWJt2doU4Kf6E/JP1UkAT3S5O3Q7SSA8SJirXIlEu9", "yescrypt is not supported")
	f("$7$C6..../....abcdefgh$IUWJt2doU4Kf6E/JP1UkAT3S5O3Q7SSA8SJirXIlEu9", "scrypt is not supported")
	f("$2y$05$"+b[1:], "malformed bcrypt")
	f("$2y$05$"+b+"a", "malformed bcrypt")
	f("$2y$05$"+b[:52]+"!", "malformed bcrypt")
	f("$2y$5$a"+b, "malformed bcrypt")
	f("$2y$+5$"+b, "malformed bcrypt")
	f("$2y$03$"+b, "malformed bcrypt")
	f("$2y$15$"+b, "bcrypt cost 15 is above 14")
	f("$2y$31$"+b, "bcrypt cost 31 is above 14")
	f("$2x$05$"+b, "bcrypt variant")
	f("$2", "malformed bcrypt")
	f("$apr1$abcdefghi$h9FWgUz3n9YxylKLlR5SQ/", "malformed MD5")
	f("$apr1$abcdefgh$h9FWgUz3n9YxylKLlR5SQ", "malformed MD5")
	f("$apr1$$h9FWgUz3n9YxylKLlR5SQ/", "malformed MD5")
	f("$apr1$h9FWgUz3n9YxylKLlR5SQ/", "malformed MD5")
	f("$1$abcdefgh$h9FWgUz3n9YxylKLlR5SQ/$", "malformed MD5")
	f("$5$nosalt", "malformed SHA-crypt")
	f("$5$$"+sum5, "malformed SHA-crypt")
	f("$5$abcdefghijklmnopq$"+sum5, "malformed SHA-crypt")
	f("$6$abcdefgh$"+sum5, "malformed SHA-crypt")
	f("$5$rounds=999$abcdefgh$"+sum5, "malformed SHA-crypt")
	f("$5$rounds=05000$abcdefgh$"+sum5, "malformed SHA-crypt")
	f("$5$rounds=$abcdefgh$"+sum5, "malformed SHA-crypt")
	f("$5$rounds=5000$rounds=1$"+sum5, "malformed SHA-crypt")
	f("$5$rounds=5000$"+sum5, "malformed SHA-crypt")
	f("$5$rounds=1000001$abcdefgh$"+sum5, "are above 1000000")
	f("$5$rounds=99999999999999999999$abcdefgh$"+sum5, "malformed SHA-crypt")
	f("{SHA}", "malformed {SHA}")
	f("{SHA}5en6G6MezRroT3XKqkdPOmY/BfQ", "malformed {SHA}")
	f("{SHA}5en6G6MezRroT3XKqkdPOmY/BfQAAAA=", "malformed {SHA}")
	f("{SSHA}5en6G6MezRroT3XKqkdPOmY=", "malformed {SSHA}")
	const a = "$c29tZXNhbHQ$nf65EOgLrQMR/uIPnA4rEsF5h7TKyQwu9U1bMCHGi/4"
	f("$argon2d$v=19$m=256,t=2,p=1"+a, "only argon2id and argon2i")
	f("$argon2id$v=16$m=256,t=2,p=1"+a, "only version 19")
	f("$argon2id$m=256,t=2,p=1"+a, "malformed argon2")
	f("$argon2id$v=19$m=256,t=2,p=1,keyid=x"+a, "malformed argon2")
	f("$argon2id$v=19$t=2,m=256,p=1"+a, "malformed argon2")
	f("$argon2id$v=19$m=256,t=0,p=1"+a, "malformed argon2")
	f("$argon2id$v=19$m=256,t=2,p=0"+a, "malformed argon2")
	f("$argon2id$v=19$m=256,t=2,p=256"+a, "malformed argon2")
	f("$argon2id$v=19$m=7,t=2,p=1"+a, "malformed argon2")
	f("$argon2id$v=19$m=0256,t=2,p=1"+a, "malformed argon2")
	f("$argon2id$v=19$m=65537,t=1,p=1"+a, "costs more")
	f("$argon2id$v=19$m=65536,t=17,p=1"+a, "costs more")
	f("$argon2id$v=19$m=256,t=4294967295,p=1"+a, "costs more")
	f("$argon2id$v=19$m=256,t=2,p=17"+a, "costs more")
	f("$argon2id$v=19$m=256,t=2,p=1$c29tZXNhbHQ$nf65EOg", "malformed argon2")
	f("$argon2id$v=19$m=256,t=2,p=1$c29t$nf65EOgLrQMR/uIPnA4rEsF5h7TKyQwu9U1bMCHGi/4", "malformed argon2")
	f("$argon2id$v=19$m=256,t=2,p=1$c29tZXNhbHQ==$nf65EOgLrQMR/uIPnA4rEsF5h7TKyQwu9U1bMCHGi/4", "malformed argon2")
}

// The largest that are allowed, so that the bounds stay where they are said.
func TestLargestCost(t *testing.T) {
	for _, stored := range []string{
		"$2y$14$abcdefghijklmnopqrstuuOQiyCxlgf/oeuTqixKmWdcYUh4Hjl0a",
		"$5$rounds=1000000$abcdefgh$gruCpC7VkOTspMQTTSAR8mtlO9Upms.fwqE5y16JVM.",
		"$argon2id$v=19$m=65536,t=16,p=4$c29tZXNhbHQ$nf65EOgLrQMR/uIPnA4rEsF5h7TKyQwu9U1bMCHGi/4",
	} {
		if _, _, err := parseHash(stored); err != nil {
			t.Errorf("%s: %v", stored, err)
		}
	}
}

const apr1 = "$apr1$abcdefgh$h9FWgUz3n9YxylKLlR5SQ/"

func TestParseFile(t *testing.T) {
	f := func(content string, users []string, problems ...string) {
		t.Helper()
		u, got, err := ParseFile([]byte(content))
		if (err == nil) != (len(users) > 0) || err != nil && (u != nil || !errors.Is(err, ErrNoUsers)) {
			t.Fatalf("%q: %v, %v", content, u, err)
		}
		if u != nil && u.Len() != len(users) {
			t.Errorf("%q: %d users, want %q", content, u.Len(), users)
		}
		for _, name := range users {
			if e, known := u.lookup([]byte(name)); !known || e.name != name || !e.hash.MatchesPassword("secret") {
				t.Errorf("%q: no %q", content, name)
			}
		}
		if len(got) != len(problems) {
			t.Fatalf("%q: %v", content, got)
		}
		for i, p := range problems {
			if !strings.HasPrefix(got[i].String(), p) {
				t.Errorf("%q: %s, want %s", content, got[i], p)
			}
		}
	}
	f("bob:"+apr1, []string{"bob"})
	f("bob:"+apr1+"\r\nann:"+apr1+"\r\n", []string{"bob", "ann"})
	f("\ufeffbob:"+apr1+"  \t\n\n", []string{"bob"})
	f("# bob:x\nbob:"+apr1+":a comment\n", []string{"bob"})
	f("b b:"+apr1+"\nbücher:"+apr1+"\nbob@shop.example:"+apr1+"\n", []string{"b b", "bücher", "bob@shop.example"})
	// The first counts, as with nginx.
	f("bob:"+apr1+"\nbob:{PLAIN}other\n", []string{"bob"}, `line 2: user "bob": named twice`)
	f("bob:broken\nbob:"+apr1+"\n", []string{"bob"}, `line 1: user "bob": not a hash`)
	f("hunter2hunter2\nann:"+apr1+"\n", []string{"ann"}, "line 1: no colon")
	f(":"+apr1+"\nann:"+apr1+"\n", []string{"ann"}, "line 1: no name")
	f(" bob:"+apr1+"\nann:"+apr1+"\n", []string{"ann"}, `line 1: user " bob": the name begins`)
	f("b\x00b:"+apr1+"\nann:"+apr1+"\n", []string{"ann"}, `line 1: user "b\x00b": the name has`)
	f(strings.Repeat("b", 256)+":"+apr1+"\n"+strings.Repeat("b", 255)+":"+apr1, []string{strings.Repeat("b", 255)}, `line 1: user "bbb`)
	f("bob:{PLAIN}secret\n", []string{"bob"}, `line 1: user "bob": the password is kept in cleartext`)
	f("bob:{PLAIN}se:cret\n", nil, `line 1: user "bob": a colon ends`)
	f("bob:{SHA}5en6G6MezRroT3XKqkdPOmY/BfQ=\n", []string{"bob"}, `line 1: user "bob": {SHA} is a fast hash`)
	f("", nil)
	f("\n# none\n", nil)
	f("bob:broken\n", nil, `line 1: user "bob": not a hash`)

	_, problems, err := ParseFile([]byte(strings.Repeat("broken\n", 60)))
	if !errors.Is(err, ErrNoUsers) || len(problems) != maxProblems+1 || problems[maxProblems].Text != "10 more lines have problems" {
		t.Errorf("60 broken lines: %v, %v", problems, err)
	}
	for _, p := range problems {
		if strings.Contains(p.String(), "broken") {
			t.Errorf("the problem shows the line: %s", p)
		}
	}
	if _, _, err := ParseFile(make([]byte, MaxContent+1)); !errors.Is(err, ErrTooLarge) {
		t.Errorf("%d bytes: %v", MaxContent+1, err)
	}
}

func TestParseMap(t *testing.T) {
	u, problems, err := ParseMap(map[string][]byte{
		"bob": []byte(apr1 + "\n"),
		"ann": []byte("{PLAIN}secret"),
		"eve": []byte("x\neve:" + apr1),
		"":    []byte(apr1),
		"a:b": []byte(apr1),
		"zoe": nil,
	})
	if err != nil || u.Len() != 2 {
		t.Fatalf("%v, %v", u, err)
	}
	var all []string
	for _, p := range problems {
		all = append(all, p.String())
	}
	want := []string{"no name", `user "a:b": the name has a colon`, `user "ann": the password is kept`, `user "eve": more than one line`, `user "zoe": no hash`}
	for i, w := range want {
		if len(all) != len(want) || !strings.HasPrefix(all[i], w) {
			t.Fatalf("problems %q, want %q", all, want)
		}
	}
	if _, _, err := ParseMap(nil); !errors.Is(err, ErrNoUsers) {
		t.Errorf("no keys: %v", err)
	}
	if _, _, err := ParseMap(map[string][]byte{"a": make([]byte, MaxContent)}); !errors.Is(err, ErrTooLarge) {
		t.Errorf("too large: %v", err)
	}
}

// A user's line keeps its ID as long as it says the same, wherever it stands.
func TestLineID(t *testing.T) {
	id := func(content, name string) lineID {
		u, _, err := ParseFile([]byte(content))
		if err != nil {
			t.Fatal(err)
		}
		e, _ := u.lookup([]byte(name))
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

func FuzzParseFile(f *testing.F) {
	for _, v := range vectors {
		f.Add([]byte("bob:" + v.stored + "\nann:" + v.stored + ":x\n"))
	}
	f.Add([]byte("bob:$2y$05$\n#x\n:\n\n$5$rounds=1000$a$b:$6$rounds=1000$a$b\n"))
	f.Fuzz(func(t *testing.T, content []byte) {
		u, problems, err := ParseFile(content)
		if (u == nil) != (err != nil) || u != nil && u.Len() == 0 {
			t.Fatalf("%v, %v", u, err)
		}
		for _, p := range problems {
			if p.Text == "" || strings.ContainsAny(p.String(), "\r\n\x00") {
				t.Fatalf("problem %q", p.String())
			}
		}
		if u == nil {
			return
		}
		for name, e := range u.byName {
			if name != e.name || checkName(name) != "" {
				t.Fatalf("user %q as %q", e.name, name)
			}
			e.kind.decoy()
			if cheap(e.kind.model) {
				e.hash.MatchesPassword("secret") // no panic, whatever was read
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

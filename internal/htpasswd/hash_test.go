package htpasswd

import (
	"strings"
	"testing"
)

func TestHashesRefused(t *testing.T) {
	f := func(stored, want string) {
		t.Helper()
		file := ParseFile([]byte("bob:" + stored + "\n"))
		if file.Refused.Len() != 1 || file.Weak.Len() != 0 || file.Users != nil {
			t.Errorf("%q: %+v", stored, file)
			return
		}
		p := file.Refused.First[0]
		if p.Line != 1 || p.User != "bob" || p.Remedy == "" || !strings.Contains(p.Text, want) {
			t.Errorf("%q: %+v, want %q", stored, p, want)
		}
		if len(stored) > 9 && strings.Contains(p.String()+p.Remedy, stored[9:]) {
			t.Errorf("%q: the problem shows the hash: %s", stored, p)
		}
	}
	const b = "abcdefghijklmnopqrstuuOQiyCxlgf/oeuTqixKmWdcYUh4Hjl0a"
	const sum5 = "gruCpC7VkOTspMQTTSAR8mtlO9Upms.fwqE5y16JVM."
	f("", "no hash")
	f("secret-in-cleartext", "not a hash that is known")
	f("{PLAIN", "not a hash")
	f("{PLAIN}", "the password is empty")
	f("{PLAIN}"+strings.Repeat("x", MaxPassword+1), "longer than 256 bytes")
	f("{PLAIN}sec\x00ret", "a control character")
	f("$apr1$abc\rdefg$h9FWgUz3n9YxylKLlR5SQ/", "a control character")
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
		if file := ParseFile([]byte("bob:" + stored)); len(file.Users) != 1 || file.Refused.Len()+file.Weak.Len() != 0 {
			t.Errorf("%s: %v", stored, file.Refused)
		}
	}
}

package ir

import "testing"

func TestNewCertificateID(t *testing.T) {
	a := NewCertificateID([]byte("chain"), []byte("key"))
	if len(a) != 32 {
		t.Errorf("ID %q has %d characters, want 32", a, len(a))
	}
	if b := NewCertificateID([]byte("chain"), []byte("key")); a != b {
		t.Errorf("same content gave %q and %q", a, b)
	}
	f := func(chain, key string) {
		t.Helper()
		if b := NewCertificateID([]byte(chain), []byte(key)); a == b {
			t.Errorf("%q with %q has the ID of another certificate", chain, key)
		}
	}
	f("chaink", "ey")
	f("chain", "key2")
	f("chain2", "key")
	f("", "chainkey")
}

package verdict

import "testing"

func TestDistance(t *testing.T) {
	f := func(a, b string, want int) {
		t.Helper()
		if got := Distance(a, b, 10); got != want {
			t.Errorf("Distance(%q, %q) = %d, want %d", a, b, got, want)
		}
		if got := Distance(b, a, 10); got != want {
			t.Errorf("Distance(%q, %q) = %d, want %d", b, a, got, want)
		}
		if got := Distance(a, b, 2); got != min(want, 2) {
			t.Errorf("Distance(%q, %q), at most 2, = %d", a, b, got)
		}
	}
	f("", "", 0)
	f("", "abc", 3)
	f("abc", "abc", 0)
	f("abc", "acb", 1)
	f("abc", "abd", 1)
	f("kitten", "sitting", 3)
	f("auth-ulr", "auth-url", 1)
}

func TestNearest(t *testing.T) {
	known := []string{"Ingress", "IngressClass", "Service", "Secret"}
	f := func(word, want string) {
		t.Helper()
		if got := Nearest(word, known...); got != want {
			t.Errorf("Nearest(%q) = %q, want %q", word, got, want)
		}
	}
	f("Ingrass", "Ingress")
	f("ingres", "Ingress")
	f("IngressClas", "IngressClass")
	f("Sercet", "Secret")
	f("Deployment", "")
	f("", "")
}

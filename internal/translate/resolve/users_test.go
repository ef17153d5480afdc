package resolve

import (
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"

	"gatehouse.dev/gatehouse/internal/verdict"
	"gatehouse.dev/gatehouse/internal/view"
)

const (
	strong = "$apr1$abcdefgh$h9FWgUz3n9YxylKLlR5SQ/"
	weak   = "{SHA}5en6G6MezRroT3XKqkdPOmY/BfQ="
)

func TestFileUsers(t *testing.T) {
	f := func(file, want string, refused, weak int, wantProblem string) {
		t.Helper()
		u, problem := FileUsers(viewWith(opaque(map[string][]byte{"auth": []byte(file)})), nameOfSecret)
		if string(u.Lines) != want || u.Refused.Len() != refused || u.Weak.Len() != weak || (want == "") != (problem != nil) {
			t.Errorf("%q: %q %s, %s, %v", file, []byte(u.Lines), u.Refused, u.Weak, problem)
		}
		if problem != nil && (problem.Reason != verdict.SecretInvalid || !strings.Contains(problem.Message, wantProblem) || problem.Remedy == "") {
			t.Errorf("%q: %+v, want %q", file, problem, wantProblem)
		}
	}
	f("z:"+strong+"\r\n# comment\na:"+weak+":comment\n", "z:"+strong+"\na:"+weak+"\n", 0, 1, "")
	f("z:"+strong+"\na:$2y$20$abcdefghijklmnopqrstuuOQiyCxlgf/oeuTqixKmWdcYUh4Hjl0a\nsecret", "z:"+strong+"\n", 2, 0, "")
	f("a:"+strong[:20]+"\nsecret", "", 0, 0, `line 1: user "a": malformed MD5-crypt hash; line 2: no colon`)
	f("# none\n", "", 0, 0, "it is empty")

	if _, problem := FileUsers(viewWith(opaque(map[string][]byte{"users": []byte("a:" + strong)})), nameOfSecret); problem == nil || !strings.Contains(problem.Message, `"auth"`) {
		t.Errorf("no key auth: %v", problem)
	}
	if _, problem := FileUsers(view.NewStore().View(), nameOfSecret); problem == nil || problem.Reason != verdict.SecretNotFound {
		t.Errorf("no Secret: %v", problem)
	}
}

func TestMapUsers(t *testing.T) {
	f := func(kind corev1.SecretType, data map[string][]byte, want string, refused int) {
		t.Helper()
		s := opaque(data)
		s.Type = kind
		u, problem := MapUsers(viewWith(s), nameOfSecret)
		if got := string(u.Lines); got != want || u.Refused.Len() != refused || (want == "") != (problem != nil) {
			t.Errorf("%v: %q %s %v", data, got, u.Refused, problem)
		}
	}
	f("", map[string][]byte{"b": []byte(strong), "a": []byte(strong + "\n")}, "a:"+strong+"\nb:"+strong+"\n", 0)
	f("Opaque", map[string][]byte{"a": []byte(strong), "b": []byte(strong + "\nroot:" + strong)}, "a:"+strong+"\n", 1)
	f("", map[string][]byte{"a": []byte(strong), "root:" + strong: []byte(strong)}, "a:"+strong+"\n", 1)
	f("", nil, "", 0)
	f("", map[string][]byte{"a": []byte("secret")}, "", 0)
	f(corev1.SecretTypeBasicAuth, map[string][]byte{"username": []byte(strong)}, "", 0)
	if _, problem := MapUsers(view.NewStore().View(), nameOfSecret); problem == nil || problem.Reason != verdict.SecretNotFound {
		t.Errorf("no Secret: %v", problem)
	}
}

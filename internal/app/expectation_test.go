package app

import (
	"net/http"
	"testing"
)

// TestExpectations states that scenarios notice: each wrong expectation about
// an answer is found, and a right one is not.
func TestExpectations(t *testing.T) {
	answered := &result{
		cert: "default/x", status: 200, body: "{}", header: http.Header{"A": {"1"}},
		echo: &echo{Backend: "s", Target: "/t", Host: "h.test", Header: http.Header{"B": {"2"}}, Body: 3},
	}
	local := &result{status: 404, body: "404 Not Found NoRoute\n", header: http.Header{}}
	refused := &result{alert: "unrecognized_name"}
	f := func(res *result, want string, right bool) {
		t.Helper()
		r, err := parseRequest("GET https://h.test/t -> " + want)
		if err != nil {
			t.Fatal(err)
		}
		wrong := append(r.check(res), r.checkSeen(map[string]bool{res.backend(): true})...)
		if (len(wrong) == 0) != right {
			t.Errorf("%s: found wrong: %q", want, wrong)
		}
	}
	f(answered, `200 s cert=default/x h="A: 1" no-h=C got="B: 2" no-got=C got-target=/t got-host=h.test got-body=3 body={`, true)
	for _, want := range []string{
		"404 s", "200", "200 other", "200 s|other", "200 s cert=default", `200 s h="A: 2"`, `200 s h="C: "1`, "200 s no-h=A", `200 s got="B: 1"`,
		"200 s no-got=B", "200 s got-target=/", "200 s got-host=x", "200 s got-body=4", "200 s body=x", "200 s reason=NoRoute", "200 s word=x",
		"alert=unrecognized_name",
	} {
		f(answered, want, false)
	}
	f(local, "404 reason=NoRoute", true)
	for _, want := range []string{"404", "404 s reason=NoRoute", "404 reason=Malformed", "503 reason=NoRoute", "404 reason=NoRoute cert=default"} {
		f(local, want, false)
	}
	f(refused, "alert=unrecognized_name", true)
	for _, want := range []string{"alert=handshake_failure", "200", "503 reason=TLSUnavailable"} {
		f(refused, want, false)
	}
	ended := &result{closed: true}
	f(ended, "closed", true)
	f(ended, "200", false)
	f(answered, "closed", false)
	f(refused, "closed", false)

	v := func(got, want []string, right bool) {
		t.Helper()
		if wrong := compareVerdicts(got, want); (len(wrong) == 0) != right {
			t.Errorf("%q, want %q: found wrong: %q", got, want, wrong)
		}
	}
	v([]string{"a ~ text", "b ~ text"}, []string{"b", "a ~ ex"}, true)
	v([]string{"a ~ text"}, nil, false)
	v(nil, []string{"a"}, false)
	v([]string{"a ~ text"}, []string{"a ~ other"}, false)
	v([]string{"a ~ text"}, []string{"a", "a"}, false)
}

package judge

import (
	"bytes"
	"fmt"
	"os"
	"strings"
	"testing"

	"sigs.k8s.io/gateway-api/conformance/tests"
)

func TestExpectedAreTests(t *testing.T) {
	found, err := selected(Expected)
	if err != nil {
		t.Fatal(err)
	}
	if len(found) == 0 {
		t.Error("no test is run")
	}
	if _, err := selected([]Expectation{{"HTTPRouteNoSuch", Passed}}); err == nil {
		t.Error("a test that does not exist is found")
	}
}

func TestCompare(t *testing.T) {
	f := func(ends, want Outcome, says string) {
		t.Helper()
		err := compare([]Expectation{{"A", want}}, map[string]Outcome{"A": ends})
		if says == "" && err != nil || says != "" && (err == nil || !strings.Contains(err.Error(), says)) {
			t.Errorf("%q instead of %q: %v, want %q", ends, want, err, says)
		}
	}
	f(Passed, Passed, "")
	f(NotAccepted, NotAccepted, "")
	f(Passed, NotAccepted, "A passed, which is better than expected")
	f(NotSetUp, NotAccepted, "A: base manifests not ready, want: GatewayClass not Accepted")
	f(Failed, Passed, "A: failed, want: passed")
	f(Skipped, Passed, "A: skipped, want: passed")
	f(NotRun, Passed, "A: not run, want: passed")
	f(NotAccepted, Passed, "A: GatewayClass not Accepted, want: passed")
}

func TestEnded(t *testing.T) {
	expected := []Expectation{{"A", Passed}, {"B", Passed}}
	f := func(r report, a, b Outcome) {
		t.Helper()
		if got := r.ended(expected); got["A"] != a || got["B"] != b {
			t.Errorf("%v, want %s and %s", got, a, b)
		}
	}
	f(report{Setup: NotAccepted}, NotAccepted, NotAccepted)
	f(report{Setup: Passed, Tests: map[string]Outcome{"A": Failed}}, Failed, NotRun)
	f(report{Setup: Passed, Tests: map[string]Outcome{"A": Passed, "B": Skipped}}, Passed, Skipped)
}

func TestSummary(t *testing.T) {
	nothing := summary(nil)
	if _, err := nothing.Marshal(); err != nil {
		t.Error(err)
	}
	everything := map[string]Outcome{}
	for _, test := range tests.ConformanceTests {
		everything[test.ShortName] = Passed
	}
	all := summary(everything)
	if nothing.Passed != 0 || all.Passed != all.Of || all.Of != nothing.Of {
		t.Errorf("%d of %d, %d of %d", nothing.Passed, nothing.Of, all.Passed, all.Of)
	}
	// Each test that needs no mesh is in a row.
	for _, test := range tests.ConformanceTests {
		one, rows := summary(map[string]Outcome{test.ShortName: Passed}), 0
		for _, c := range one.Checks {
			rows += c.Passed
		}
		if mesh := strings.HasPrefix(test.ShortName, "Mesh"); one.Passed == 1 == mesh || (rows > 0) == mesh {
			t.Errorf("%s (%v) counts %d times, and is in %d rows", test.ShortName, test.Features, one.Passed, rows)
		}
	}
	one := summary(map[string]Outcome{"HTTPRouteSimpleSameNamespace": Passed})
	if c := one.Checks[0]; c.Passed != 1 || c.Note != "the others are not served yet" {
		t.Errorf("%+v", c)
	}
}

func TestImages(t *testing.T) {
	images, err := Images()
	if err != nil {
		t.Fatal(err)
	}
	if len(images) != len(programs) {
		t.Errorf("%+v", images)
	}
	gomod, err := os.ReadFile("../go.mod")
	if err != nil {
		t.Fatal(err)
	}
	for _, i := range images {
		if i.Program == "/coredns" {
			_, tag, _ := strings.Cut(i.Names[0], ":")
			if !strings.Contains(string(gomod), "github.com/coredns/coredns "+tag+"\n") || len(i.Names) != 1 {
				t.Errorf("go.mod does not require what the manifests name: %q", i.Names)
			}
		}
		for _, name := range i.Names {
			if _, tag, _ := strings.Cut(name, ":"); tag == "" || tag == "latest" {
				t.Errorf("%s would be pulled", name)
			}
		}
	}
}

func TestTail(t *testing.T) {
	var b bytes.Buffer
	for i := range 1000 {
		fmt.Fprintf(&b, "%d: waiting\n%d: still waiting\n", i, i)
	}
	b.WriteString("1001: done\n")
	if got := string(tail(b.Bytes())); got != "0: waiting\n0: still waiting\n1001: done\n" {
		t.Errorf("%q", got)
	}
}

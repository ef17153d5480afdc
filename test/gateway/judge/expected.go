// Package judge runs the official conformance suite of the Gateway API against
// the Gatehouse of a cluster, and compares how each test ends with how it is
// expected to end today (Expected): a test that passes unexpectedly is as wrong
// as one that fails in another way. It takes the configuration of an
// administrator of a cluster with the definitions (package crd) and, as soon as
// anything of the Gateway API is served, with nodes and the Images; it gives the
// result that docs/CONFORMANCE.md shows.
//
// The suite is made of tests of package testing and ends its process, so it runs
// in a child process: the same program once more (Suite).
package judge

import (
	"fmt"
	"slices"
	"strings"

	"gatehouse.dev/gatehouse/test/judges"
	"k8s.io/apimachinery/pkg/util/sets"
	"sigs.k8s.io/gateway-api/conformance/tests"
	"sigs.k8s.io/gateway-api/conformance/utils/suite"
	"sigs.k8s.io/gateway-api/pkg/consts"
	"sigs.k8s.io/gateway-api/pkg/features"
)

// Outcome is how a test of the suite ends.
type Outcome string

const (
	Passed Outcome = "passed"
	Failed Outcome = "failed"
	// Skipped is that the suite itself left the test out, for want of a feature.
	Skipped Outcome = "skipped"
	// NotAccepted is that the suite waited in vain for the condition Accepted of
	// the GatewayClass, before any test.
	NotAccepted Outcome = "GatewayClass not Accepted"
	// NoClass is that the GatewayClass is not there.
	NoClass Outcome = "no such GatewayClass"
	// NotSetUp is that the suite's base manifests, which come next, could not be
	// applied or their Pods and Gateways did not get ready.
	NotSetUp Outcome = "base manifests not ready"
	// NotStarted is that the suite did not come so far, as without definitions.
	NotStarted Outcome = "suite not started"
	// NotRun is that the suite ended before it came to the test.
	NotRun Outcome = "not run"
)

// Expectation is a test that is run, by its short name, and how it ends today.
type Expectation struct {
	Test string
	Ends Outcome
}

// Expected are the tests that are run. Whoever serves more of the Gateway API
// adds tests here and changes how they end; no test is run that is not named.
var Expected = []Expectation{
	{"HTTPRouteSimpleSameNamespace", NotAccepted},
}

// Profiles are those that Gatehouse is judged by. It is no mesh.
var Profiles = []suite.ConformanceProfile{
	suite.GatewayHTTPConformanceProfile,
	suite.GatewayGRPCConformanceProfile,
	suite.GatewayTLSConformanceProfile,
	suite.GatewayTCPConformanceProfile,
	suite.GatewayUDPConformanceProfile,
}

// supported are the features that Gatehouse is judged by: tests that need any
// other are skipped by the suite. Once Gatehouse says in the status of its
// GatewayClass what it supports, the suite is to take them from there (it does
// if none are given), as the rules for published reports demand.
func supported() []features.FeatureName {
	all := sets.Set[features.FeatureName]{}
	for _, p := range Profiles {
		all = all.Union(p.CoreFeatures)
	}
	return sets.List(all)
}

// selected are the suite's tests that expected names.
func selected(expected []Expectation) ([]suite.ConformanceTest, error) {
	var found []suite.ConformanceTest
	for _, e := range expected {
		i := slices.IndexFunc(tests.ConformanceTests, func(t suite.ConformanceTest) bool { return t.ShortName == e.Test })
		if i < 0 {
			return nil, fmt.Errorf("cannot run %s: the suite has no such test", e.Test)
		}
		found = append(found, tests.ConformanceTests[i])
	}
	return found, nil
}

// compare says what ended otherwise than expected.
func compare(expected []Expectation, ended map[string]Outcome) error {
	var wrong []string
	for _, e := range expected {
		switch got := ended[e.Test]; {
		case got == e.Ends:
		case got == Passed:
			wrong = append(wrong, fmt.Sprintf("%s passed, which is better than expected (%s): say so in judge.Expected", e.Test, e.Ends))
		default:
			wrong = append(wrong, fmt.Sprintf("%s: %s, want: %s", e.Test, got, e.Ends))
		}
	}
	if len(wrong) > 0 {
		return fmt.Errorf("the suite ended otherwise than expected:\n%s", strings.Join(wrong, "\n"))
	}
	return nil
}

// summary counts what passed, by profile and once for all.
func summary(ended map[string]Outcome) judges.Result {
	r := judges.Result{Judge: "gateway-api", Version: consts.BundleVersion}
	row := func(name string, in func(needs sets.Set[features.FeatureName]) bool) {
		c := judges.Check{Name: name}
		for _, t := range tests.ConformanceTests {
			if in(sets.New(t.Features...)) {
				c.Of++
				if ended[t.ShortName] == Passed {
					c.Passed++
				}
			}
		}
		switch {
		case c.Passed == 0:
			c.Note = "not served yet"
		case c.Passed < c.Of:
			c.Note = "the others are not served yet"
		}
		r.Checks = append(r.Checks, c)
	}
	mesh := features.SetsToNamesSet(features.MeshCoreFeatures, features.MeshExtendedFeatures)
	ofAny := func(needs sets.Set[features.FeatureName]) bool {
		return slices.ContainsFunc(Profiles, func(p suite.ConformanceProfile) bool { return in(p, needs) })
	}
	for _, p := range Profiles {
		row(string(p.Name)+", core", p.CoreFeatures.IsSuperset)
		row(string(p.Name)+", extended", func(needs sets.Set[features.FeatureName]) bool {
			return in(p, needs) && !p.CoreFeatures.IsSuperset(needs)
		})
	}
	row("In no profile", func(needs sets.Set[features.FeatureName]) bool {
		return !ofAny(needs) && !mesh.HasAny(sets.List(needs)...)
	})
	for _, t := range tests.ConformanceTests {
		if mesh.HasAny(t.Features...) {
			continue
		}
		r.Of++
		if ended[t.ShortName] == Passed {
			r.Passed++
		}
	}
	return r
}

// in says whether a test that needs these features belongs to a profile.
func in(p suite.ConformanceProfile, needs sets.Set[features.FeatureName]) bool {
	return p.CoreFeatures.Union(p.ExtendedFeatures).IsSuperset(needs)
}

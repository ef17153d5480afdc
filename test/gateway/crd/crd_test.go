package crd

import (
	"slices"
	"testing"
)

func TestManifests(t *testing.T) {
	names := map[Channel][]string{}
	for _, c := range []Channel{Standard, Experimental} {
		objects, err := Manifests(t.Context(), ".", c)
		if err != nil {
			t.Fatal(err)
		}
		for _, o := range objects {
			if o.GetKind() == definitionKind {
				names[c] = append(names[c], o.GetName())
			}
		}
	}
	for _, name := range names[Standard] {
		if !slices.Contains(names[Experimental], name) {
			t.Errorf("%s is in the standard channel only", name)
		}
	}
	f := func(name string, c Channel, want bool) {
		t.Helper()
		if got := slices.Contains(names[c], name); got != want {
			t.Errorf("%s in channel %s: %v", name, c, got)
		}
	}
	// https://gateway-api.sigs.k8s.io/concepts/versioning/
	f("httproutes.gateway.networking.k8s.io", Standard, true)
	f("tlsroutes.gateway.networking.k8s.io", Standard, true)
	f("xbackendtrafficpolicies.gateway.networking.x-k8s.io", Standard, false)
	f("xbackendtrafficpolicies.gateway.networking.x-k8s.io", Experimental, true)
	if _, err := Manifests(t.Context(), ".", "stable"); err == nil {
		t.Error("channel stable is no error")
	}
}

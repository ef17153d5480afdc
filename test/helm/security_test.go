package helm

import (
	"slices"
	"testing"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/pod-security-admission/api"
	"k8s.io/pod-security-admission/policy"
)

// Which of the Pod Security Standards admits what, by the API server's own code.
func TestPodSecurity(t *testing.T) {
	evaluator, err := policy.NewEvaluator(policy.DefaultChecks(), nil)
	if err != nil {
		t.Fatal(err)
	}
	f := func(values string, level api.Level, want bool) {
		t.Helper()
		pod := render(t, values).pod(t)
		got := policy.AggregateCheckResults(evaluator.EvaluatePod(
			api.LevelVersion{Level: level, Version: api.LatestVersion()}, &pod.ObjectMeta, &pod.Spec))
		if got.Allowed != want {
			t.Errorf("%q, %s: allowed %v: %s", values, level, got.Allowed, got.ForbiddenDetail())
		}
	}
	f("", api.LevelRestricted, true)
	f("controller: {kind: DaemonSet, metrics: {enabled: true}}", api.LevelRestricted, true)
	// A low port needs no privilege in a network of one's own.
	f("controller: {containerPort: {http: 80}}", api.LevelRestricted, true)
	f("controller: {hostPort: {enabled: true}}", api.LevelBaseline, false)
	f("controller: {hostPort: {enabled: true}}", api.LevelPrivileged, true)
	f("controller: {hostNetwork: true}", api.LevelBaseline, false)
	// What is merged over the default is refused as it should be.
	f("controller: {podSecurityContext: {runAsNonRoot: false}}", api.LevelRestricted, false)
}

// TestPrivileges: the least that each way of binding ports needs.
func TestPrivileges(t *testing.T) {
	f := func(values string, user int64, capabilities []corev1.Capability, sysctls int) {
		t.Helper()
		spec := render(t, values).pod(t).Spec
		pod, c := spec.SecurityContext, spec.Containers[0].SecurityContext
		if *pod.RunAsUser != user || *pod.RunAsGroup != user || *pod.RunAsNonRoot != (user != 0) || len(pod.Sysctls) != sysctls {
			t.Errorf("%q: pod %+v", values, pod)
		}
		if !slices.Equal(c.Capabilities.Drop, []corev1.Capability{"ALL"}) || !slices.Equal(c.Capabilities.Add, capabilities) {
			t.Errorf("%q: capabilities %+v", values, c.Capabilities)
		}
		if *c.AllowPrivilegeEscalation || !*c.ReadOnlyRootFilesystem || pod.SeccompProfile.Type != corev1.SeccompProfileTypeRuntimeDefault {
			t.Errorf("%q: %+v, %+v", values, pod, c)
		}
	}
	bind := []corev1.Capability{"NET_BIND_SERVICE"}
	f("", 65532, nil, 0)
	f("controller: {hostPort: {enabled: true}}", 65532, nil, 0)
	f("controller: {containerPort: {https: 443}}", 65532, nil, 1)
	f("controller: {hostNetwork: true}", 0, bind, 0)
	f("controller: {hostNetwork: true, hostPort: {ports: {http: 8080}}}", 0, bind, 0)
	f("controller: {hostNetwork: true, hostPort: {ports: {http: 8080, https: 8443}}}", 65532, nil, 0)
	// Nodes that let everybody bind low ports need no root.
	f("controller: {hostNetwork: true, podSecurityContext: {runAsUser: 7, runAsGroup: 7, runAsNonRoot: true}, containerSecurityContext: {capabilities: {add: []}}}", 7, []corev1.Capability{}, 0)
}

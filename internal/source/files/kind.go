package files

import (
	"strings"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"gatehouse.dev/gatehouse/internal/verdict"
)

// kind is one that Gatehouse reads.
type kind struct {
	name       string
	apiVersion string
	cluster    bool   // not namespaced
	oldGroup   string // a group that had it once, besides its own
	make       func() metav1.Object
}

// kinds are all that a View holds.
func kinds() []kind {
	return []kind{
		{name: "Ingress", apiVersion: "networking.k8s.io/v1", oldGroup: "extensions", make: func() metav1.Object { return &networkingv1.Ingress{} }},
		{name: "IngressClass", apiVersion: "networking.k8s.io/v1", cluster: true, make: func() metav1.Object { return &networkingv1.IngressClass{} }},
		{name: "Service", apiVersion: "v1", make: func() metav1.Object { return &corev1.Service{} }},
		{name: "EndpointSlice", apiVersion: "discovery.k8s.io/v1", make: func() metav1.Object { return &discoveryv1.EndpointSlice{} }},
		{name: "Secret", apiVersion: "v1", make: func() metav1.Object { return &corev1.Secret{} }},
	}
}

// kindOf finds the kind by its group and name, in any version; exact says that
// version and spelling are the ones read here.
func kindOf(apiVersion, name string) (k kind, ok, exact bool) {
	group := groupOf(apiVersion)
	for _, k := range kinds() {
		if strings.EqualFold(k.name, name) && (group == groupOf(k.apiVersion) || group == k.oldGroup && group != "") {
			return k, true, k.name == name && k.apiVersion == apiVersion
		}
	}
	return kind{}, false, false
}

func groupOf(apiVersion string) string {
	group, _, ok := strings.Cut(apiVersion, "/")
	if !ok {
		return ""
	}
	return group
}

// meant gives the kind that was probably meant by one that is not read, and what is
// wrong: its name is misspelt, or its group. Only groups of Kubernetes itself are
// looked at: elsewhere an Ingress or a Service may be another thing.
func meant(apiVersion, name string) (k kind, field string, ok bool) {
	group := groupOf(apiVersion)
	var groups []string
	for _, k := range kinds() {
		groups = append(groups, groupOf(k.apiVersion))
		if k.name == name && (group == "" || strings.HasSuffix(group, ".k8s.io") && !strings.HasSuffix(group, "networking.k8s.io") || group == "apps" || group == "extensions") {
			return k, "apiVersion", true
		}
	}
	if near := verdict.Nearest(group, groups...); near != "" && near != group {
		group = near // networking.k8s.oi
	}
	for _, k := range kinds() {
		switch {
		case group != groupOf(k.apiVersion) && (group != k.oldGroup || group == ""):
		case k.name == name:
			return k, "apiVersion", true
		case !harmless(apiVersion, name) && name != "Endpoints" && name != "NetworkPolicy" && verdict.Nearest(name, k.name) != "":
			return k, "kind", true
		}
	}
	return kind{}, "", false
}

// harmless reports whether a kind belongs to what usually stands beside an
// Ingress and means nothing to its controller, so that no verdict is due. A
// kind that may be thought to change what is served is not harmless.
func harmless(apiVersion, name string) bool {
	switch groupOf(apiVersion) {
	case "apps", "batch", "autoscaling", "policy", "rbac.authorization.k8s.io", "apiextensions.k8s.io",
		"storage.k8s.io", "scheduling.k8s.io", "coordination.k8s.io", "admissionregistration.k8s.io",
		"apiregistration.k8s.io", "certificates.k8s.io", "node.k8s.io", "events.k8s.io",
		"flowcontrol.apiserver.k8s.io", "kustomize.config.k8s.io", "monitoring.coreos.com", "cert-manager.io":
		return true
	case "":
		switch name {
		case "Namespace", "ConfigMap", "ServiceAccount", "Pod", "PodTemplate", "ReplicationController",
			"PersistentVolume", "PersistentVolumeClaim", "LimitRange", "ResourceQuota", "Node", "Event":
			return true
		}
	}
	return false
}

// ignoredRemedy says what to do about a kind that is not read, if there is anything.
func ignoredRemedy(apiVersion, name string) string {
	switch {
	case apiVersion == "v1" && name == "Endpoints":
		return "write an EndpointSlice of discovery.k8s.io/v1 instead"
	case groupOf(apiVersion) == "gateway.networking.k8s.io":
		return "write an Ingress: this version does not serve the Gateway API"
	}
	return ""
}

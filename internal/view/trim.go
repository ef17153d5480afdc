package view

import (
	"maps"
	"strings"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// Trim removes from obj, in place, what translation and status never read, so
// that a View stays small and edits without effect compare equal. Whoever
// starts to read a field must keep it here. Kinds that a View does not hold
// lose only their metadata.
//
// Kept of the metadata: name, namespace, UID, resourceVersion, generation,
// creation and deletion time; the annotations that may mean something to
// Gatehouse; of the labels only the Service that an EndpointSlice belongs to.
func Trim(obj metav1.Object) {
	trimMeta(obj)
	switch o := obj.(type) {
	case *corev1.Service:
		trimService(o)
	case *corev1.Secret:
		o.StringData = nil
		o.Immutable = nil
		if !keepsSecretData(o.Type) {
			maps.DeleteFunc(o.Data, func(key string, _ []byte) bool { return !keepsSecretKey(key) })
		}
	case *discoveryv1.EndpointSlice:
		for i := range o.Endpoints {
			ep := &o.Endpoints[i]
			ep.Hostname = nil
			ep.TargetRef = nil
			ep.DeprecatedTopology = nil
			ep.Hints = nil
			ep.Zone = nil
		}
	}
}

func trimMeta(obj metav1.Object) {
	obj.SetManagedFields(nil)
	obj.SetOwnerReferences(nil)
	obj.SetFinalizers(nil)
	obj.SetGenerateName("")
	obj.SetSelfLink("")
	obj.SetDeletionGracePeriodSeconds(nil)

	annotations := obj.GetAnnotations()
	maps.DeleteFunc(annotations, func(key, _ string) bool { return !keepsAnnotation(key) })
	if len(annotations) == 0 {
		obj.SetAnnotations(nil)
	}

	labels := obj.GetLabels()
	keepOwner := isSlice(obj)
	maps.DeleteFunc(labels, func(key, _ string) bool { return !keepOwner || key != discoveryv1.LabelServiceName })
	if len(labels) == 0 {
		obj.SetLabels(nil)
	}
}

func trimService(o *corev1.Service) {
	o.Spec = corev1.ServiceSpec{
		Type:         o.Spec.Type,
		Ports:        o.Spec.Ports,
		ExternalName: o.Spec.ExternalName,
		ClusterIP:    o.Spec.ClusterIP,
		ClusterIPs:   o.Spec.ClusterIPs,
	}
	// The addresses of the Service that publishes us become Ingress status.
	o.Status = corev1.ServiceStatus{LoadBalancer: o.Status.LoadBalancer}
}

func keepsAnnotation(key string) bool {
	switch key {
	case "kubernetes.io/ingress.class", networkingv1.AnnotationIsDefaultIngressClass:
		return true
	}
	return HasPrefixFold(key, PrefixNginx) || HasPrefixFold(key, PrefixOwn)
}

// HasPrefixFold is strings.HasPrefix for ASCII, without regard to case: the API
// takes keys of annotations whose prefix has letters in upper case, which then
// mean nothing.
func HasPrefixFold(s, prefix string) bool {
	return len(s) >= len(prefix) && strings.EqualFold(s[:len(prefix)], prefix)
}

// keepsSecretData reports whether all keys of a Secret of the type are kept: in
// one without a meaning of its own each may be a user (auth-secret-type:
// auth-map).
func keepsSecretData(t corev1.SecretType) bool {
	return t == "" || t == corev1.SecretTypeOpaque
}

// keepsSecretKey knows the keys by which an Ingress can reach into a Secret:
// certificate and key, CA and revocation list, and the password file.
func keepsSecretKey(key string) bool {
	switch key {
	case corev1.TLSCertKey, corev1.TLSPrivateKeyKey, "ca.crt", "ca.crl", "auth":
		return true
	}
	return false
}

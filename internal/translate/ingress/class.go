package ingress

import (
	networkingv1 "k8s.io/api/networking/v1"

	"gatehouse.dev/gatehouse/internal/verdict"
	"gatehouse.dev/gatehouse/internal/view"
)

// legacyClass is the annotation from before spec.ingressClassName. It counts
// only where that is unset.
const legacyClass = "kubernetes.io/ingress.class"

// classes knows which Ingresses are ours.
type classes struct {
	view     *view.View
	options  Options
	fallback *networkingv1.IngressClass // ours and marked as default, or nil
}

// membership is what the class of an Ingress says.
type membership struct {
	ours bool
	// class is its IngressClass; nil when there is no such object.
	class *networkingv1.IngressClass
	// field of the Ingress that names the class.
	field string
	// unknown: it names the class that should be ours, but no such object exists.
	unknown bool
}

func newClasses(v *view.View, o Options) *classes {
	c := &classes{view: v, options: o}
	for k := range v.IngressClasses.All() {
		if !c.owns(k) || k.Annotations[networkingv1.AnnotationIsDefaultIngressClass] != "true" {
			continue
		}
		// Among several, one that can be served; else the first by name.
		if c.fallback == nil || c.fallback.Spec.Parameters != nil && k.Spec.Parameters == nil {
			c.fallback = k
		}
	}
	return c
}

func (c *classes) owns(k *networkingv1.IngressClass) bool {
	return k != nil && k.Spec.Controller == c.options.ControllerName
}

// of decides by spec.ingressClassName; else by the legacy annotation; else by
// the default class. Without any IngressClass object everything may be ours
// (Options.AnyClass).
func (c *classes) of(ing *networkingv1.Ingress) membership {
	if c.options.AnyClass && c.view.IngressClasses.Len() == 0 {
		return membership{ours: true}
	}
	if name := ing.Spec.IngressClassName; name != nil && *name != "" {
		k := c.view.IngressClass(*name)
		return membership{
			ours: c.owns(k), class: k, field: "spec.ingressClassName",
			unknown: k == nil && *name == c.options.IngressClass,
		}
	}
	if name := ing.Annotations[legacyClass]; name != "" {
		k := c.view.IngressClass(name)
		// The object speaks where it exists; the annotation never needed one.
		ours := c.owns(k) || k == nil && name == c.options.IngressClass
		return membership{ours: ours, class: k, field: annotationField(legacyClass)}
	}
	return membership{ours: c.fallback != nil, class: c.fallback, field: "spec.ingressClassName"}
}

// verdicts about the classes themselves.
func (c *classes) verdicts() []verdict.Verdict {
	var out []verdict.Verdict
	for k := range c.view.IngressClasses.All() {
		if !c.owns(k) || k.Spec.Parameters == nil {
			continue
		}
		out = append(out, verdict.Verdict{
			Object: refOf("IngressClass", k), Severity: verdict.Rejected,
			Field: "spec.parameters", Reason: verdict.ParametersUnsupported,
			Message: "IngressClass parameters are not supported: every Ingress of this class answers 503",
			Remedy:  "remove spec.parameters from the class",
		})
	}
	return out
}

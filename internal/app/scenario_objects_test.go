package app

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"reflect"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	networkingv1 "k8s.io/api/networking/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/yaml"
	"k8s.io/client-go/dynamic"
)

// objectName says which object of the cluster is meant.
type objectName struct{ kind, namespace, name string }

func (n objectName) compare(m objectName) int {
	return cmp.Or(cmp.Compare(n.namespace, m.namespace), cmp.Compare(n.name, m.name))
}

// madeObject is one that a scenario made.
type madeObject struct {
	object *unstructured.Unstructured // as the scenario has it
	said   time.Time                  // age that the scenario says; zero: the oldest
	born   time.Time                  // what the API server says, in seconds
}

// objectKinds are those of scenarios, in the order in which they are written, so
// that what is referenced is there first.
func objectKinds() []schema.GroupVersionKind {
	return []schema.GroupVersionKind{
		networkingv1.SchemeGroupVersion.WithKind("IngressClass"),
		corev1.SchemeGroupVersion.WithKind("Service"),
		corev1.SchemeGroupVersion.WithKind("Secret"),
		discoveryv1.SchemeGroupVersion.WithKind("EndpointSlice"),
		networkingv1.SchemeGroupVersion.WithKind("Ingress"),
	}
}

func rankOf(o *unstructured.Unstructured) int {
	return slices.Index(objectKinds(), o.GroupVersionKind())
}

// readObjects reads the objects of a file, as they are but for the namespace,
// which is given to those that lack it.
func readObjects(text string) (all []*unstructured.Unstructured, err error) {
	add := func(o *unstructured.Unstructured) error {
		if rankOf(o) < 0 {
			return fmt.Errorf("%s %s: kind is not for scenarios", o.GroupVersionKind(), o.GetName())
		}
		if o.GetNamespace() == "" && o.GetKind() != "IngressClass" {
			o.SetNamespace(metav1.NamespaceDefault)
		}
		all = append(all, o)
		return nil
	}
	for d := yaml.NewYAMLOrJSONDecoder(bytes.NewReader([]byte(text)), 4096); ; {
		o := &unstructured.Unstructured{}
		switch err := d.Decode(&o.Object); {
		case errors.Is(err, io.EOF):
			return all, nil
		case err != nil:
			return nil, err
		case len(o.Object) == 0:
			continue
		}
		if !o.IsList() {
			if err := add(o); err != nil {
				return nil, err
			}
			continue
		}
		list, err := o.ToList()
		if err != nil {
			return nil, err
		}
		for i := range list.Items {
			if err := add(&list.Items[i]); err != nil {
				return nil, err
			}
		}
	}
}

func nameOf(o *unstructured.Unstructured) objectName {
	return objectName{o.GetKind(), o.GetNamespace(), o.GetName()}
}

// said is the age that a manifest gives its object.
func said(o *unstructured.Unstructured) time.Time { return o.GetCreationTimestamp().Time }

func (c *installation) of(o *unstructured.Unstructured) dynamic.ResourceInterface {
	gvk := o.GroupVersionKind()
	plural := strings.ToLower(gvk.Kind) + "s"
	if strings.HasSuffix(plural, "ss") {
		plural = strings.TrimSuffix(plural, "s") + "es"
	}
	all := c.objects.Resource(gvk.GroupVersion().WithResource(plural))
	if o.GetNamespace() == "" {
		return all
	}
	return all.Namespace(o.GetNamespace())
}

// create makes an object, and its namespace if need be.
func (c *installation) create(o *unstructured.Unstructured) (*unstructured.Unstructured, error) {
	if ns := o.GetNamespace(); ns != "" && ns != metav1.NamespaceDefault && !c.namespaces[ns] {
		// One of an earlier run may be on its way out.
		err := c.until(patience, func() error {
			_, err := c.api.CoreV1().Namespaces().Create(context.Background(), &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: ns}}, metav1.CreateOptions{})
			return err
		})
		if err != nil {
			return nil, err
		}
		c.namespaces[ns] = true
	}
	return c.of(o).Create(context.Background(), o, metav1.CreateOptions{})
}

// remove deletes an object and waits until it is gone.
func (c *installation) remove(o *unstructured.Unstructured) error {
	if err := c.of(o).Delete(context.Background(), o.GetName(), metav1.DeleteOptions{}); err != nil {
		return err
	}
	return c.until(patience, func() error {
		_, err := c.of(o).Get(context.Background(), o.GetName(), metav1.GetOptions{})
		if apierrors.IsNotFound(err) {
			return nil
		}
		return fmt.Errorf("%s is still there (%v)", nameOf(o), err)
	})
}

// write brings the cluster's objects to the step's state.
func (r *clusterRun) write(st *step) error {
	r.t.Helper()
	for _, name := range st.remove {
		delete(r.s.text, name)
		delete(r.certs, name)
	}
	for _, line := range st.certs {
		name, manifest := r.s.ca.secret(line)
		r.certs["certs/"+name+".yaml"] = manifest
	}
	for _, f := range st.files {
		r.s.text[f.Name] = r.s.fill(string(f.Data))
	}
	r.s.synthesise()
	wanted := map[objectName]*unstructured.Unstructured{}
	for _, from := range []map[string]string{r.certs, r.s.text, r.s.slices} {
		for file, text := range from {
			objects, err := readObjects(text)
			if err != nil {
				return fmt.Errorf("%s: %w", file, err)
			}
			for _, o := range objects {
				r.fit(o)
				wanted[nameOf(o)] = o
			}
		}
	}
	return r.bring(wanted)
}

// fit gives the object the class and the controller of this cluster.
func (r *clusterRun) fit(o *unstructured.Unstructured) {
	const legacy = "kubernetes.io/ingress.class"
	annotations := o.GetAnnotations()
	class, _, _ := unstructured.NestedString(o.Object, "spec", "ingressClassName")
	switch controller, _, _ := unstructured.NestedString(o.Object, "spec", "controller"); {
	case o.GetKind() == "IngressClass" && controller == Defaults().ControllerName:
		unstructured.SetNestedField(o.Object, r.controller, "spec", "controller")
	case o.GetKind() != "Ingress":
	case annotations[legacy] == Defaults().IngressClass:
		annotations[legacy] = r.class
		o.SetAnnotations(annotations)
	case class == "" && annotations[legacy] == "" && !r.classes:
		unstructured.SetNestedField(o.Object, r.class, "spec", "ingressClassName")
	}
}

// bring removes what is wanted no more, and writes what is new or has changed.
func (r *clusterRun) bring(wanted map[objectName]*unstructured.Unstructured) error {
	for name, m := range r.made {
		if wanted[name] != nil {
			continue
		}
		if err := r.remove(m.object); err != nil {
			return err
		}
		delete(r.made, name)
	}
	var order []*unstructured.Unstructured
	for name, o := range wanted {
		if m := r.made[name]; m == nil || !reflect.DeepEqual(m.object.Object, o.Object) {
			order = append(order, o)
		}
	}
	// The older first: the API server says how old an object is.
	slices.SortFunc(order, func(a, b *unstructured.Unstructured) int {
		return cmp.Or(cmp.Compare(rankOf(a), rankOf(b)), said(a).Compare(said(b)), nameOf(a).compare(nameOf(b)))
	})
	for _, o := range order {
		if err := r.put(o); err != nil {
			return fmt.Errorf("%s: %w", nameOf(o), err)
		}
	}
	return nil
}

// put creates or changes an object; where the API server refuses the change, such
// as that of an IngressClass's controller, it is made anew.
func (r *clusterRun) put(o *unstructured.Unstructured) error {
	if m := r.made[nameOf(o)]; m != nil {
		_, err := r.of(o).Update(context.Background(), o, metav1.UpdateOptions{})
		if err == nil {
			m.object = o
		}
		if !apierrors.IsInvalid(err) {
			return err
		}
		if err := r.remove(m.object); err != nil {
			return err
		}
		delete(r.made, nameOf(o))
	}
	if err := r.younger(o); err != nil {
		return err
	}
	created, err := r.create(o)
	if err == nil {
		r.made[nameOf(o)] = &madeObject{object: o, said: said(o), born: created.GetCreationTimestamp().Time}
	}
	return err
}

// younger waits until an object that is made now is younger than those that the
// scenario says are older. Of the same second the first by name counts as older.
func (r *clusterRun) younger(o *unstructured.Unstructured) error {
	var after time.Time
	for name, m := range r.made {
		if name.kind == o.GetKind() && m.said.Before(said(o)) && name.compare(nameOf(o)) > 0 && m.born.After(after) {
			after = m.born
		}
	}
	if after.IsZero() {
		return nil
	}
	return r.until(patience, func() error {
		trial, err := r.of(o).Create(context.Background(), o, metav1.CreateOptions{DryRun: []string{metav1.DryRunAll}})
		if err != nil {
			return err
		}
		if !trial.GetCreationTimestamp().After(after) {
			return fmt.Errorf("it is still %s", after)
		}
		return nil
	})
}

// clear removes what the scenario made.
func (r *clusterRun) clear() {
	if err := r.bring(nil); err != nil {
		r.t.Error(err)
	}
}

// clear removes the namespaces. It does not wait until they are gone.
func (c *installation) clear() {
	for ns := range c.namespaces {
		if err := c.api.CoreV1().Namespaces().Delete(context.Background(), ns, metav1.DeleteOptions{}); err != nil {
			c.t.Error(err)
		}
	}
}

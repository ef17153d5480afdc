package crd

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/rest"
)

const definitionKind = "CustomResourceDefinition"

// resources are the kinds that a channel consists of.
var resources = map[string]schema.GroupVersionResource{
	definitionKind:                     {Group: "apiextensions.k8s.io", Version: "v1", Resource: "customresourcedefinitions"},
	"ValidatingAdmissionPolicy":        {Group: "admissionregistration.k8s.io", Version: "v1", Resource: "validatingadmissionpolicies"},
	"ValidatingAdmissionPolicyBinding": {Group: "admissionregistration.k8s.io", Version: "v1", Resource: "validatingadmissionpolicybindings"},
}

// Install makes the cluster serve exactly the objects (see Manifests): it waits
// until the definitions are Established and their kinds can be listed. If they
// are there already it changes nothing but what differs. If another channel or
// version is there, all of that is removed before, see Remove: the API's own
// admission policy forbids to go from one to the other. ctx bounds the whole.
func Install(ctx context.Context, config *rest.Config, objects []*unstructured.Unstructured) error {
	client, err := newClient(config)
	if err != nil {
		return err
	}
	there, err := installed(ctx, client)
	if err != nil {
		return err
	}
	if !sameRelease(append(there, objects...)) {
		if err := Remove(ctx, config); err != nil {
			return err
		}
	}
	for _, o := range objects {
		if err := apply(ctx, client, o); err != nil {
			return err
		}
	}
	for _, o := range objects {
		if o.GetKind() != definitionKind {
			continue
		}
		if err := until(ctx, func() error { return served(ctx, client, o.GetName()) }); err != nil {
			return fmt.Errorf("cannot wait for %s: %w", o.GetName(), err)
		}
	}
	return nil
}

// sameRelease says whether all definitions are of one version and channel.
func sameRelease(objects []*unstructured.Unstructured) bool {
	seen := map[string]bool{}
	for _, o := range objects {
		if o.GetKind() == definitionKind {
			version, channel := stamp(o)
			seen[version+" "+string(channel)] = true
		}
	}
	return len(seen) <= 1
}

// Remove deletes all that Install makes, of whatever channel and version, and
// returns when it is gone, with all objects of the Gateway API.
func Remove(ctx context.Context, config *rest.Config) error {
	client, err := newClient(config)
	if err != nil {
		return err
	}
	objects, err := installed(ctx, client)
	if err != nil {
		return err
	}
	for _, o := range objects {
		err := client.Resource(resources[o.GetKind()]).Delete(ctx, o.GetName(), metav1.DeleteOptions{})
		if err != nil && !apierrors.IsNotFound(err) {
			return fmt.Errorf("cannot delete %s %s: %w", o.GetKind(), o.GetName(), err)
		}
	}
	return until(ctx, func() error {
		left, err := installed(ctx, client)
		if err == nil && len(left) > 0 {
			err = fmt.Errorf("cannot remove %s %s: it is still there", left[0].GetKind(), left[0].GetName())
		}
		return err
	})
}

// newClient makes one without client-side rate limit, since five requests a
// second would be most of the time this takes, and without the server's warnings
// of old versions, which served lists too.
func newClient(config *rest.Config) (dynamic.Interface, error) {
	config = rest.CopyConfig(config)
	config.QPS, config.WarningHandler = -1, rest.NoWarnings{}
	client, err := dynamic.NewForConfig(config)
	if err != nil {
		return nil, fmt.Errorf("cannot make a client: %w", err)
	}
	return client, nil
}

// installed are all objects in the cluster that are the Gateway API's own. The
// admission policies come first: in their order they can be deleted.
func installed(ctx context.Context, client dynamic.Interface) ([]*unstructured.Unstructured, error) {
	var found []*unstructured.Unstructured
	for _, kind := range []string{"ValidatingAdmissionPolicyBinding", "ValidatingAdmissionPolicy", definitionKind} {
		list, err := client.Resource(resources[kind]).List(ctx, metav1.ListOptions{})
		if err != nil {
			return nil, fmt.Errorf("cannot list %s: %w", resources[kind].Resource, err)
		}
		for i := range list.Items {
			o := &list.Items[i]
			if strings.HasSuffix(o.GetName(), ".gateway.networking.k8s.io") || strings.HasSuffix(o.GetName(), ".gateway.networking.x-k8s.io") {
				found = append(found, o)
			}
		}
	}
	return found, nil
}

func apply(ctx context.Context, client dynamic.Interface, o *unstructured.Unstructured) error {
	text, err := json.Marshal(o)
	if err != nil {
		return fmt.Errorf("cannot write %s: %w", o.GetName(), err)
	}
	force := true
	_, err = client.Resource(resources[o.GetKind()]).Patch(ctx, o.GetName(), types.ApplyPatchType, text,
		metav1.PatchOptions{FieldManager: "gatehouse-test", Force: &force})
	if err != nil {
		return fmt.Errorf("cannot apply %s %s: %w", o.GetKind(), o.GetName(), err)
	}
	return nil
}

// served is nil when a definition is Established and each of its versions that
// is to be served can be listed: the server needs a moment between the two.
func served(ctx context.Context, client dynamic.Interface, name string) error {
	o, err := client.Resource(resources[definitionKind]).Get(ctx, name, metav1.GetOptions{})
	if err != nil {
		return err
	}
	conditions, _, _ := unstructured.NestedSlice(o.Object, "status", "conditions")
	established := false
	for _, c := range conditions {
		if c, ok := c.(map[string]any); ok && c["type"] == "Established" {
			established = c["status"] == "True"
		}
	}
	if !established {
		return fmt.Errorf("not Established: %v", conditions)
	}
	group, _, _ := unstructured.NestedString(o.Object, "spec", "group")
	plural, _, _ := unstructured.NestedString(o.Object, "spec", "names", "plural")
	versions, _, _ := unstructured.NestedSlice(o.Object, "spec", "versions")
	listed := 0
	for _, v := range versions {
		v, ok := v.(map[string]any)
		if !ok || v["served"] != true {
			continue
		}
		version, _ := v["name"].(string)
		r := schema.GroupVersionResource{Group: group, Version: version, Resource: plural}
		if _, err := client.Resource(r).List(ctx, metav1.ListOptions{Limit: 1}); err != nil {
			return err
		}
		listed++
	}
	if listed == 0 {
		return errors.New("no version is served")
	}
	return nil
}

// until calls check until it is nil or ctx ends; the error is check's then.
func until(ctx context.Context, check func() error) error {
	tick := time.NewTicker(interval)
	defer tick.Stop()
	for {
		err := check()
		if err == nil {
			return nil
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return err
		}
	}
}

// Package rbac says what Gatehouse may ask of the API server, and whether that
// is what it does ask: neither more nor less.
//
// It takes Roles and the API server's audit log and gives sets that can be
// compared. It talks to nobody.
package rbac

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	rbacv1 "k8s.io/api/rbac/v1"
)

// Grant is one verb on one resource.
type Grant struct {
	Namespace string // empty: all, and what has none
	Verb      string
	Group     string // empty: core
	Resource  string // with its subresource: ingresses/status
	Name      string // empty: all
}

// String is the Grant in one line.
func (g Grant) String() string {
	s := g.Verb + " " + g.Resource
	if g.Group != "" {
		s = g.Verb + " " + strings.Replace(g.Resource, "/", "."+g.Group+"/", 1)
		if !strings.Contains(g.Resource, "/") {
			s += "." + g.Group
		}
	}
	if g.Name != "" {
		s += " " + g.Name
	}
	if g.Namespace != "" {
		s += " in " + g.Namespace
	}
	return s
}

// Granted lists what rules grant in a namespace, or with "" everywhere: sorted,
// each once. A rule with a wildcard, or with URLs instead of resources, is an
// error: nothing that is needed looks like that.
func Granted(namespace string, rules []rbacv1.PolicyRule) ([]Grant, error) {
	var all []Grant
	for _, r := range rules {
		if slices.Contains(slices.Concat(r.Verbs, r.APIGroups, r.Resources), "*") || len(r.NonResourceURLs) > 0 {
			return nil, fmt.Errorf("cannot compare a rule that is not exact: %v", r)
		}
		names := r.ResourceNames
		if len(names) == 0 {
			names = []string{""}
		}
		for _, verb := range r.Verbs {
			for _, group := range r.APIGroups {
				for _, resource := range r.Resources {
					for _, name := range names {
						all = append(all, Grant{Namespace: namespace, Verb: verb, Group: group, Resource: resource, Name: name})
					}
				}
			}
		}
	}
	return sorted(all), nil
}

func sorted(all []Grant) []Grant {
	slices.SortFunc(all, func(a, b Grant) int {
		return cmp.Or(cmp.Compare(a.Namespace, b.Namespace), cmp.Compare(a.Group, b.Group), cmp.Compare(a.Resource, b.Resource),
			cmp.Compare(a.Name, b.Name), cmp.Compare(a.Verb, b.Verb))
	})
	return slices.Compact(all)
}

// Covers reports whether the Grant allows a request.
func (g Grant) Covers(r Request) bool {
	return g.Verb == r.Verb && g.Group == r.Group && g.Resource == r.Resource &&
		(g.Namespace == "" || g.Namespace == r.Namespace) && (g.Name == "" || g.Name == r.Name)
}

// Compare gives the Grants that no request has used, and the requests that no
// Grant covers or that the API server refused. Both are empty when the rights
// are just those that are needed.
func Compare(granted []Grant, seen []Request) (unused []Grant, missing []Request) {
	for _, g := range granted {
		if !slices.ContainsFunc(seen, g.Covers) {
			unused = append(unused, g)
		}
	}
	for _, r := range seen {
		if r.Forbidden || !slices.ContainsFunc(granted, func(g Grant) bool { return g.Covers(r) }) {
			missing = append(missing, r)
		}
	}
	return unused, missing
}

package files

import (
	"encoding/json"
	"strings"

	kjson "sigs.k8s.io/json"
)

// header is what shows which object it is.
type header struct {
	apiVersion, kind, namespace, name string

	isList bool
	items  []rawItem
}

// readHeader reads as much as it can; message says what it lacks.
func readHeader(v part) (h header, field, message string) {
	var top map[string]json.RawMessage
	if err := kjson.UnmarshalCaseSensitivePreserveInts(v.json, &top); err != nil {
		return h, "", "not a Kubernetes object: " + jsonKind(v.json) + " where an object is expected"
	}
	h.apiVersion, h.kind = v.apiVersion, v.kind
	into := func(field string, raw json.RawMessage, to *string) string {
		if raw == nil || string(raw) == "null" || json.Unmarshal(raw, to) == nil {
			return ""
		}
		return field
	}
	wrong := into("apiVersion", top["apiVersion"], &h.apiVersion)
	if f := into("kind", top["kind"], &h.kind); wrong == "" {
		wrong = f
	}
	var meta map[string]json.RawMessage
	if raw := top["metadata"]; raw != nil && kjson.UnmarshalCaseSensitivePreserveInts(raw, &meta) != nil && wrong == "" {
		return h, "metadata", "is " + jsonKind(raw) + " where an object is expected"
	}
	if f := into("metadata.name", meta["name"], &h.name); wrong == "" {
		wrong = f
	}
	if f := into("metadata.namespace", meta["namespace"], &h.namespace); wrong == "" {
		wrong = f
	}
	switch {
	case wrong != "":
		return h, wrong, "is not a string"
	case h.apiVersion == "":
		return h, "apiVersion", "not a Kubernetes object: apiVersion is missing"
	case h.kind == "":
		return h, "kind", "not a Kubernetes object: kind is missing"
	}
	raw, ok := top["items"]
	if h.isList = h.kind == "List" || ok && strings.HasSuffix(h.kind, "List"); !h.isList || !ok || string(raw) == "null" {
		return h, "", ""
	}
	var items []json.RawMessage
	if json.Unmarshal(raw, &items) != nil {
		return h, "items", "is " + jsonKind(raw) + " where a list is expected"
	}
	for _, i := range items {
		h.items = append(h.items, i)
	}
	return h, "", ""
}

// repeatedHeader gives the field, if there is one, that shows that two objects
// stand in one document without a marker between them.
func (d *document) repeatedHeader() (found place) {
	if d.text == nil && !d.doubtful {
		return found
	}
	seen := map[string]bool{}
	d.walk(func(p place) bool {
		if seen[p.path] && found.path == "" && (p.path == "apiVersion" || p.path == "kind" || p.path == "metadata") {
			found = p
		}
		seen[p.path] = true
		return false
	})
	return found
}

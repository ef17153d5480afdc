package files

import (
	"bytes"
	"encoding/json"
	"fmt"
	"reflect"
	"runtime"
	"strings"
	"testing"
)

// ingressYAML is the beginning of an item of a block sequence, as kubectl prints it.
func ingressYAML(i int, more string) string {
	return fmt.Sprintf(`- apiVersion: networking.k8s.io/v1
  kind: Ingress
  metadata:
    annotations:
      note: |
        - one
        items:
    name: i%d
  spec:
    rules:
    - host: h%d.test
      http:
        paths:
        - path: /
          pathType: Prefix
          backend: {service: {name: s, port: {number: 80}}}
%s`, i, i, more)
}

func ingressJSON(i int, more string) string {
	return fmt.Sprintf(`{"apiVersion": "networking.k8s.io/v1", "kind": "Ingress", "metadata": {"name": "i%d"},
  "spec": {"rules": [{"host": "h%d.test", "http": {"paths": [{"path": "/", "pathType": "Prefix", "backend": {"service": {"name": "s", "port": {"number": 80}}}}]}}]}%s}`, i, i, more)
}

func repeat(n int, sep string, one func(i int) string) string {
	all := make([]string, n)
	for i := range all {
		all[i] = one(i)
	}
	return strings.Join(all, sep)
}

// TestReadIsLinear: what kubectl prints of a whole cluster is one List. Work is
// counted in allocations, which do not depend on the machine: eight times as many
// items make about eight times as many, where reading the List anew for every
// item makes up to 64 times as many.
func TestReadIsLinear(t *testing.T) {
	f := func(name, file string, text func(n int) string) {
		t.Helper()
		count := func(n int) float64 {
			in := text(n)
			var before, after runtime.MemStats
			runtime.ReadMemStats(&before)
			objects, _ := Read(strings.NewReader(in), file, nil)
			runtime.ReadMemStats(&after)
			if len(objects) != n {
				t.Fatalf("%s: %d objects of %d", name, len(objects), n)
			}
			return float64(after.Mallocs - before.Mallocs)
		}
		count(10) // what is made once
		if few, many := count(100), count(800); many > 12*few {
			t.Errorf("%s: %.0f allocations for 100 objects, %.0f for 800", name, few, many)
		}
	}
	head := "apiVersion: v1\nitems:\n"
	tail := "kind: List\nmetadata:\n  resourceVersion: \"\"\n"
	f("YAML", "x.yaml", func(n int) string {
		return head + repeat(n, "", func(i int) string { return ingressYAML(i, "") }) + tail
	})
	f("YAML with unknown fields", "x.yaml", func(n int) string {
		return head + repeat(n, "", func(i int) string { return ingressYAML(i, "  odd: 1\n") }) + tail
	})
	f("YAML with a key twice", "x.yaml", func(n int) string {
		return head + repeat(n, "", func(i int) string { return ingressYAML(i, "    rules: []\n") }) + tail
	})
	f("YAML in flow style", "x.yaml", func(n int) string {
		return "apiVersion: v1\nkind: List\nitems: [\n" + repeat(n, ",\n", func(i int) string { return ingressJSON(i, ", odd: 1") }) + "]\n"
	})
	f("YAML, a typed List in a List", "x.yaml", func(n int) string {
		inner := strings.ReplaceAll(repeat(n, "", func(i int) string { return ingressYAML(i, "  odd: 1\n") }), "\n", "\n  ")
		return head + "- apiVersion: networking.k8s.io/v1\n  kind: IngressList\n  items:\n  " + strings.TrimSuffix(inner, "  ") + tail
	})
	f("JSON", "x.json", func(n int) string {
		return `{"apiVersion": "v1", "items": [` + repeat(n, ",\n", func(i int) string { return ingressJSON(i, "") }) + `], "kind": "List"}`
	})
	f("JSON with unknown fields", "x.json", func(n int) string {
		return `{"apiVersion": "v1", "items": [` + repeat(n, ",\n", func(i int) string { return ingressJSON(i, `, "odd": 1`) }) + `], "kind": "List"}`
	})
	f("JSON, a typed List in a List", "x.json", func(n int) string {
		return `{"apiVersion": "v1", "kind": "List", "items": [{"apiVersion": "networking.k8s.io/v1", "kind": "IngressList", "items": [` +
			repeat(n, ",\n", func(i int) string { return ingressJSON(i, `, "odd": 1`) }) + `]}]}`
	})
	f("documents", "x.yaml", func(n int) string {
		return repeat(n, "---\n", func(i int) string {
			return strings.ReplaceAll(" "+strings.TrimPrefix(ingressYAML(i, "  odd: 1\n"), "-"), "\n  ", "\n  ")
		})
	})
}

// TestProgress: a List is told of item by item, and all of the file in the end.
func TestProgress(t *testing.T) {
	f := func(file, text string) {
		t.Helper()
		var told []Progress
		Read(strings.NewReader(text), file, func(p Progress) { told = append(told, p) })
		if len(told) < 10 {
			t.Fatalf("%s: told %d times", file, len(told))
		}
		for i, p := range told {
			if p.File != file || p.Total != int64(len(text)) || p.Bytes > p.Total || i > 0 && (p.Bytes < told[i-1].Bytes || p.Objects < told[i-1].Objects) {
				t.Errorf("%s: %+v, %d of them", file, p, i)
			}
		}
		if last := told[len(told)-1]; last.Objects < 10 || last.Bytes < last.Total/2 {
			t.Errorf("%s: in the end %+v", file, last)
		}
	}
	f("x.yaml", "apiVersion: v1\nitems:\n"+repeat(10, "", func(i int) string { return ingressYAML(i, "") })+"kind: List\n")
	f("x.json", `{"apiVersion": "v1", "kind": "List", "items": [`+repeat(10, ",", func(i int) string { return ingressJSON(i, "") })+`]}`)
	f("docs.yaml", repeat(10, "---\n", func(i int) string { return service(fmt.Sprintf("s%d", i), 1) }))
}

// cutLists are Lists in every form that the cut takes or must leave alone.
var cutLists = []string{
	"apiVersion: v1\nkind: List\nitems:\n- a: 1\n  b: 2\n- a: 3\n",
	"items:\n  - a: 1\n  - a: 3\napiVersion: v1\nkind: List\n",
	"items: # of them\n- a: 1\nkind: List\napiVersion: v1\n",
	"apiVersion: v1\nkind: List\nitems:\n- a: |\n    - b\n   # no comment\n\n  c: 1\n-\n  a: 2\n- # a comment\n  a: 3\n-\n",
	"apiVersion: v1\nkind: List\nitems:\n- a: \"b\n- c\"\n- d\n",            // quoted text that looks like an item
	"apiVersion: v1\nkind: List\nitems:\n- a: [b,\n- 1]\n- d\n",             // a flow collection that does
	"apiVersion: v1\nkind: List\nitems:\n- &a {b: 1}\n- *a\n",               // an alias of another item
	"apiVersion: v1\nkind: List\nitems:\n- a\nitems:\n- b\n",                // items twice
	"apiVersion: v1\nkind: IngressList\nitems:\n- a: 1\n- {b: 2}\n- - c\n",  // not objects
	"apiVersion: v1\nkind: List\nitems:\n-\ta: 1\n",                         // a tab
	"apiVersion: v1\nkind: List\nitems:\n- a: 1\n b: 2\n",                   // broken
	"apiVersion: v1\nkind: List\nitems:\n- a: 1\n- a: 2\n  a: 3\n",          // a key twice
	"apiVersion: v1\nkind: Thing\nitems:\n- a: 1\n",                         // no List
	"%YAML 1.1\n---\napiVersion: v1\nkind: List\nitems:\r\n- a: 1\r\n- b\n", // line ends of Windows
	"apiVersion: v1\nkind: List\nitems:\n- a: b\n  c\n- 'x\n\n- y': z\n",
	"apiVersion: v1\nkind: List\nitems:\n- |\n  a\n- >-\n  b\n - c\n",
	"? items:\n- a: 1\n: b\n",
}

// sameWhenCut reports whether a List was cut, and fails when its items are not
// those that the parser sees in the whole.
func sameWhenCut(t *testing.T, text string) bool {
	t.Helper()
	read := func() *splitter { return &splitter{name: "x.yaml", meter: &meter{}} }
	c := chunk{text: []byte(text)}
	list := read().cutList(c, 1)
	if list == nil {
		return false
	}
	whole, bad := read().convert(c, 1)
	if bad != nil || whole == nil {
		t.Fatalf("%q: cut into %d items, as a whole %v", text, len(list.items), bad)
	}
	var want struct{ Items []json.RawMessage }
	if err := json.Unmarshal(whole.json, &want); err != nil {
		t.Fatal(err)
	}
	if len(want.Items) != len(list.items) {
		t.Fatalf("%q: %d items, as a whole %d", text, len(list.items), len(want.Items))
	}
	for i, d := range list.items {
		if !bytes.Equal(d.json, want.Items[i]) {
			t.Errorf("%q: item %d is %s, as a whole %s", text, i, d.json, want.Items[i])
		}
	}
	return true
}

// TestCutList: whatever is cut means the same as the whole; what kubectl prints is.
func TestCutList(t *testing.T) {
	cut := 0
	for _, text := range cutLists {
		if sameWhenCut(t, text) {
			cut++
		}
	}
	if cut < 6 {
		t.Errorf("only %d Lists were cut", cut)
	}
}

func FuzzCutList(f *testing.F) {
	for _, text := range cutLists {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		if len(chunks([]byte(text))) == 1 {
			sameWhenCut(t, text)
		}
	})
}

// TestListItemsAreNamed: what is wrong with an item of a List is told with its
// number and its line, whatever form the List has; and of an object of a kind
// that is known with its name.
func TestListItemsAreNamed(t *testing.T) {
	f := func(file, text string, want ...string) {
		t.Helper()
		_, verdicts := Read(strings.NewReader(text), file, nil)
		var got []string
		for _, v := range verdicts {
			got = append(got, v.File+" | "+v.String())
		}
		if !reflect.DeepEqual(got, want) {
			t.Errorf("%s\n got %q\nwant %q", text, got, want)
		}
	}
	f("x.yaml", "apiVersion: v1\nitems:\n- apiVersion: v1\n  kind: Service\n  metadata: {name: s}\n  spec:\n    ports: 1\n- kind: Service\n- 5\nkind: List\n",
		"x.yaml:9 | File x.yaml: Rejected ObjectInvalid: not a Kubernetes object: a number where an object is expected (items[2])",
		"x.yaml:8 | File x.yaml: Rejected ObjectInvalid: apiVersion: not a Kubernetes object: apiVersion is missing (items[1]) (every object begins with both, such as apiVersion: networking.k8s.io/v1 and kind: Ingress)",
		"x.yaml:7 | Service default/s: Rejected ObjectInvalid: spec.ports: is a number where a list is expected")
	f("x.json", "{\"apiVersion\": \"v1\", \"kind\": \"List\",\n\"items\": [\n{\"apiVersion\": \"v1\", \"kind\": \"Service\", \"metadata\": {\"name\": \"s\"},\n\"spec\": {\n\"ports\": 1}},\n{\"kind\": \"Service\"}]}",
		"x.json:6 | File x.json: Rejected ObjectInvalid: apiVersion: not a Kubernetes object: apiVersion is missing (items[1]) (every object begins with both, such as apiVersion: networking.k8s.io/v1 and kind: Ingress)",
		"x.json:5 | Service default/s: Rejected ObjectInvalid: spec.ports: is a number where a list is expected")
	f("x.yaml", "apiVersion: v1\nkind: List\nitems:\n- apiVersion: networking.k8s.io/v1\n  kind: IngressList\n  items:\n  - metadata: {}\n",
		"x.yaml:7 | File x.yaml: Rejected ObjectInvalid: metadata.name: is required (items[0].items[0])")
}

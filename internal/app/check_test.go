package app

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"golang.org/x/tools/txtar"
)

// run executes a command line to its end.
func run(in string, args ...string) (out, errs string, err error) {
	var o, e output
	cmd := Command("v1.2.3", Streams{In: strings.NewReader(in), Out: &o, Err: &e})
	cmd.SetArgs(args)
	err = cmd.Execute()
	return o.String(), e.String(), err
}

// TestCheckGolden runs `gatehouse check` over the manifests of each
// testdata/check/*.txtar and compares text and JSON. DIR stands for the
// directory of the manifests; "args" are further arguments. The JSON fits
// docs/check.schema.json.
func TestCheckGolden(t *testing.T) {
	archives, err := filepath.Glob("testdata/check/*.txtar")
	if err != nil || len(archives) == 0 {
		t.Fatalf("no archives: %v", err)
	}
	for _, path := range archives {
		t.Run(strings.TrimSuffix(filepath.Base(path), ".txtar"), func(t *testing.T) {
			a, err := txtar.ParseFile(path)
			if err != nil {
				t.Fatal(err)
			}
			dir := t.TempDir()
			want := map[string]string{}
			var args []string
			for _, f := range a.Files {
				if f.Name == "args" {
					args = strings.Fields(string(f.Data))
					continue
				}
				if f.Name == "text" || f.Name == "json" {
					want[f.Name] = strings.ReplaceAll(string(f.Data), "DIR", dir)
					continue
				}
				if err := os.MkdirAll(filepath.Join(dir, filepath.Dir(f.Name)), 0o755); err != nil {
					t.Fatal(err)
				}
				if err := os.WriteFile(filepath.Join(dir, f.Name), f.Data, 0o644); err != nil {
					t.Fatal(err)
				}
			}
			text, errs, err := run("", append([]string{"check", dir}, args...)...)
			if text != want["text"] || errs != "" {
				t.Errorf("text:\n%s%s\nwant:\n%s", text, errs, want["text"])
				if *update {
					want["text"] = text
					replaceSection(a, "text", strings.ReplaceAll(text, dir, "DIR"))
				}
			}
			data, errs, errJSON := run("", append([]string{"check", "-o", "json", dir}, args...)...)
			var got, wanted any
			if err := json.Unmarshal([]byte(data), &got); err != nil || errs != "" {
				t.Fatalf("not JSON: %v\n%s%s", err, data, errs)
			}
			if err := json.Unmarshal([]byte(want["json"]), &wanted); err != nil {
				t.Fatal(err)
			}
			if !reflect.DeepEqual(got, wanted) {
				t.Errorf("JSON:\n%s\nwant:\n%s", data, want["json"])
				if *update {
					replaceSection(a, "json", strings.ReplaceAll(data, dir, "DIR"))
				}
			}
			validateCheck(t, data)
			var rejected error
			if !strings.Contains(want["text"], " 0 rejected\n") && !strings.Contains(want["text"], ", 0 closed\n") {
				rejected = ErrRejected
			}
			if *update && t.Failed() {
				if err := os.WriteFile(path, txtar.Format(a), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			if !errors.Is(err, rejected) || !errors.Is(errJSON, rejected) {
				t.Errorf("ends with %v and, as JSON, %v; want %v", err, errJSON, rejected)
			}
		})
	}
}

func replaceSection(a *txtar.Archive, name, text string) {
	for i := range a.Files {
		if a.Files[i].Name == name {
			a.Files[i].Data = []byte(text)
		}
	}
}

// TestCheckInputs states that a file and standard input are read like a
// directory, and what cannot be read is no verdict.
func TestCheckInputs(t *testing.T) {
	const good = "apiVersion: v1\nkind: Service\nmetadata: {name: s}\nspec: {ports: [{port: 80}]}\n"
	const bad = "---\napiVersion: networking.k8s.io/v1\nkind: Ingress\nmetadata: {name: i}\nspec: {defaultBackend: {service: {name: missing, port: {number: 80}}}}\n"
	dir := t.TempDir()
	// A single file may have any name.
	file := filepath.Join(dir, "manifest.txt")
	f := func(content, wantText string, want error) {
		t.Helper()
		if err := os.WriteFile(file, []byte(content), 0o644); err != nil {
			t.Fatal(err)
		}
		for arg, name := range map[string]string{"-": "-", file: file} {
			out, _, err := run(content, "check", arg)
			if err != want {
				t.Errorf("check %s ends with %v, want %v", arg, err, want)
			}
			if wantText := strings.ReplaceAll(wantText, "NAME", name); out != wantText {
				t.Errorf("check %s\n%s\nwant\n%s", arg, out, wantText)
			}
		}
	}
	f(good, "accepted  Service default/s  (NAME:1)\n1 objects, 0 rejected\n", nil)
	f(good+bad, `accepted  Service default/s  (NAME:1)
rejected  Ingress default/i  (NAME:6)
    Rejected ServiceNotFound at spec.defaultBackend.service.name: Service default/missing does not exist: the path answers 503
        remedy: create the Service in the namespace of the Ingress, or correct the name
2 objects, 1 rejected
`, ErrRejected)
	f("{", `rejected  File NAME
    Rejected FileUnreadable at NAME:1: not YAML: did not find expected node content
        remedy: correct the YAML at this line
0 objects, 1 rejected
`, ErrRejected)
	f("", "0 objects, 0 rejected\n", nil)

	absent := filepath.Join(dir, "absent")
	if _, _, err := run("", "check", absent); err == nil || errors.Is(err, ErrRejected) || !strings.Contains(err.Error(), absent) {
		t.Errorf("check of nothing ends with %v", err)
	}
	if _, _, err := run("", "check"); err == nil || errors.Is(err, ErrRejected) {
		t.Errorf("check without argument ends with %v", err)
	}
	if _, _, err := run(good, "check", "-o", "xml", "-"); err == nil || !strings.Contains(err.Error(), "text or json") {
		t.Errorf("check -o xml ends with %v", err)
	}
}

// TestCheckFlags states that check judges as serve would with the same flags.
func TestCheckFlags(t *testing.T) {
	const manifests = `apiVersion: v1
kind: Service
metadata: {name: s}
spec: {ports: [{port: 80}]}
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: s-1, labels: {kubernetes.io/service-name: s}}
addressType: IPv4
ports: [{port: 80}]
endpoints: [{addresses: [127.0.0.1]}]
---
apiVersion: networking.k8s.io/v1
kind: IngressClass
metadata: {name: mine}
spec: {controller: example.com/mine}
---
apiVersion: networking.k8s.io/v1
kind: Ingress
metadata: {name: mine}
spec: {ingressClassName: mine, defaultBackend: {service: {name: s, port: {number: 80}}}}
`
	f := func(want error, wantText string, args ...string) {
		t.Helper()
		out, _, err := run(manifests, append([]string{"check", "-"}, args...)...)
		if err != want || !strings.Contains(out, wantText) {
			t.Errorf("check %q: %v\n%s", args, err, out)
		}
	}
	f(nil, "ignored   Ingress default/mine")
	f(nil, "accepted  Ingress default/mine", "--controller-name", "example.com/mine")
	f(nil, "accepted  EndpointSlice default/s-1")
	f(ErrRejected, "rejected  EndpointSlice default/s-1", "--allow-local-endpoints=false")
	// Flags come from the environment, too.
	t.Setenv("GATEHOUSE_CONTROLLER_NAME", "example.com/mine")
	f(nil, "accepted  Ingress default/mine")
	t.Setenv("GATEHOUSE_ALLOW_LOCAL_ENDPOINTS", "false")
	f(ErrRejected, "rejected  EndpointSlice default/s-1")
	t.Setenv("GATEHOUSE_OUTPUT", "json")
	f(ErrRejected, `"result": "accepted"`)
}

// TestCheckUpstreamFlag states that check tells of TLS as serve would do it with
// the same flags.
func TestCheckUpstreamFlag(t *testing.T) {
	manifests := oneService + "---\n" + strings.Replace(fmt.Sprintf(oneIngress, "/"), "metadata: {name: i}",
		"metadata: {name: i, annotations: {nginx.ingress.kubernetes.io/backend-protocol: HTTPS}}", 1)
	f := func(want string, args ...string) {
		t.Helper()
		out, _, err := run(manifests, append([]string{"check", "-"}, args...)...)
		if err != nil || !strings.Contains(out, "    tls: x.test: offloaded with the default certificate, bridged to default/s:80 ("+want+")\n") {
			t.Errorf("check %q: %v\n%s", args, err, out)
		}
	}
	f("NOT verified")
	f("verified", "--verify-upstreams")
	t.Setenv("GATEHOUSE_VERIFY_UPSTREAMS", "true")
	f("verified")
	f("NOT verified", "--verify-upstreams=false")
}

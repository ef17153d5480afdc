package helm

import (
	"encoding/json"
	"maps"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// What cannot be meant is refused before anything is installed, in words that
// say what to do.
func TestRefusals(t *testing.T) {
	f := func(values string, want ...string) {
		t.Helper()
		_, err := template(t, values)
		if err == nil {
			t.Errorf("%s: rendered", values)
			return
		}
		for _, w := range want {
			if !strings.Contains(err.Error(), w) {
				t.Errorf("%s: %v; it does not say %q", values, err, w)
			}
		}
	}
	f("replicaCount: 2", "replicaCount")
	f("controller: {replicas: 2}", "/controller", "'replicas'")
	f("controller: {service: {typ: NodePort}}", "/controller/service", "'typ'")
	f("controller: {config: {use-gzip: 'true'}}", "'config'")
	f("controller: {kind: StatefulSet}", "'Deployment', 'DaemonSet'")
	f("controller: {replicaCount: two}", "/controller/replicaCount", "integer")
	f("controller: {hostPort: {ports: {http: 70000}}}", "/controller/hostPort/ports/http", "65,535")
	f("controller: {service: {externalTrafficPolicy: local}}", "'Local'")
	f("controller: {image: {digest: abc}}", "/controller/image/digest")
	f("controller: {watchNamespaces: [A]}", "/controller/watchNamespaces/0")
	f("controller: {publishService: {pathOverride: name}}", "/controller/publishService/pathOverride")
	f("controller: {extraArgs: {htttp-addr: x}}", "'htttp-addr'")
	f("controller: {extraArgs: {default-ssl-certificate: a/b}}", "'default-ssl-certificate'")
	f("controller: {extraArgs: {http-addr: ':80'}}", "controller.containerPort.http")
	f("controller: {extraArgs: {watch-namespace: a}}", "controller.watchNamespaces")
	f("controller: {extraArgs: {drain-delay: 1m}}", "/controller/extraArgs/drain-delay")
	f("controller: {extraArgs: {drain-timeout: 300s}}", "controller.terminationGracePeriodSeconds is 300")
	f("controller: {terminationGracePeriodSeconds: 15}", "controller.terminationGracePeriodSeconds is 15")
	f("controller: {kind: DaemonSet, autoscaling: {enabled: true}}", "controller.kind Deployment")
	f("controller: {metrics: {serviceMonitor: {enabled: true}}}", "controller.metrics.enabled")
	f("controller: {service: {enableHttp: false, enableHttps: false}}", "no port")
}

// TestFlags: extraArgs takes the flags that there are, and no other.
func TestFlags(t *testing.T) {
	doc, err := os.ReadFile("../../docs/flags.md")
	if err != nil {
		t.Fatal(err)
	}
	_, serve, _ := strings.Cut(string(doc), "## gatehouse serve\n")
	serve, _, _ = strings.Cut(serve, "\n## ")
	var flags []string
	for _, m := range regexp.MustCompile("(?m)^\\| `--([a-z-]+)`").FindAllStringSubmatch(serve, -1) {
		flags = append(flags, m[1])
	}
	slices.Sort(flags)
	text, err := os.ReadFile(chartDir + "/values.schema.json")
	if err != nil {
		t.Fatal(err)
	}
	var schema map[string]any
	if err := json.Unmarshal(text, &schema); err != nil {
		t.Fatal(err)
	}
	args := property(property(schema, "controller"), "extraArgs")["properties"].(map[string]any)
	if *update {
		for _, f := range flags {
			if args[f] == nil {
				args[f] = map[string]any{"type": []string{"string", "boolean", "number"}}
			}
		}
		maps.DeleteFunc(args, func(f string, _ any) bool { return !slices.Contains(flags, f) })
		out, err := json.MarshalIndent(schema, "", "  ")
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(chartDir+"/values.schema.json", append(out, '\n'), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if got := slices.Sorted(maps.Keys(args)); len(flags) == 0 || !slices.Equal(got, flags) {
		t.Errorf("values.schema.json does not take the flags of docs/flags.md: run make manifests\n got %v\nwant %v", got, flags)
	}
}

func property(schema map[string]any, name string) map[string]any {
	return schema["properties"].(map[string]any)[name].(map[string]any)
}

package app

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/spf13/pflag"
	"golang.org/x/tools/txtar"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"

	"gatehouse.dev/gatehouse/internal/source/files"
	"gatehouse.dev/gatehouse/internal/verdict"
)

// update writes what came into the scenarios. It is for people who then read
// every changed line against the Kubernetes documentation; never for CI.
var update = flag.Bool("update", false, "write what came into testdata/scenarios (read every change!)")

// TestScenarios runs every testdata/scenarios/*.txtar through the whole
// pipeline: manifests in a directory, the files source, translation, the data
// plane on real loopback sockets, and real backends.
//
// An archive has these sections, all but the manifests optional:
//
//	options      flags of `gatehouse serve`, one per line, without dashes
//	backends     how backends serve, one per line (see backendForm)
//	clients      client certificates, one per line (see authority.addClient)
//	certs        TLS Secrets to make, one per line (see authority.secret)
//	*.yaml, ...  manifests; ${NAME.ip}, ${NAME.port} (and ip6, port6) are the
//	             address of a backend of that name
//	requests     one per line (see request)
//	verdicts     all that must be said about the objects, one per line:
//	             Object: Severity Reason: field ~ part of the message
//
// A Service that never had an EndpointSlice gets one with a backend for each of its
// ports, named like the Service ("name" in namespace default, else
// "namespace/name"), with ":port" behind it when there are several ports.
//
// Further steps change it: "step 2: FILE" replaces or adds a file, "step 2:
// delete" lists files to remove, "step 2: certs" renews Secrets, and the
// requests and verdicts of the step are expected then. Without verdicts those
// of the step before are expected again.
func TestScenarios(t *testing.T) {
	archives, err := filepath.Glob("testdata/scenarios/*.txtar")
	if err != nil || len(archives) == 0 {
		t.Fatalf("no scenarios: %v", err)
	}
	if c := installationFromEnv(t); c != nil {
		c.scenarios(t, archives)
		return
	}
	for _, path := range archives {
		t.Run(strings.TrimSuffix(filepath.Base(path), ".txtar"), func(t *testing.T) {
			t.Parallel()
			runScenario(t, path)
		})
	}
}

// step is one state of the manifests with what is expected in it. The indexes
// are of sections in the archive; -1 means none.
type step struct {
	files              []txtar.File
	remove, certs      []string
	requests, verdicts int
}

// setting is what the first step says about the scenario as a whole.
type setting struct {
	options, backends, clients []string
}

func parseScenario(t testing.TB, a *txtar.Archive) (steps []step, all setting) {
	t.Helper()
	for i, f := range a.Files {
		n, name := 1, f.Name
		if rest, ok := strings.CutPrefix(f.Name, "step "); ok {
			number, after, ok := strings.Cut(rest, ": ")
			var err error
			if n, err = strconv.Atoi(number); err != nil || !ok {
				t.Fatalf("section %q: write \"step 2: name\"", f.Name)
			}
			name = after
		}
		switch {
		case n == len(steps)+1:
			steps = append(steps, step{requests: -1, verdicts: -1})
		case n != len(steps):
			t.Fatalf("section %q: steps count up from 1", f.Name)
		}
		s := &steps[n-1]
		switch name {
		case "options":
			all.options = lines(string(f.Data))
		case "backends":
			all.backends = lines(string(f.Data))
		case "clients":
			all.clients = lines(string(f.Data))
		case "certs":
			s.certs = lines(string(f.Data))
		case "delete":
			s.remove = lines(string(f.Data))
		case "requests":
			s.requests = i
		case "verdicts":
			s.verdicts = i
		default:
			s.files = append(s.files, txtar.File{Name: name, Data: f.Data})
		}
	}
	return steps, all
}

// scenario is a running one.
type scenario struct {
	t        testing.TB
	archive  *txtar.Archive
	m        *manifests
	backends *backends
	ca       *authority
	client   *client
	text     map[string]string // manifests by file, without placeholders
	slices   map[string]string // synthesised EndpointSlices by Service
	explicit map[string]bool   // Services that had an EndpointSlice in any step
	verdicts []string          // expected now
}

func runScenario(t *testing.T, path string) {
	a, err := txtar.ParseFile(path)
	if err != nil {
		t.Fatal(err)
	}
	steps, all := parseScenario(t, a)
	dir := t.TempDir()
	o := testOptions(dir)
	f := pflag.NewFlagSet("options", pflag.ContinueOnError)
	o.addFlags(f)
	// addFlags sets the flags' own defaults where serve settles them later.
	o.AllowLocalEndpoints = true
	for _, w := range all.options {
		if err := f.Parse([]string{"--" + w}); err != nil {
			t.Fatal(err)
		}
	}
	s := newScenario(t, a, all)
	s.m = newManifests(t, dir)
	for i := range steps {
		s.write(&steps[i])
		if i == 0 {
			s.client = &client{g: startGateway(t, o), ca: s.ca}
		}
		s.m.wait(s.client.g)
		s.expect(i+1, &steps[i])
		if t.Failed() && !*update {
			break
		}
	}
	if *update {
		if err := os.WriteFile(path, txtar.Format(a), 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

func newScenario(t testing.TB, a *txtar.Archive, all setting) *scenario {
	t.Helper()
	s := &scenario{
		t: t, archive: a, backends: newBackends(t), ca: newAuthority(t),
		text: map[string]string{}, slices: map[string]string{}, explicit: map[string]bool{},
	}
	s.backends.ca, s.backends.forms = s.ca, map[string]*backendForm{}
	for _, line := range all.backends {
		name, form, err := parseBackendForm(line)
		if err != nil {
			t.Fatal(err)
		}
		s.backends.forms[name] = form
	}
	for _, line := range all.clients {
		s.ca.addClient(line)
	}
	return s
}

// write brings the directory to the step's state.
func (s *scenario) write(st *step) {
	s.t.Helper()
	for _, name := range st.remove {
		s.m.remove(name)
		delete(s.text, name)
	}
	for _, line := range st.certs {
		name, manifest := s.ca.secret(line)
		s.m.write("certs/"+name+".yaml", manifest)
	}
	for _, f := range st.files {
		s.text[f.Name] = s.fill(string(f.Data))
		s.m.write(f.Name, s.text[f.Name])
	}
	if s.synthesise() {
		var all []string
		for _, text := range s.slices {
			all = append(all, text)
		}
		slices.Sort(all)
		s.m.write("zz-endpoints.yaml", strings.Join(all, "---\n"))
	}
}

var placeholder = regexp.MustCompile(`\$\{([^}]+)\.(ip|port|ip6|port6)\}`)

// fill puts backends' addresses in place of the placeholders.
func (s *scenario) fill(text string) string {
	return placeholder.ReplaceAllStringFunc(text, func(p string) string {
		m := placeholder.FindStringSubmatch(p)
		if m[1] == "admin" {
			ip, port, _ := strings.Cut(s.client.admin(), ":")
			if m[2] == "ip" {
				return ip
			}
			return port
		}
		a := s.backends.at(m[1], strings.HasSuffix(m[2], "6"))
		if strings.HasPrefix(m[2], "ip") {
			return a.Addr().String()
		}
		return port(a)
	})
}

// synthesise makes EndpointSlices for Services that have none, and reports
// whether any changed.
func (s *scenario) synthesise() bool {
	var services []*corev1.Service
	for name, text := range s.text {
		objects, _ := files.Read(strings.NewReader(text), name, nil)
		for _, o := range objects {
			switch obj := o.Obj.(type) {
			case *corev1.Service:
				services = append(services, obj)
			case *discoveryv1.EndpointSlice:
				s.explicit[obj.Namespace+"/"+obj.Labels[discoveryv1.LabelServiceName]] = true
			}
		}
	}
	changed := false
	for _, svc := range services {
		key := svc.Namespace + "/" + svc.Name
		text := ""
		if !s.explicit[key] && svc.Spec.Type != corev1.ServiceTypeExternalName {
			text = s.slice(svc)
		}
		if s.slices[key] != text {
			s.slices[key] = text
			changed = true
		}
		if text == "" {
			delete(s.slices, key)
		}
	}
	return changed
}

func (s *scenario) slice(svc *corev1.Service) string {
	name := svc.Name
	if svc.Namespace != "default" {
		name = svc.Namespace + "/" + svc.Name
	}
	var b strings.Builder
	// A slice has one address and many ports: each port of a Service has a
	// server of its own, so each has a slice of its own.
	for i, p := range svc.Spec.Ports {
		id := name
		if len(svc.Spec.Ports) > 1 {
			id = fmt.Sprintf("%s:%d", name, p.Port)
		}
		if i > 0 {
			b.WriteString("---\n")
		}
		a := s.backends.at(id, false)
		fmt.Fprintf(&b, "apiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\nmetadata: {namespace: %s, name: %s-%d, labels: {kubernetes.io/service-name: %s}}\n"+
			"addressType: IPv4\nports: [{name: %q, port: %d}]\nendpoints: [{addresses: [%s]}]\n", svc.Namespace, svc.Name, i, svc.Name, p.Name, a.Port(), a.Addr())
	}
	return b.String()
}

// expect sends the step's requests and compares its verdicts.
func (s *scenario) expect(n int, st *step) {
	s.t.Helper()
	if st.requests >= 0 {
		var out strings.Builder
		for line := range strings.Lines(string(s.archive.Files[st.requests].Data)) {
			out.WriteString(s.request(n, strings.TrimRight(line, "\n")) + "\n")
		}
		if *update {
			s.archive.Files[st.requests].Data = []byte(out.String())
		}
	}
	var got []string
	for _, v := range s.client.g.Verdicts() {
		if v.Reason == verdict.NoEndpoints {
			continue // there is none in a cluster, where scenarios run too; see TestBackendFlag
		}
		got = append(got, strings.ReplaceAll(verdictLine(v), s.m.dir+"/", ""))
	}
	wrong := compareVerdicts(got, s.expected(st))
	for _, w := range wrong {
		s.t.Errorf("step %d: %s", n, w)
	}
	if *update && len(wrong) > 0 && st.verdicts >= 0 {
		for i := range got {
			got[i], _, _ = strings.Cut(got[i], " ~ ")
		}
		s.archive.Files[st.verdicts].Data = []byte(strings.Join(got, "\n") + "\n")
	}
}

// verdictLine is a verdict as scenarios have it, with all of the message.
func verdictLine(v verdict.Verdict) string {
	text := v.Object.String() + ": " + string(v.Severity) + " " + string(v.Reason)
	if v.Field != "" {
		text += ": " + v.Field
	}
	return text + " ~ " + v.Message
}

// expected are the verdicts of the step: its own, or those of the one before.
func (s *scenario) expected(st *step) []string {
	if st.verdicts >= 0 {
		s.verdicts = lines(string(s.archive.Files[st.verdicts].Data))
	}
	return s.verdicts
}

// request runs one line and returns it as it should be.
func (s *scenario) request(n int, line string) string {
	s.t.Helper()
	if text := strings.TrimSpace(line); text == "" || strings.HasPrefix(text, "#") {
		return line
	}
	r, err := parseRequest(s.fill(line))
	if err != nil {
		s.t.Error(err)
		return line
	}
	wrong, words := s.client.run(s.t, r)
	if len(wrong) == 0 {
		return line
	}
	s.t.Errorf("step %d: %s\n\t%s", n, line, strings.Join(wrong, "\n\t"))
	left, _, _ := strings.Cut(line, " -> ")
	return left + " -> " + strings.Join(words, " ")
}

// compareVerdicts gives what is missing and what is too much.
func compareVerdicts(got, want []string) (wrong []string) {
	left := slices.Clone(got)
	for _, w := range want {
		head, message, _ := strings.Cut(w, " ~ ")
		i := slices.IndexFunc(left, func(g string) bool {
			gotHead, gotMessage, _ := strings.Cut(g, " ~ ")
			return gotHead == head && strings.Contains(gotMessage, message)
		})
		if i < 0 {
			wrong = append(wrong, "no verdict: "+w)
			continue
		}
		left = slices.Delete(left, i, i+1)
	}
	for _, g := range left {
		wrong = append(wrong, "verdict that nobody expects: "+g)
	}
	return wrong
}

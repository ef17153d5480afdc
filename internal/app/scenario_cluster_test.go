package app

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/tools/txtar"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	utilnet "k8s.io/apimachinery/pkg/util/net"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"

	"gatehouse.dev/gatehouse/internal/verdict"
)

// settling is how long after a step's objects are taken in an answer may still
// be another than the one expected: Secrets that are no certificates are read
// when they are first named.
const settling = 10 * time.Second

// installation is a Gatehouse in a cluster. TestScenarios runs against it, and
// not in this process, when the environment names one:
//
//	GATEHOUSE_SCENARIO_KUBECONFIG  the cluster, as its administrator
//	GATEHOUSE_SCENARIO_HTTP        where the Gatehouse serves HTTP, HOST:PORT
//	GATEHOUSE_SCENARIO_HTTPS       and HTTPS; both must let it see clients' addresses
//	GATEHOUSE_SCENARIO_ADMIN       where its --admin-addr is
//	GATEHOUSE_SCENARIO_CLASS       its IngressClass; nothing else may use it
//	GATEHOUSE_SCENARIO_DEPLOYMENT  its Deployment, NAMESPACE/NAME, of one replica
//	GATEHOUSE_SCENARIO_IP          of this process, as Pods see it: clients come from it, backends listen at it
//	GATEHOUSE_SCENARIO_REFUSING    a network A.B.C.0/24, all of whose addresses refuse connections
//
// Scenarios with options get a Pod of their own, like those of the Deployment
// but with these options, and speak to it directly.
//
// The addresses that scenarios name are of this machine; in a cluster
// GATEHOUSE_SCENARIO_IP stands for 127.0.0.1 and 127.0.0.0/8, and addresses that
// refuse for others of 127.0.0.0/16. Ingresses without a class get the
// installation's, unless the scenario has IngressClasses.
type installation struct {
	t                 *testing.T
	objects           dynamic.Interface
	api               kubernetes.Interface
	front             *front
	class, controller string
	deployment        types.NamespacedName
	ip                string
	refusing          netip.Prefix
	marker            *backends
	markers           int
	namespaces        map[string]bool // made here
}

func installationFromEnv(t *testing.T) *installation {
	t.Helper()
	kubeconfig := os.Getenv("GATEHOUSE_SCENARIO_KUBECONFIG")
	if kubeconfig == "" {
		return nil
	}
	if *update {
		t.Fatal("-update goes with scenarios in this process only")
	}
	env := func(name string) string {
		t.Helper()
		value := os.Getenv("GATEHOUSE_SCENARIO_" + name)
		if value == "" {
			t.Fatalf("GATEHOUSE_SCENARIO_%s is not set", name)
		}
		return value
	}
	c := &installation{
		t: t, front: &front{http: env("HTTP"), https: env("HTTPS"), admin: env("ADMIN")}, class: env("CLASS"), ip: env("IP"),
		marker: newBackends(t), namespaces: map[string]bool{},
	}
	c.marker.ip = c.ip
	c.deployment.Namespace, c.deployment.Name, _ = strings.Cut(env("DEPLOYMENT"), "/")
	var err error
	if c.refusing, err = netip.ParsePrefix(env("REFUSING")); err != nil {
		t.Fatal(err)
	}
	c.connect(kubeconfig)
	class, err := c.api.NetworkingV1().IngressClasses().Get(t.Context(), c.class, metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	c.controller = class.Spec.Controller
	t.Cleanup(c.clear)
	return c
}

var loopback = regexp.MustCompile(`127\.0\.(\d+)\.(\d+)(/8)?`)

// here puts the cluster's addresses in place of this machine's.
func (c *installation) here(text string) string {
	return loopback.ReplaceAllStringFunc(text, func(a string) string {
		switch a {
		case "127.0.0.0/8":
			return c.ip + "/32"
		case "127.0.0.1":
			return c.ip
		}
		m := loopback.FindStringSubmatch(a)
		net, _ := strconv.Atoi(m[1])
		host, _ := strconv.Atoi(m[2])
		refusing := c.refusing.Addr().As4()
		refusing[3] = byte(net<<4 | host&15)
		return netip.AddrFrom4(refusing).String()
	})
}

func (c *installation) connect(kubeconfig string) {
	c.t.Helper()
	fail := func(err error) {
		c.t.Helper()
		if err != nil {
			c.t.Fatal(err)
		}
	}
	cfg, err := clientcmd.BuildConfigFromFlags("", kubeconfig)
	fail(err)
	cfg.QPS = -1 // no limit: nobody else waits
	cfg.WarningHandler = rest.NoWarnings{}
	client, err := rest.HTTPClientFor(cfg)
	fail(err)
	c.t.Cleanup(func() { utilnet.CloseIdleConnectionsFor(client.Transport) })
	c.objects, err = dynamic.NewForConfigAndClient(cfg, client)
	fail(err)
	c.api, err = kubernetes.NewForConfigAndClient(cfg, client)
	fail(err)
}

// scenarios runs all that apply, one after the other: they share namespaces and
// hosts.
func (c *installation) scenarios(t *testing.T, archives []string) {
	stale := notInCluster()
	var ran, not int
	for _, path := range archives {
		name := strings.TrimSuffix(filepath.Base(path), ".txtar")
		why, listed := stale[name]
		delete(stale, name)
		switch {
		case !listed:
			ran++
			t.Run(name, func(t *testing.T) { c.scenario(t, path, false) })
			continue
		case why.refused:
			t.Run(name, func(t *testing.T) { c.scenario(t, path, true) })
		}
		not++
		t.Logf("%s is not for clusters: %s", name, why.reason)
	}
	for name := range stale {
		t.Errorf("notInCluster names %s, which does not exist", name)
	}
	t.Logf("%d scenarios ran in the cluster, %d are not for clusters", ran, not)
}

// clusterRun is a scenario that runs in the cluster.
type clusterRun struct {
	*installation
	t             *testing.T
	s             *scenario
	options       []string
	class         string            // of Ingresses that have none; the installation's or its own
	ownController string            // of its own class, if it has one
	classes       bool              // it has IngressClasses
	certs         map[string]string // manifests of certificates, by Secret
	made          map[objectName]*madeObject
}

// scenario runs one; with refused, all that is expected is that the API server
// refuses its objects.
func (c *installation) scenario(t *testing.T, path string, refused bool) {
	a, err := txtar.ParseFile(path)
	if err != nil {
		t.Fatal(err)
	}
	r := &clusterRun{installation: c, t: t, class: c.class, certs: map[string]string{}, made: map[objectName]*madeObject{}}
	for i := range a.Files {
		text := c.here(string(a.Files[i].Data))
		a.Files[i].Data = []byte(text)
		r.classes = r.classes || strings.Contains(text, "kind: IngressClass")
	}
	steps, all := parseScenario(t, a)
	r.s, r.options = newScenario(t, a, all), all.options
	r.s.backends.ip = c.ip
	r.s.client = &client{elsewhere: c.front, ca: r.s.ca}
	t.Cleanup(r.clear)
	if len(r.options) > 0 {
		r.ownClass()
	}
	for i := range steps {
		err := r.write(&steps[i])
		if refused {
			if !apierrors.IsInvalid(err) {
				t.Errorf("the API server takes the objects (%v): remove the scenario from notInCluster", err)
			}
			return
		}
		if err != nil {
			t.Fatalf("step %d: %v", i+1, err)
		}
		if i == 0 && len(r.options) > 0 {
			r.ownPod()
		}
		if r.expect(i+1, &steps[i]); t.Failed() {
			return
		}
	}
}

// expect waits until the step's objects are taken in, sends its requests, and
// compares its verdicts.
func (r *clusterRun) expect(n int, st *step) {
	r.t.Helper()
	var requests []*request
	if st.requests >= 0 {
		for _, line := range lines(string(r.s.archive.Files[st.requests].Data)) {
			req, err := parseRequest(r.s.fill(line))
			if err != nil {
				r.t.Fatal(err)
			}
			requests = append(requests, req)
		}
	}
	// Where nothing is answered, the marker is not either.
	if slices.ContainsFunc(requests, func(r *request) bool { return r.want[0] != "closed" }) {
		r.takenIn()
	}
	settled := time.Now().Add(settling)
	for _, req := range requests {
		err := r.until(time.Until(settled), func() error {
			if wrong, _ := r.s.client.run(r.t, req); len(wrong) > 0 {
				return errors.New(strings.Join(wrong, "\n\t"))
			}
			return nil
		})
		if err != nil {
			r.t.Errorf("step %d: %s\n\t%v", n, req.line, err)
		}
	}
	want := r.s.expected(st)
	err := r.until(time.Until(settled), func() error {
		got, err := r.verdicts()
		if err != nil {
			return err
		}
		if wrong := compareVerdicts(got, want); len(wrong) > 0 {
			return errors.New(strings.Join(wrong, "\n\t"))
		}
		return nil
	})
	if err != nil {
		r.t.Errorf("step %d: verdicts:\n\t%v", n, err)
	}
}

// verdicts are those of all objects but markers.
func (r *clusterRun) verdicts() (text []string, err error) {
	body, err := fetch("http://" + r.s.client.admin() + "/debug/verdicts")
	if err != nil {
		return nil, err
	}
	var all []verdict.Verdict
	if err := json.Unmarshal(body, &all); err != nil {
		return nil, err
	}
	for _, v := range all {
		if v.Object.Namespace != markerNamespace {
			text = append(text, verdictLine(v))
		}
	}
	return text, nil
}

const markerManifests = `apiVersion: v1
kind: Service
metadata: {namespace: gatehouse-test-marker, name: %[1]s}
spec: {ports: [{port: 80}]}
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {namespace: gatehouse-test-marker, name: %[1]s, labels: {kubernetes.io/service-name: %[1]s}}
addressType: IPv4
ports: [{name: "", port: %[2]d}]
endpoints: [{addresses: [%[3]s]}]
---
apiVersion: networking.k8s.io/v1
kind: Ingress
metadata: {namespace: gatehouse-test-marker, name: %[1]s}
spec:
  ingressClassName: %[4]s
  rules: [{host: %[1]s.marker.test, http: {paths: [{pathType: Prefix, path: /, backend: {service: {name: %[1]s, port: {number: 80}}}}]}}]
`

// takenIn waits until the Gatehouse serves what was written: of each kind a
// watch tells changes in their order, so they have come when one that was made
// last, with all it needs, is served.
func (r *clusterRun) takenIn() {
	r.t.Helper()
	r.markers++
	name := fmt.Sprintf("m%d", r.markers)
	a := r.marker.at("marker", false)
	objects, err := readObjects(fmt.Sprintf(markerManifests, name, a.Port(), a.Addr(), r.class))
	if err != nil {
		r.t.Fatal(err)
	}
	for _, o := range objects {
		if _, err := r.create(o); err != nil {
			r.t.Fatal(err)
		}
	}
	line := "GET http://" + name + ".marker.test/"
	if slices.Contains(r.options, "proxy-protocol=require") {
		line += ` proxy="PROXY TCP4 203.0.113.7 198.51.100.1 4000 80\r\n"`
	}
	req, err := parseRequest(line + " -> 200 marker")
	if err != nil {
		r.t.Fatal(err)
	}
	err = r.until(patience, func() error {
		if wrong, _ := r.s.client.run(r.t, req); len(wrong) > 0 {
			return errors.New(strings.Join(wrong, "; "))
		}
		return nil
	})
	if err != nil {
		r.t.Fatalf("%s -> 200 marker: %v", line, err)
	}
	for _, o := range objects {
		if err := r.remove(o); err != nil {
			r.t.Error(err)
		}
	}
}

// until asks again and again until the answer is nil, at least once.
func (c *installation) until(d time.Duration, f func() error) error {
	end := time.NewTimer(d)
	defer end.Stop()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		err := f()
		if err == nil {
			return nil
		}
		select {
		case <-tick.C:
		case <-end.C:
			return err
		}
	}
}

// fetch gets what an admin address says.
func fetch(url string) ([]byte, error) {
	c := http.Client{Timeout: 2 * time.Second, Transport: &http.Transport{DisableKeepAlives: true}}
	resp, err := c.Get(url)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err == nil && resp.StatusCode != http.StatusOK {
		err = fmt.Errorf("%s: %s", resp.Status, body)
	}
	return body, err
}

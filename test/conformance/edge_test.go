package conformance

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// binaryEnv names a gatehouse that was built before, to be judged instead of
// the repository's sources.
const binaryEnv = "GATEHOUSE_TEST_BINARY"

// product is the binary, with the race detector: set by TestMain.
var product string

func TestMain(m *testing.M) {
	os.Exit(func() int {
		if product = os.Getenv(binaryEnv); product != "" {
			return judged(m)
		}
		dir, err := os.MkdirTemp("", "gatehouse-conformance-")
		if err != nil {
			log.Print(err)
			return 1
		}
		defer os.RemoveAll(dir)
		product = filepath.Join(dir, "gatehouse")
		build := exec.Command("go", "build", "-race", "-pgo=off", "-buildvcs=false", "-o", product, "./cmd/gatehouse")
		build.Dir = filepath.Join("..", "..")
		build.Env = append(os.Environ(), "CGO_ENABLED=1")
		if out, err := build.CombinedOutput(); err != nil {
			log.Printf("cannot build gatehouse: %v\n%s", err, out)
			return 1
		}
		return judged(m)
	}())
}

// edge is a gatehouse that serves a directory of manifests.
type edge struct {
	t                  testing.TB
	http, https, admin string // HOST:PORT
	manifests          string // directory
	out, errs          string // files: the access log, and what else it says
	cmd                *exec.Cmd
	asked              sync.Once     // to end
	done               chan struct{} // closed when it has ended
	err                error         // how, once done is closed
}

// startEdge serves the manifests until the test ends, and then fails the test
// if the process ends badly or had a data race.
func startEdge(t testing.TB, manifests string, args ...string) *edge {
	t.Helper()
	dir := t.TempDir()
	e := &edge{
		t: t, manifests: filepath.Join(dir, "manifests"), done: make(chan struct{}),
		out: filepath.Join(dir, "access.log"), errs: filepath.Join(dir, "gatehouse.log"),
	}
	if err := os.Mkdir(e.manifests, 0o755); err != nil {
		t.Fatal(err)
	}
	e.write("main", manifests)
	ports := freePorts(t, 3)
	e.http, e.https, e.admin = ports[0], ports[1], ports[2]
	args = append([]string{
		"serve", "--manifests", e.manifests, "--http-addr", e.http, "--https-addr", e.https, "--admin-addr", e.admin,
	}, args...)
	out, errs := create(t, e.out), create(t, e.errs)
	defer out.Close()
	defer errs.Close()
	e.cmd = exec.Command(product, args...)
	e.cmd.Stdout, e.cmd.Stderr = out, errs
	e.cmd.Env = append(os.Environ(), "GORACE=exitcode=66")
	if err := e.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() {
		e.err = e.cmd.Wait()
		close(e.done)
	}()
	t.Cleanup(e.stop)
	await(t, "gatehouse to be ready", func() error {
		select {
		case <-e.done:
			t.Fatalf("gatehouse ended: %v\n%s", e.err, e.tail())
		default:
		}
		resp, err := http.Get("http://" + e.admin + "/readyz")
		if err != nil {
			return err
		}
		defer resp.Body.Close()
		if resp.StatusCode != http.StatusOK {
			return errors.New(resp.Status)
		}
		return nil
	})
	return e
}

func create(t testing.TB, path string) *os.File {
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	return f
}

// write puts a manifest in the place of the one of that name, at once.
func (e *edge) write(name, text string) {
	e.t.Helper()
	tmp := filepath.Join(filepath.Dir(e.manifests), name+".tmp")
	if err := os.WriteFile(tmp, []byte(text), 0o600); err != nil {
		e.t.Fatal(err)
	}
	if err := os.Rename(tmp, filepath.Join(e.manifests, name+".yaml")); err != nil {
		e.t.Fatal(err)
	}
}

// terminate asks the process to end, as Kubernetes does: once, since a second
// signal does not wait for anybody.
func (e *edge) terminate() {
	e.asked.Do(func() { e.cmd.Process.Signal(syscall.SIGTERM) })
}

func (e *edge) stop() {
	e.terminate()
	select {
	case <-e.done:
		if e.err != nil {
			e.t.Errorf("gatehouse ended with %v", e.err)
		}
	case <-time.After(45 * time.Second): // more than --drain-timeout
		e.cmd.Process.Kill()
		<-e.done
		e.t.Error("gatehouse did not end")
	}
	if e.t.Failed() {
		e.t.Logf("--- the end of gatehouse's output:\n%s", e.tail())
	}
}

func (e *edge) tail() string {
	text, _ := os.ReadFile(e.errs)
	access, _ := os.ReadFile(e.out)
	return string(text[max(0, len(text)-4000):]) + string(access[max(0, len(access)-3000):])
}

// logged waits for the access log's line about the request with that path.
func (e *edge) logged(target string) map[string]any {
	e.t.Helper()
	var found map[string]any
	await(e.t, "the access log of "+target, func() error {
		f, err := os.Open(e.out)
		if err != nil {
			return err
		}
		defer f.Close()
		for sc := bufio.NewScanner(f); sc.Scan(); {
			var line map[string]any
			if json.Unmarshal(sc.Bytes(), &line) == nil && line["target"] == target {
				found = line
			}
		}
		if found == nil {
			return errors.New("not there")
		}
		return nil
	})
	return found
}

// await waits until the condition holds, at most 20 s.
func await(t testing.TB, what string, condition func() error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for {
		err := condition()
		if err == nil {
			return
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			t.Fatalf("waiting for %s: %v", what, err)
		}
	}
}

// freePorts gives addresses that nobody listened on a moment ago, below the
// range that the kernel takes ports of outgoing connections from.
func freePorts(t testing.TB, n int) []string {
	t.Helper()
	var addrs []string
	for range 200 {
		addr := net.JoinHostPort("127.0.0.1", strconv.Itoa(20000+rand.IntN(12000)))
		l, err := net.Listen("tcp", addr)
		if err != nil {
			continue
		}
		defer l.Close() // all together, so that none is drawn twice
		if addrs = append(addrs, addr); len(addrs) == n {
			return addrs
		}
	}
	t.Fatal("no free ports")
	return nil
}

// object is a Kubernetes object; JSON is YAML.
type object map[string]any

// documents makes one manifest of objects.
func documents(objects ...[]object) string {
	var b strings.Builder
	for _, list := range objects {
		for _, o := range list {
			text, err := json.Marshal(o)
			if err != nil {
				panic(err)
			}
			fmt.Fprintf(&b, "---\n%s\n", text)
		}
	}
	return b.String()
}

const namespace = "judged"

func meta(name string) object { return object{"name": name, "namespace": namespace} }

// service makes a Service with one endpoint for each of the addresses, and with
// one and more appProtocols for its port 80.
func service(name, appProtocol string, addrs ...string) []object {
	port := object{"name": "main", "port": 80}
	if appProtocol != "" {
		port["appProtocol"] = appProtocol
	}
	objects := []object{{
		"apiVersion": "v1", "kind": "Service", "metadata": meta(name), "spec": object{"ports": []object{port}},
	}}
	for i, addr := range addrs {
		host, number, err := net.SplitHostPort(addr)
		if err != nil {
			panic(err)
		}
		n, _ := strconv.Atoi(number)
		m := meta(fmt.Sprintf("%s-%d", name, i))
		m["labels"] = object{"kubernetes.io/service-name": name}
		objects = append(objects, object{
			"apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "metadata": m, "addressType": "IPv4",
			"ports": []object{{"name": "main", "port": n}}, "endpoints": []object{{"addresses": []string{host}}},
		})
	}
	return objects
}

// ingress makes one for all paths of a host: "" for the default backend. The
// TLS Secret may be empty. Annotations are pairs, without ingress-nginx's prefix.
func ingress(name, host, svc, tlsSecret string, annotations ...string) []object {
	m := meta(name)
	notes := object{}
	for i := 0; i < len(annotations); i += 2 {
		notes["nginx.ingress.kubernetes.io/"+annotations[i]] = annotations[i+1]
	}
	m["annotations"] = notes
	backend := object{"service": object{"name": svc, "port": object{"number": 80}}}
	spec := object{}
	if host == "" {
		spec["defaultBackend"] = backend
	} else {
		spec["rules"] = []object{{"host": host, "http": object{
			"paths": []object{{"path": "/", "pathType": "Prefix", "backend": backend}},
		}}}
	}
	if tlsSecret != "" {
		spec["tls"] = []object{{"hosts": []string{host}, "secretName": tlsSecret}}
	}
	return []object{{"apiVersion": "networking.k8s.io/v1", "kind": "Ingress", "metadata": m, "spec": spec}}
}

// secret makes one of pairs of key and content.
func secret(name, kind string, content ...string) []object {
	data := object{}
	for i := 0; i < len(content); i += 2 {
		data[content[i]] = []byte(content[i+1]) // in base64, by encoding/json
	}
	return []object{{"apiVersion": "v1", "kind": "Secret", "metadata": meta(name), "type": kind, "data": data}}
}

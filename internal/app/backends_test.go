package app

import (
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"reflect"
	"strings"
	"testing"

	"gatehouse.dev/gatehouse/internal/service"
	"gatehouse.dev/gatehouse/internal/translate"
	"gatehouse.dev/gatehouse/internal/verdict"
)

func TestReadBackends(t *testing.T) {
	f := func(want []translate.Backend, values ...string) {
		t.Helper()
		if got, err := readBackends(values); err != nil || !reflect.DeepEqual(got, want) {
			t.Errorf("%q: %+v, %v", values, got, err)
		}
	}
	web := service.Key{Namespace: "shop", Name: "web"}
	f([]translate.Backend{{Service: web, Host: "127.0.0.1", HostPort: 3000}}, "shop/web=127.0.0.1:3000")
	f([]translate.Backend{{Service: web, Port: 80, Host: "::1", HostPort: 3000}}, "shop/web:80=[::1]:3000")
	f([]translate.Backend{{Service: web, Host: "app.test", HostPort: 3000}}, "shop/web=App.test.:3000")
	f([]translate.Backend{{Service: web, Host: "10.0.0.1", HostPort: 1}, {Service: web, Host: "10.0.0.2", HostPort: 1}}, "shop/web=10.0.0.1:1", "shop/web=10.0.0.2:1")

	wrong := func(part string, values ...string) {
		t.Helper()
		if _, err := readBackends(values); err == nil || !strings.Contains(err.Error(), part) || !strings.Contains(err.Error(), "--backend") {
			t.Errorf("%q: %v, want %q", values, err, part)
		}
	}
	wrong("there is no =", "shop/web")
	wrong("is not the namespace and the name", "web=127.0.0.1:3000")
	wrong("is not the namespace and the name", "a/b/c=127.0.0.1:3000")
	wrong("is not HOST:PORT", "shop/web=127.0.0.1")
	wrong("is not HOST:PORT", "shop/web=::1:3000")
	wrong(`the port "0"`, "shop/web=127.0.0.1:0")
	wrong(`the port "http"`, "shop/web=127.0.0.1:http")
	wrong(`the Service's port "http"`, "shop/web:http=127.0.0.1:3000")
	wrong("neither an address nor a name", "shop/web=a_b:3000")
	wrong("addresses only", "shop/web=a.test:1", "shop/web=b.test:1")
	wrong("addresses only", "shop/web=10.0.0.1:1", "shop/web=b.test:1")
	wrong("such as shop/web=127.0.0.1:3000", "")
}

// TestBackendFlag: a Service without endpoints gets a Warning that names the ways
// out, and --backend, with an address or a name, is one; its port may be another
// than the Service's, and it takes the place of what slices say.
func TestBackendFlag(t *testing.T) {
	backend := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprint(w, "here")
	}))
	defer backend.Close()
	at := netip.MustParseAddrPort(backend.Listener.Addr().String())
	stale := `---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: s-1, labels: {kubernetes.io/service-name: s}}
addressType: IPv4
ports: [{port: 1}]
endpoints: [{addresses: [127.0.0.1]}]
`
	f := func(name string, status int, body, more string, values ...string) {
		t.Helper()
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			newManifests(t, dir).write("a.yaml", oneService+"---\n"+fmt.Sprintf(oneIngress, "/")+more)
			o := testOptions(dir)
			o.Backends = values
			g := startGateway(t, o)
			request, err := http.NewRequest(http.MethodGet, "http://"+g.Addr(false).String()+"/", nil)
			if err != nil {
				t.Fatal(err)
			}
			request.Host = "x.test"
			response, err := http.DefaultClient.Do(request)
			if err != nil {
				t.Fatal(err)
			}
			defer response.Body.Close()
			got, err := io.ReadAll(response.Body)
			if err != nil || response.StatusCode != status || !strings.Contains(string(got), body) {
				t.Errorf("%d %q, %v; want %d %q", response.StatusCode, got, err, status, body)
			}
			eventually(t, "the state is that which serves", func() bool { return g.loop.state().view != nil })
			var told []verdict.Verdict
			for _, v := range g.Verdicts() {
				if v.Reason == verdict.NoEndpoints {
					told = append(told, v)
				}
			}
			if want := status == 503; len(told) > 1 || len(told) == 1 != want {
				t.Fatalf("verdicts %v", told)
			}
			for _, v := range told {
				if v.Object.String() != "Service default/s" || v.Severity != verdict.Warning {
					t.Errorf("verdict %v", v)
				}
				for _, way := range []string{"--backend default/s=HOST:PORT", "EndpointSlice", "ExternalName"} {
					if !strings.Contains(v.Remedy, way) {
						t.Errorf("the remedy does not name %s: %s", way, v.Remedy)
					}
				}
			}
		})
	}
	f("none", 503, "", "")
	f("an address", 200, "here", "", "default/s="+at.String())
	f("of the port", 200, "here", "", "default/s:80="+at.String())
	f("of another port", 503, "", "", "default/s:81="+at.String())
	f("a name", 200, "here", "", fmt.Sprintf("default/s=localhost:%d", at.Port()))
	f("in place of slices", 200, "here", stale, "default/s="+at.String())
	f("a name in place of slices", 200, "here", stale, fmt.Sprintf("default/s=localhost:%d", at.Port()))

	o := testOptions(t.TempDir())
	o.Manifests, o.Backends = "", []string{"default/s=127.0.0.1:1"}
	if _, err := New(o, slog.New(slog.DiscardHandler), io.Discard); err == nil || !strings.Contains(err.Error(), "--backend goes with --manifests only") {
		t.Errorf("with an API server: %v", err)
	}
}

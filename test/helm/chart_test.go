package helm

import (
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
)

func TestLint(t *testing.T) {
	out, err := helm(t, "lint", "--strict", chartDir)
	if err != nil || strings.Contains(out, "[WARNING]") {
		t.Errorf("%v\n%s", err, out)
	}
}

// TestDefaults: what somebody gets who sets nothing.
func TestDefaults(t *testing.T) {
	r := render(t, "")
	if len(r.deployments) != 1 || *r.deployments[0].Spec.Replicas != 2 || len(r.budgets) != 1 || len(r.classes) != 1 ||
		len(r.services) != 1 || len(r.accounts) != 1 || len(r.policies)+len(r.scalers)+len(r.monitors) != 0 {
		t.Errorf("got %+v", r)
	}
	if b := r.budgets[0].Spec; *b.MinAvailable != intstr.FromInt32(1) {
		t.Errorf("budget %+v", b)
	}
	if s := r.deployments[0].Spec.Strategy.RollingUpdate; *s.MaxUnavailable != intstr.FromInt32(0) {
		t.Errorf("strategy %+v: a replica goes before its successor is there", s)
	}
	if k := r.classes[0]; k.Name != "gatehouse" || k.Spec.Controller != "gatehouse.dev/ingress-controller" || len(k.Annotations) != 0 {
		t.Errorf("class %+v", k)
	}
	s := r.services[0].Spec
	if s.Type != corev1.ServiceTypeLoadBalancer || len(s.Ports) != 2 || s.Ports[0].Port != 80 || s.Ports[1].Port != 443 ||
		s.Ports[0].TargetPort != intstr.FromString("http") || *s.Ports[1].AppProtocol != "https" || s.ExternalTrafficPolicy != "" {
		t.Errorf("service %+v", s)
	}
	p := r.pod(t).Spec
	if len(p.TopologySpreadConstraints) != 1 || p.HostNetwork || p.DNSPolicy != corev1.DNSClusterFirst || *p.EnableServiceLinks {
		t.Errorf("pod %+v", p)
	}
	for flag, want := range map[string]string{
		"http-addr": ":8080", "https-addr": ":8443", "health-addr": ":10254", "publish-service": "$(POD_NAMESPACE)/gatehouse",
		"lease-namespace": "$(POD_NAMESPACE)", "ingress-class": "gatehouse", "controller-name": "gatehouse.dev/ingress-controller",
		"watch-namespace": "",
	} {
		if got := r.arg(t, flag); got != want {
			t.Errorf("--%s=%s, want %q", flag, got, want)
		}
	}
}

// The selectors of everything are the labels of the Pods.
func TestSelectors(t *testing.T) {
	r := render(t, "controller: {metrics: {enabled: true, serviceMonitor: {enabled: true}}, networkPolicy: {enabled: true}}")
	labels := r.pod(t).Labels
	f := func(what string, selector map[string]string) {
		t.Helper()
		if len(selector) < 3 {
			t.Errorf("%s selects by %v: too wide", what, selector)
		}
		for k, v := range selector {
			if labels[k] != v {
				t.Errorf("%s selects %s=%s, Pods have %q", what, k, v, labels[k])
			}
		}
	}
	f("deployment", r.deployments[0].Spec.Selector.MatchLabels)
	f("budget", r.budgets[0].Spec.Selector.MatchLabels)
	f("network policy", r.policies[0].Spec.PodSelector.MatchLabels)
	f("spread", r.pod(t).Spec.TopologySpreadConstraints[0].LabelSelector.MatchLabels)
	for _, s := range r.services {
		f("service "+s.Name, s.Spec.Selector)
	}
	// The monitor finds the one Service for metrics.
	found := 0
	for _, s := range r.services {
		matches := true
		for k, v := range r.monitors[0].Spec.Selector.MatchLabels {
			matches = matches && s.Labels[k] == v
		}
		if matches {
			found++
		}
	}
	if found != 1 {
		t.Errorf("the ServiceMonitor selects %d Services", found)
	}
}

// Every kind of value, looked at where it must show.
func TestValues(t *testing.T) {
	f := func(name, values string, check func(t *testing.T, r *release)) {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			check(t, render(t, values))
		})
	}
	is := func(t *testing.T, what string, got, want any) {
		t.Helper()
		if got != want {
			t.Errorf("%s is %v, want %v", what, got, want)
		}
	}
	f("one replica", "controller: {replicaCount: 1}", func(t *testing.T, r *release) { is(t, "budgets", len(r.budgets), 0) })
	f("daemonset", "controller: {kind: DaemonSet}", func(t *testing.T, r *release) {
		is(t, "daemonsets", len(r.daemonSets), 1)
		is(t, "budgets", len(r.budgets), 0)
		is(t, "constraints", len(r.pod(t).Spec.TopologySpreadConstraints), 0)
		is(t, "unavailable", r.daemonSets[0].Spec.UpdateStrategy.RollingUpdate.MaxUnavailable.IntValue(), 0)
	})
	f("host ports", "controller: {kind: DaemonSet, hostPort: {enabled: true, ports: {https: 8444}}, service: {enabled: false}}", func(t *testing.T, r *release) {
		ports := r.pod(t).Spec.Containers[0].Ports
		is(t, "http", ports[0].HostPort, int32(80))
		is(t, "https", ports[1].HostPort, int32(8444))
		is(t, "in the pod", ports[0].ContainerPort, int32(8080))
		is(t, "metrics", ports[2].HostPort, int32(0))
		is(t, "surge", r.daemonSets[0].Spec.UpdateStrategy.RollingUpdate.MaxSurge.IntValue(), 0)
		is(t, "publish-service", r.arg(t, "publish-service"), "")
		is(t, "services", len(r.services), 0)
	})
	f("host network", "controller: {hostNetwork: true}", func(t *testing.T, r *release) {
		p := r.pod(t).Spec
		is(t, "host network", p.HostNetwork, true)
		is(t, "dns", p.DNSPolicy, corev1.DNSClusterFirstWithHostNet)
		is(t, "http-addr", r.arg(t, "http-addr"), ":80")
		is(t, "surge", r.deployments[0].Spec.Strategy.RollingUpdate.MaxSurge.IntValue(), 0)
		for _, port := range p.Containers[0].Ports {
			is(t, "host port", port.HostPort, port.ContainerPort)
		}
	})
	f("image", "controller: {image: {registry: r.example:5000, image: a/b, tag: v1}}", func(t *testing.T, r *release) {
		is(t, "image", r.pod(t).Spec.Containers[0].Image, "r.example:5000/a/b:v1")
	})
	f("digest", "controller: {image: {digest: 'sha256:"+strings.Repeat("0", 64)+"', tag: v1}}", func(t *testing.T, r *release) {
		is(t, "image", r.pod(t).Spec.Containers[0].Image, "gatehouse@sha256:"+strings.Repeat("0", 64))
	})
	f("class", "controller: {ingressClassResource: {name: edge, default: true, controllerValue: example.com/edge}}", func(t *testing.T, r *release) {
		is(t, "default", r.classes[0].Annotations[networkingv1.AnnotationIsDefaultIngressClass], "true")
		is(t, "ingress-class", r.arg(t, "ingress-class"), "edge")
		is(t, "controller-name", r.arg(t, "controller-name"), r.classes[0].Spec.Controller)
	})
	f("no class", "controller: {ingressClassResource: {enabled: false}, ingressClass: old}", func(t *testing.T, r *release) {
		is(t, "classes", len(r.classes), 0)
		is(t, "ingress-class", r.arg(t, "ingress-class"), "old")
	})
	f("namespaces", "controller: {watchNamespaces: [b, a, b], scope: {enabled: true}}", func(t *testing.T, r *release) {
		is(t, "watch-namespace", r.arg(t, "watch-namespace"), "a,b,gatehouse")
	})
	f("publish", "controller: {publishService: {pathOverride: a-gatehouse/s}}", func(t *testing.T, r *release) {
		is(t, "publish-service", r.arg(t, "publish-service"), "a-gatehouse/s")
	})
	f("publish nothing", "controller: {publishService: {enabled: false}}", func(t *testing.T, r *release) {
		is(t, "publish-service", r.arg(t, "publish-service"), "")
	})
	f("arguments", "controller: {extraArgs: {max-body-bytes: 10485760, ssl-redirect: false, drain-delay: 3s, access-log: 'off'}, terminationGracePeriodSeconds: 40}", func(t *testing.T, r *release) {
		is(t, "max-body-bytes", r.arg(t, "max-body-bytes"), "10485760")
		is(t, "ssl-redirect", r.arg(t, "ssl-redirect"), "false")
		is(t, "access-log", r.arg(t, "access-log"), "off")
		is(t, "drain-delay", r.arg(t, "drain-delay"), "3s")
		is(t, "drain-timeout", r.arg(t, "drain-timeout"), "32s")
	})
	f("environment", "controller: {extraEnvs: [{name: GOMEMLIMIT, value: 400MiB}]}", func(t *testing.T, r *release) {
		env := r.pod(t).Spec.Containers[0].Env
		is(t, "last", env[len(env)-1], corev1.EnvVar{Name: "GOMEMLIMIT", Value: "400MiB"})
	})
	f("placement", `controller: {nodeSelector: {edge: "yes"}, tolerations: [{operator: Exists}], priorityClassName: p,
  affinity: {nodeAffinity: {}}, topologySpreadConstraints: [{maxSkew: 2, topologyKey: zone, whenUnsatisfiable: DoNotSchedule}]}`, func(t *testing.T, r *release) {
		p := r.pod(t).Spec
		is(t, "selector", p.NodeSelector["edge"], "yes")
		is(t, "toleration", p.Tolerations[0].Operator, corev1.TolerationOpExists)
		is(t, "priority", p.PriorityClassName, "p")
		is(t, "affinity", p.Affinity != nil && p.Affinity.NodeAffinity != nil, true)
		is(t, "constraints", len(p.TopologySpreadConstraints), 1)
		is(t, "skew", p.TopologySpreadConstraints[0].MaxSkew, int32(2))
		is(t, "selected", p.TopologySpreadConstraints[0].LabelSelector.MatchLabels["app.kubernetes.io/name"], "gatehouse")
	})
	f("strategy", "controller: {updateStrategy: {type: Recreate}, minReadySeconds: 7}", func(t *testing.T, r *release) {
		is(t, "type", r.deployments[0].Spec.Strategy.Type, appsv1.RecreateDeploymentStrategyType)
		is(t, "ready", r.deployments[0].Spec.MinReadySeconds, int32(7))
	})
	f("autoscaling", "controller: {autoscaling: {enabled: true, maxReplicas: 5, targetMemoryUtilizationPercentage: 80}, replicaCount: 1}", func(t *testing.T, r *release) {
		is(t, "replicas", r.deployments[0].Spec.Replicas, (*int32)(nil))
		is(t, "most", r.scalers[0].Spec.MaxReplicas, int32(5))
		is(t, "metrics", len(r.scalers[0].Spec.Metrics), 2)
		is(t, "target", r.scalers[0].Spec.ScaleTargetRef.Name, r.deployments[0].Name)
		is(t, "budgets", len(r.budgets), 1)
	})
	f("service", `controller: {service: {type: NodePort, nodePorts: {http: 30080}, externalTrafficPolicy: Local, annotations: {a: b}, enableHttps: false}}`, func(t *testing.T, r *release) {
		s := r.services[0]
		is(t, "type", s.Spec.Type, corev1.ServiceTypeNodePort)
		is(t, "policy", s.Spec.ExternalTrafficPolicy, corev1.ServiceExternalTrafficPolicyLocal)
		is(t, "ports", len(s.Spec.Ports), 1)
		is(t, "node port", s.Spec.Ports[0].NodePort, int32(30080))
		is(t, "annotation", s.Annotations["a"], "b")
	})
	f("load balancer", `controller: {service: {loadBalancerClass: example.com/lb, loadBalancerIP: 192.0.2.1, loadBalancerSourceRanges: [192.0.2.0/24],
  externalIPs: [192.0.2.2], ipFamilies: [IPv6], ipFamilyPolicy: SingleStack, healthCheckNodePort: 31000, sessionAffinity: ClientIP, clusterIP: 10.0.0.9}}`, func(t *testing.T, r *release) {
		s := r.services[0].Spec
		is(t, "class", *s.LoadBalancerClass, "example.com/lb")
		is(t, "address", s.LoadBalancerIP, "192.0.2.1")
		is(t, "ranges", s.LoadBalancerSourceRanges[0], "192.0.2.0/24")
		is(t, "external", s.ExternalIPs[0], "192.0.2.2")
		is(t, "family", s.IPFamilies[0], corev1.IPv6Protocol)
		is(t, "health", s.HealthCheckNodePort, int32(31000))
		is(t, "affinity", s.SessionAffinity, corev1.ServiceAffinityClientIP)
		is(t, "cluster IP", s.ClusterIP, "10.0.0.9")
	})
	f("metrics", "controller: {metrics: {enabled: true, port: 9999, serviceMonitor: {enabled: true, namespace: mon, additionalLabels: {release: p}}}}", func(t *testing.T, r *release) {
		is(t, "services", len(r.services), 2)
		is(t, "health-addr", r.arg(t, "health-addr"), ":9999")
		is(t, "namespace", r.monitors[0].Namespace, "mon")
		is(t, "label", r.monitors[0].Labels["release"], "p")
		is(t, "from", r.monitors[0].Spec.NamespaceSelector.MatchNames[0], namespace)
	})
	f("health host", "controller: {healthCheckHost: 127.0.0.1, hostNetwork: true}", func(t *testing.T, r *release) {
		is(t, "health-addr", r.arg(t, "health-addr"), "127.0.0.1:10254")
		is(t, "probe", r.pod(t).Spec.Containers[0].ReadinessProbe.HTTPGet.Host, "127.0.0.1")
	})
	f("network policy", "controller: {networkPolicy: {enabled: true}}", func(t *testing.T, r *release) {
		is(t, "ports", len(r.policies[0].Spec.Ingress[0].Ports), 2)
		is(t, "egress", len(r.policies[0].Spec.Egress), 1)
	})
	f("account", "serviceAccount: {create: false, name: mine}", func(t *testing.T, r *release) {
		is(t, "accounts", len(r.accounts), 0)
		is(t, "account", r.pod(t).Spec.ServiceAccountName, "mine")
		is(t, "bound", r.bindings[0].Subjects[0].Name, "mine")
	})
	f("no rbac", "rbac: {create: false}", func(t *testing.T, r *release) {
		is(t, "roles", len(r.roles)+len(r.clusterRoles)+len(r.bindings)+len(r.clusterBounds), 0)
	})
	f("labels", "{commonLabels: {team: edge}, fullnameOverride: front, imagePullSecrets: [{name: s}], controller: {podLabels: {a: b}, podAnnotations: {c: d}, labels: {e: f}, annotations: {g: h}}}", func(t *testing.T, r *release) {
		is(t, "name", r.deployments[0].Name, "front")
		is(t, "publish-service", r.arg(t, "publish-service"), "$(POD_NAMESPACE)/front")
		is(t, "common", r.services[0].Labels["team"], "edge")
		is(t, "pod label", r.pod(t).Labels["a"], "b")
		is(t, "pod annotation", r.pod(t).Annotations["c"], "d")
		is(t, "label", r.deployments[0].Labels["e"], "f")
		is(t, "annotation", r.deployments[0].Annotations["g"], "h")
		is(t, "pull secret", r.pod(t).Spec.ImagePullSecrets[0].Name, "s")
	})
}

// A Pod that drains must be left the time it says it takes, and must not be
// taken for one that does not serve before it closes its sockets.
func TestDrainFits(t *testing.T) {
	for _, values := range []string{"", "controller: {terminationGracePeriodSeconds: 60}", "controller: {extraArgs: {drain-timeout: 20s, drain-delay: 0s}}"} {
		r := render(t, values)
		delay, timeout := seconds(t, r.arg(t, "drain-delay")), seconds(t, r.arg(t, "drain-timeout"))
		grace := time.Duration(*r.pod(t).Spec.TerminationGracePeriodSeconds) * time.Second
		if delay+timeout+5*time.Second > grace || timeout <= 0 {
			t.Errorf("%q: %v + %v in %v", values, delay, timeout, grace)
		}
		p := r.pod(t).Spec.Containers[0].ReadinessProbe
		if serving := time.Duration((p.FailureThreshold-1)*p.PeriodSeconds) * time.Second; serving < delay {
			t.Errorf("%q: counts as serving for %v, accepts for %v", values, serving, delay)
		}
	}
}

func seconds(t *testing.T, s string) time.Duration {
	t.Helper()
	d, err := time.ParseDuration(s)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

// Probes ask what --health-addr serves, at its port.
func TestProbes(t *testing.T) {
	r := render(t, "controller: {metrics: {port: 9999}}")
	c := r.pod(t).Spec.Containers[0]
	port := slices.IndexFunc(c.Ports, func(p corev1.ContainerPort) bool { return p.Name == "metrics" })
	if want := ":" + strconv.Itoa(int(c.Ports[port].ContainerPort)); r.arg(t, "health-addr") != want {
		t.Errorf("--health-addr=%s, want %s", r.arg(t, "health-addr"), want)
	}
	for what, p := range map[string]*corev1.Probe{"/healthz startup": c.StartupProbe, "/readyz readiness": c.ReadinessProbe, "/healthz liveness": c.LivenessProbe} {
		path, _, _ := strings.Cut(what, " ")
		if p == nil || p.HTTPGet.Path != path || p.HTTPGet.Port != intstr.FromString("metrics") {
			t.Errorf("%s: %+v", what, p)
		}
	}
	if !*r.pod(t).Spec.AutomountServiceAccountToken || r.pod(t).Spec.ServiceAccountName != r.accounts[0].Name {
		t.Error("the Pod cannot reach the API server")
	}
}

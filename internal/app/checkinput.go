package app

import (
	"context"
	"fmt"
	"io"
	"time"

	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/metadata"

	"gatehouse.dev/gatehouse/internal/source/files"
	"gatehouse.dev/gatehouse/internal/source/kube"
	"gatehouse.dev/gatehouse/internal/verdict"
	"gatehouse.dev/gatehouse/internal/view"
)

// checkInput is what check judges.
type checkInput struct {
	objects  []files.Object
	verdicts []verdict.Verdict
	store    *view.Store
}

// readManifests reads paths.
func readManifests(paths []string, std Streams) (*checkInput, error) {
	in := &checkInput{store: view.NewStore()}
	var err error
	in.objects, in.verdicts, err = files.ReadAll(paths, std.In, everySecond(func(p files.Progress) {
		fmt.Fprintf(std.Err, "reading %s: %d objects, %d %%\n", p.File, p.Objects, percent(p))
	}))
	if err != nil {
		return nil, err
	}
	var all []metav1.Object
	for _, o := range in.objects {
		if o.Obj != nil {
			all = append(all, o.Obj)
		}
	}
	in.store.Apply(all, nil)
	return in, nil
}

// clusterWait is how long an API server may take to show all objects.
const clusterWait = 2 * time.Minute

// readCluster reads the objects of an API server once. It only reads.
func readCluster(ctx context.Context, s *settings, std Streams) (*checkInput, error) {
	servers := kube.NewAPIServers()
	cfg, err := kube.RestConfig(s.Kubeconfig, servers)
	if err != nil {
		return nil, fmt.Errorf("--kubeconfig: %w", err)
	}
	client, err := kubernetes.NewForConfig(cfg)
	if err != nil {
		return nil, fmt.Errorf("cannot make the API client: %w", err)
	}
	meta, err := metadata.NewForConfig(cfg)
	if err != nil {
		return nil, fmt.Errorf("cannot make the metadata client: %w", err)
	}
	in := &checkInput{store: view.NewStore()}
	src := kube.New(in.store, kube.Options{
		Client: client, Metadata: meta, Namespaces: s.WatchNamespaces, DefaultTLSSecret: s.defaultTLS, AllowCrossNamespace: s.AllowCrossNamespace, APIServers: servers,
	})
	ctx, stop := context.WithTimeout(ctx, clusterWait)
	ended := make(chan error, 1)
	go func() { ended <- src.Run(ctx) }()
	err = awaitReady(ctx, src.Ready, std.Err)
	stop()
	if runErr := <-ended; err == nil {
		err = runErr
	}
	if err != nil {
		return nil, fmt.Errorf("cannot read the cluster of --kubeconfig %s: %w", s.Kubeconfig, err)
	}
	in.list()
	return in, nil
}

// awaitReady waits until ready gives nil, and says every few seconds what it waits for.
func awaitReady(ctx context.Context, ready func() error, tell io.Writer) error {
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	told := time.Now()
	for {
		err := ready()
		if err == nil {
			return nil
		}
		if now := time.Now(); now.Sub(told) >= 5*time.Second {
			told = now
			fmt.Fprintf(tell, "waiting for the API server: %v\n", err)
		}
		select {
		case <-ctx.Done():
			return err
		case <-tick.C:
		}
	}
}

// list makes the objects of what the Store has, but for EndpointSlices, of which
// nobody wants to see thousands.
func (in *checkInput) list() {
	v := in.store.View()
	add := func(kind, apiVersion string, o metav1.Object) {
		in.objects = append(in.objects, files.Object{
			Ref: verdict.Ref{Kind: kind, APIVersion: apiVersion, Namespace: o.GetNamespace(), Name: o.GetName()}, Obj: o,
		})
	}
	const networking = "networking.k8s.io/v1"
	for o := range v.IngressClasses.All() {
		add("IngressClass", networking, o)
	}
	for o := range v.Ingresses.All() {
		add("Ingress", networking, o)
	}
	for o := range v.Services.All() {
		add("Service", "v1", o)
	}
	for o := range v.Secrets.All() {
		add("Secret", "v1", o)
	}
}

// takeover is a controller in whose place Gatehouse is to come.
type takeover struct{ name, class, controller string }

// takeovers are the values of --as.
var takeovers = []takeover{{"ingress-nginx", "nginx", "k8s.io/ingress-nginx"}}

// addClass gives the controller its IngressClass where what is read has none of
// it: often only the Ingresses are at hand. Where there is no IngressClass at all
// it is the default, so that Ingresses without a class are judged too.
func (in *checkInput) addClass(t takeover) {
	v := in.store.View()
	for k := range v.IngressClasses.All() {
		if k.Spec.Controller == t.controller || k.Name == t.class {
			return
		}
	}
	k := &networkingv1.IngressClass{ObjectMeta: metav1.ObjectMeta{Name: t.class}, Spec: networkingv1.IngressClassSpec{Controller: t.controller}}
	if v.IngressClasses.Len() == 0 {
		k.Annotations = map[string]string{networkingv1.AnnotationIsDefaultIngressClass: "true"}
	}
	in.store.Apply([]metav1.Object{k}, nil)
}

package app

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// ownClass makes an IngressClass for the scenario alone, with a controller of
// its own unless the scenario's options name it.
func (r *clusterRun) ownClass() {
	r.t.Helper()
	name := "scenario-" + strings.ToLower(strings.ReplaceAll(r.name(), "_", "-"))
	r.class, r.ownController = name, "scenario.gatehouse.dev/"+name
	for _, o := range r.options {
		if given, ok := strings.CutPrefix(o, "controller-name="); ok {
			r.ownController = given
		}
	}
	classes := r.api.NetworkingV1().IngressClasses()
	_, err := classes.Create(context.Background(), &networkingv1.IngressClass{
		ObjectMeta: metav1.ObjectMeta{Name: name}, Spec: networkingv1.IngressClassSpec{Controller: r.ownController},
	}, metav1.CreateOptions{})
	if err != nil {
		r.t.Fatal(err)
	}
	r.t.Cleanup(func() {
		if err := classes.Delete(context.Background(), name, metav1.DeleteOptions{}); err != nil {
			r.t.Error(err)
		}
	})
}

func (r *clusterRun) name() string {
	_, name, _ := strings.Cut(r.t.Name(), "/")
	return name
}

// ownPod starts a Pod like those of the installation, but with the scenario's
// options and class, and speaks to it from now on.
func (r *clusterRun) ownPod() {
	r.t.Helper()
	ctx := context.Background()
	d, err := r.api.AppsV1().Deployments(r.deployment.Namespace).Get(ctx, r.deployment.Name, metav1.GetOptions{})
	if err != nil {
		r.t.Fatal(err)
	}
	pod := &corev1.Pod{
		// Not the Deployment's labels: the Service's clients must not get to it.
		ObjectMeta: metav1.ObjectMeta{Namespace: r.deployment.Namespace, Name: r.class, Labels: map[string]string{"scenario": r.name()}},
		Spec:       d.Spec.Template.Spec,
	}
	pod.Spec.TopologySpreadConstraints = nil
	c := &pod.Spec.Containers[0]
	c.StartupProbe, c.ReadinessProbe, c.LivenessProbe = nil, nil, nil // the test asks more often
	ports := map[string]string{}
	for _, a := range c.Args {
		if flag, port, ok := strings.Cut(a, "-addr=:"); ok {
			ports[flag] = port
		}
	}
	c.Args = append(c.Args, "--controller-name="+r.ownController, "--ingress-class="+r.class)
	for _, o := range r.options {
		if !strings.HasPrefix(o, "admin-addr=") { // it has one that the test can ask
			c.Args = append(c.Args, "--"+o)
		}
	}
	pods := r.api.CoreV1().Pods(pod.Namespace)
	if _, err := pods.Create(ctx, pod, metav1.CreateOptions{}); err != nil {
		r.t.Fatal(err)
	}
	r.t.Cleanup(func() {
		if r.t.Failed() {
			logged, err := pods.GetLogs(pod.Name, &corev1.PodLogOptions{}).DoRaw(ctx)
			r.t.Logf("log of the Pod (%v):\n%s", err, logged)
		}
		if err := pods.Delete(ctx, pod.Name, *metav1.NewDeleteOptions(0)); err != nil {
			r.t.Error(err)
		}
	})
	err = r.until(time.Minute, func() error {
		now, err := pods.Get(ctx, pod.Name, metav1.GetOptions{})
		if err != nil {
			return err
		}
		at := func(flag string) string { return now.Status.PodIP + ":" + ports[flag] }
		if now.Status.PodIP == "" {
			return errors.New("it has no address")
		}
		r.s.client.elsewhere = &front{http: at("--http"), https: at("--https"), admin: at("--admin")}
		_, err = fetch("http://" + r.s.client.admin() + "/readyz")
		return err
	})
	if err != nil {
		r.t.Fatal(fmt.Errorf("pod %s is not ready: %w", pod.Name, err))
	}
}

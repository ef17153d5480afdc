package cluster

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/discovery"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/rest"
	"sigs.k8s.io/yaml"
)

// Dump writes what explains a failure into dir, which it makes: tables of pods,
// nodes and events, every object as YAML by kind (but no Secret's data), the
// logs of all components and containers, and addresses, routes, rules and
// containers of all nodes. It goes on after an error and returns all of them.
// Where something hangs, it ends with ctx.
func (c *Cluster) Dump(ctx context.Context, dir string) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return fmt.Errorf("cannot make the dump's directory: %w", err)
	}
	all := []error{
		c.dumpLogs(filepath.Join(dir, "logs")),
		c.dumpObjects(ctx, filepath.Join(dir, "objects")),
		dumpCommand(ctx, filepath.Join(dir, "overview.txt"), func(ctx context.Context) (string, error) {
			return c.Kubectl(ctx, "get", "nodes,pods,services,ingresses", "--all-namespaces", "--output=wide")
		}),
		dumpCommand(ctx, filepath.Join(dir, "events.txt"), func(ctx context.Context) (string, error) {
			return c.Kubectl(ctx, "get", "events", "--all-namespaces", "--sort-by=.metadata.creationTimestamp")
		}),
	}
	for _, n := range c.Nodes() {
		all = append(all, n.dump(ctx, filepath.Join(dir, n.name)))
	}
	if err := errors.Join(all...); err != nil {
		return fmt.Errorf("cannot dump the whole cluster: %w", err)
	}
	return nil
}

// dump writes what the API server does not know of the node.
func (n *Node) dump(ctx context.Context, dir string) error {
	all := []error{copyTree(n.file("pod-logs"), filepath.Join(dir, "pod-logs"), func(string) bool { return true })}
	for name, command := range map[string][]string{
		"addresses.txt":  {"ip", "address"},
		"routes.txt":     {"ip", "route"},
		"neighbours.txt": {"ip", "neighbour"},
		"sockets.txt":    {"ss", "-ntlp"},
		"rules.txt":      {"nft", "list", "ruleset"},
		"flows.txt":      {"conntrack", "-L"},
		"containers.txt": {"ctr", "-a", n.socket(), "-n", "k8s.io", "containers", "list"},
		"tasks.txt":      {"ctr", "-a", n.socket(), "-n", "k8s.io", "tasks", "list"},
	} {
		all = append(all, dumpCommand(ctx, filepath.Join(dir, name), func(ctx context.Context) (string, error) {
			return n.Run(ctx, command[0], command[1:]...)
		}))
	}
	return errors.Join(all...)
}

// dumpCommand writes what f returns. What it could not find out stands there as
// well.
func dumpCommand(ctx context.Context, file string, f func(context.Context) (string, error)) error {
	text, err := f(ctx)
	if err != nil {
		text += "\n" + err.Error() + "\n"
	}
	return errors.Join(err, os.WriteFile(file, []byte(text), 0o644))
}

// dumpLogs copies the components' logs and the audit log.
func (c *Cluster) dumpLogs(dir string) error {
	return copyTree(c.dir, dir, func(path string) bool { return filepath.Ext(path) == ".log" })
}

// dumpObjects writes a file for each kind of which there are objects.
func (c *Cluster) dumpObjects(ctx context.Context, dir string) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	config := c.admin.Config()
	config.WarningHandler = rest.NoWarnings{} // of kinds that are deprecated
	config.Timeout = 20 * time.Second         // discovery knows no context
	client, err := dynamic.NewForConfig(config)
	if err != nil {
		return fmt.Errorf("cannot make a client: %w", err)
	}
	disco, err := discovery.NewDiscoveryClientForConfig(config)
	if err != nil {
		return fmt.Errorf("cannot make a client: %w", err)
	}
	lists, err := disco.ServerPreferredResources() // what it found, even with an error
	all := []error{err}
	for _, list := range lists {
		gv, err := schema.ParseGroupVersion(list.GroupVersion)
		if err != nil {
			all = append(all, err)
			continue
		}
		for _, r := range list.APIResources {
			if strings.Contains(strings.Join(r.Verbs, " "), "list") {
				all = append(all, dumpKind(ctx, client, gv.WithResource(r.Name), dir))
			}
		}
	}
	return errors.Join(all...)
}

func dumpKind(ctx context.Context, client dynamic.Interface, resource schema.GroupVersionResource, dir string) error {
	list, err := client.Resource(resource).List(ctx, metav1.ListOptions{})
	if err != nil {
		return fmt.Errorf("cannot list %s: %w", resource.GroupResource(), err)
	}
	if len(list.Items) == 0 {
		return nil
	}
	for _, o := range list.Items {
		o.SetManagedFields(nil)
		if resource.GroupResource() == (schema.GroupResource{Resource: "secrets"}) {
			hideData(o)
		}
	}
	text, err := yaml.Marshal(list.UnstructuredContent())
	if err != nil {
		return fmt.Errorf("cannot write %s: %w", resource.GroupResource(), err)
	}
	return os.WriteFile(filepath.Join(dir, resource.GroupResource().String()+".yaml"), text, 0o644)
}

// hideData replaces a Secret's values by their size, and what was applied by
// nothing.
func hideData(secret unstructured.Unstructured) {
	data, _, _ := unstructured.NestedMap(secret.Object, "data")
	for key, value := range data {
		data[key] = fmt.Sprintf("(%d bytes in base64)", len(fmt.Sprint(value)))
	}
	if len(data) > 0 {
		_ = unstructured.SetNestedMap(secret.Object, data, "data") // a map goes where one was
	}
	annotations := secret.GetAnnotations()
	delete(annotations, "kubectl.kubernetes.io/last-applied-configuration")
	secret.SetAnnotations(annotations)
}

// copyTree copies the chosen files below from, as they are now. There may be
// none.
func copyTree(from, to string, chosen func(path string) bool) error {
	if err := os.MkdirAll(to, 0o755); err != nil {
		return err
	}
	var all error
	err := filepath.WalkDir(from, func(path string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() || !chosen(path) {
			return ignoreMissing(err)
		}
		rest, err := filepath.Rel(from, path)
		if err == nil {
			err = copyFile(path, filepath.Join(to, rest))
		}
		all = errors.Join(all, ignoreMissing(err))
		return nil
	})
	return errors.Join(all, err)
}

func copyFile(from, to string) (err error) {
	in, err := os.Open(from)
	if err != nil {
		return err
	}
	defer in.Close()
	if err := os.MkdirAll(filepath.Dir(to), 0o755); err != nil {
		return err
	}
	out, err := os.Create(to)
	if err != nil {
		return err
	}
	_, err = io.Copy(out, in)
	return errors.Join(err, out.Close())
}

// ignoreMissing is for files that come and go meanwhile.
func ignoreMissing(err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}

package cluster_test

import (
	"os"
	"testing"
	"time"

	"gatehouse.dev/gatehouse/test/kube/cluster"
)

func TestMain(m *testing.M) { os.Exit(cluster.Main(m, nil)) }

func TestNodes(t *testing.T) {
	ctx := t.Context()
	begin := time.Now()
	c, err := cluster.Start(ctx, cluster.Options{Nodes: 3})
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("up after %v", time.Since(begin).Round(time.Millisecond))
	defer func() {
		begin := time.Now()
		if err := c.Close(); err != nil {
			t.Error(err)
		}
		t.Logf("down after %v", time.Since(begin).Round(time.Millisecond))
	}()
	out, err := c.Kubectl(ctx, "get", "nodes,pods,svc,events", "-A", "-o", "wide")
	t.Log(out, err)
}

package status

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"reflect"
	"slices"
	"testing"

	networkingv1 "k8s.io/api/networking/v1"
	"k8s.io/apimachinery/pkg/types"

	"gatehouse.dev/gatehouse/internal/sorted"
	"gatehouse.dev/gatehouse/internal/translate"
	"gatehouse.dev/gatehouse/internal/verdict"
	"gatehouse.dev/gatehouse/internal/view"
)

// TestPlannerChangesNothing makes random edits: what the planner makes of what
// changed must be what Desire makes of everything.
func TestPlannerChangesNothing(t *testing.T) {
	statuses := [][]networkingv1.IngressLoadBalancerIngress{nil, ips("192.0.2.1"), ips("192.0.2.2"), ips("192.0.2.9")}
	targets := [][]networkingv1.IngressLoadBalancerIngress{nil, ips(), ips("192.0.2.1"), ips("192.0.2.2")}
	patched := 0
	for seed := range uint64(300) {
		r := rand.New(rand.NewPCG(seed, 1))
		store, reports := view.NewStore(), map[string]*translate.IngressReport{}
		p, owned, addresses := &planner{owned: Owned{}}, Owned{}, targets[2]
		for step := range 40 {
			for range r.IntN(3) {
				name := fmt.Sprintf("i%d", r.IntN(8))
				if r.IntN(4) == 0 {
					store.Delete(ingress(name, nil))
					delete(reports, name)
					continue
				}
				ing := ingress(name, statuses[r.IntN(len(statuses))])
				ing.UID = types.UID(fmt.Sprintf("uid-%s-%d", name, r.IntN(2)))
				if r.IntN(3) > 0 || reports[name] == nil { // else only its class changes
					store.Set(ing)
				} else {
					ing = store.View().Ingress(ing.Namespace, name)
				}
				reports[name] = &translate.IngressReport{Attached: r.IntN(3) > 0, Object: verdict.Ref{
					Kind: "Ingress", Namespace: ing.Namespace, Name: name, UID: string(ing.UID),
				}}
			}
			if r.IntN(10) == 0 {
				addresses = targets[r.IntN(len(targets))]
			}
			v, report := store.View(), &translate.Report{}
			var all []*translate.IngressReport
			for _, name := range slices.Sorted(maps.Keys(reports)) {
				all = append(all, reports[name])
			}
			report.Ingresses = sorted.Of(all...)
			p.look(v, report, addresses)
			owned.learn(v, report, addresses)
			maps.DeleteFunc(owned, func(uid types.UID, _ []networkingv1.IngressLoadBalancerIngress) bool {
				return !slices.ContainsFunc(all, func(x *translate.IngressReport) bool { return x.Object.UID == string(uid) })
			})
			want := Desire(v, report, addresses, owned)
			patched += len(want)
			if len(p.patches) != len(want) || len(want) > 0 && !reflect.DeepEqual(p.patches, want) {
				t.Fatalf("seed %d, step %d: got %+v, want %+v", seed, step, p.patches, want)
			}
			if !reflect.DeepEqual(p.owned, owned) {
				t.Fatalf("seed %d, step %d: owned %v, want %v", seed, step, p.owned, owned)
			}
		}
	}
	if patched == 0 {
		t.Error("nothing was ever to be written")
	}
}

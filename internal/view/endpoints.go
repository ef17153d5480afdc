package view

import (
	"maps"

	discoveryv1 "k8s.io/api/discovery/v1"
	"k8s.io/apimachinery/pkg/types"
)

// sliceShards are the EndpointSlices of all Services, in so many maps that a
// change, which copies one, costs little however many Services there are:
// nothing changes as often.
type sliceShards [512]map[types.NamespacedName][]*discoveryv1.EndpointSlice

func shardOf(k types.NamespacedName) int {
	h := uint32(2166136261) // FNV-1a
	for _, s := range [2]string{k.Namespace, k.Name} {
		for i := range len(s) {
			h = (h ^ uint32(s[i])) * 16777619
		}
	}
	return int((h ^ h>>16) % uint32(len(sliceShards{})))
}

// slicesByService is a table of them that can be written to while what was
// shared stays as it is.
type slicesByService struct {
	shards *sliceShards
	// written are the shards that are in no View; shared: the table itself is.
	written [len(sliceShards{})]bool
	shared  bool
}

func (t *slicesByService) get(k types.NamespacedName) []*discoveryv1.EndpointSlice {
	if t.shards == nil {
		return nil
	}
	return t.shards[shardOf(k)][k]
}

// set puts a list in place of what there is; an empty one removes it.
func (t *slicesByService) set(k types.NamespacedName, list []*discoveryv1.EndpointSlice) {
	switch {
	case t.shards == nil:
		t.shards = &sliceShards{}
	case t.shared:
		copied := *t.shards
		t.shards = &copied
	}
	t.shared = false
	i := shardOf(k)
	if !t.written[i] {
		t.shards[i] = maps.Clone(t.shards[i])
		t.written[i] = true
	}
	if len(list) == 0 {
		delete(t.shards[i], k)
		return
	}
	if t.shards[i] == nil {
		t.shards[i] = map[types.NamespacedName][]*discoveryv1.EndpointSlice{}
	}
	t.shards[i][k] = list
}

// share gives the table as it is now, for good; nil: it is empty.
func (t *slicesByService) share() *sliceShards {
	t.shared, t.written = true, [len(sliceShards{})]bool{}
	return t.shards
}

func ownerOf(es *discoveryv1.EndpointSlice) types.NamespacedName {
	return types.NamespacedName{Namespace: es.Namespace, Name: es.Labels[discoveryv1.LabelServiceName]}
}

package view

import (
	"cmp"
	"maps"

	discoveryv1 "k8s.io/api/discovery/v1"
	"k8s.io/apimachinery/pkg/types"
)

// sliceShards are the EndpointSlices of all Services, in so many maps that a
// change, which copies one, costs little however many Services there are:
// nothing changes as often.
type sliceShards struct {
	maps [shards]map[types.NamespacedName][]*discoveryv1.EndpointSlice
	// edits tells maps apart: two tables of one Store with the same number share
	// the map.
	edits [shards]uint64
}

const shards = 512

func shardOf(k types.NamespacedName) int {
	h := uint32(2166136261) // FNV-1a
	for _, s := range [2]string{k.Namespace, k.Name} {
		for i := range len(s) {
			h = (h ^ uint32(s[i])) * 16777619
		}
	}
	return int((h ^ h>>16) % shards)
}

// slicesByService is a table of them that can be written to while what was
// shared stays as it is.
type slicesByService struct {
	shards *sliceShards
	// written are the shards that are in no View; shared: the table itself is.
	written [shards]bool
	shared  bool
}

func (t *slicesByService) get(k types.NamespacedName) []*discoveryv1.EndpointSlice {
	if t.shards == nil {
		return nil
	}
	return t.shards.maps[shardOf(k)][k]
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
	in := &t.shards.maps[i]
	if !t.written[i] {
		*in = maps.Clone(*in)
		t.written[i] = true
		t.shards.edits[i]++
	}
	if len(list) == 0 {
		delete(*in, k)
		return
	}
	if *in == nil {
		*in = map[types.NamespacedName][]*discoveryv1.EndpointSlice{}
	}
	(*in)[k] = list
}

// share gives the table as it is now, for good; nil: it is empty.
func (t *slicesByService) share() *sliceShards {
	t.shared, t.written = true, [shards]bool{}
	return t.shards
}

func ownerOf(es *discoveryv1.EndpointSlice) types.NamespacedName {
	return types.NamespacedName{Namespace: es.Namespace, Name: es.Labels[discoveryv1.LabelServiceName]}
}

// OtherEndpoints gives the Services whose EndpointSlices are not those of an
// earlier View of the same Store, in no order, some perhaps twice.
func (v *View) OtherEndpoints(before *View) (out []types.NamespacedName) {
	empty := &sliceShards{}
	a, b := cmp.Or(before.slices, empty), cmp.Or(v.slices, empty)
	if a == b {
		return nil
	}
	for i := range shards {
		if a.edits[i] == b.edits[i] {
			continue
		}
		for k, list := range b.maps[i] {
			if !Same(list, a.maps[i][k]) {
				out = append(out, k)
			}
		}
		for k := range a.maps[i] {
			if b.maps[i][k] == nil {
				out = append(out, k)
			}
		}
	}
	return out
}

package files

import (
	"fmt"
	"maps"
	"reflect"
	"slices"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"gatehouse.dev/gatehouse/internal/verdict"
)

// publish brings the Store and the verdicts to what the files say, in one step.
func (s *Source) publish(verdicts []verdict.Verdict) {
	objects, more := merge(s.files)
	verdicts = append(slices.Clone(verdicts), more...)
	sortVerdicts(&verdicts)

	var set, remove []metav1.Object
	wanted := make(map[objectKey]metav1.Object, len(objects))
	for _, o := range objects {
		if o.Obj == nil {
			continue
		}
		key := o.key()
		present, ok := s.published[key]
		if ok && (present == o.Obj || reflect.DeepEqual(present, o.Obj)) {
			wanted[key] = present
			continue
		}
		wanted[key] = o.Obj
		set = append(set, o.Obj)
	}
	for key, present := range s.published {
		if _, ok := wanted[key]; !ok {
			remove = append(remove, present)
		}
	}
	s.published = wanted

	s.mu.Lock()
	news := !slices.Equal(s.verdicts, verdicts)
	s.objects, s.verdicts = objects, verdicts
	s.mu.Unlock()

	// The verdicts come first: whoever wakes up by the Store finds them new.
	s.store.Apply(set, remove)
	if news && len(set)+len(remove) == 0 {
		s.store.Poke()
	}
	if news || len(set)+len(remove) > 0 {
		s.log.Info("manifests read", "files", len(s.files), "objects", len(objects),
			"set", len(set), "removed", len(remove), "verdicts", len(verdicts))
	}
}

// merge puts the files together: of an object in two files the first in the
// order of paths holds.
func merge(files map[string]*file) (objects []Object, verdicts []verdict.Verdict) {
	first := map[objectKey]Object{}
	for _, path := range slices.Sorted(maps.Keys(files)) {
		f := files[path]
		verdicts = append(verdicts, f.verdicts...)
		for _, o := range f.objects {
			if o.Obj == nil {
				objects = append(objects, o)
				continue
			}
			if winner, twice := first[o.key()]; twice {
				verdicts = append(verdicts, duplicate(o, winner))
				continue
			}
			first[o.key()] = o
			objects = append(objects, o)
		}
	}
	return objects, verdicts
}

// duplicate is the verdict on an object that another one wins over.
func duplicate(loser, winner Object) verdict.Verdict {
	v := verdict.Verdict{Object: loser.Ref, Severity: verdict.Rejected, Reason: verdict.ObjectDuplicate,
		Message: fmt.Sprintf("also stands in %s:%d, which comes first and holds", winner.File, winner.Line),
		Remedy:  "remove one of the two", File: fmt.Sprintf("%s:%d", loser.File, loser.Line)}
	if reflect.DeepEqual(loser.Obj, winner.Obj) {
		v.Severity = verdict.Warning
	}
	return v
}

// sortVerdicts sorts and removes repetitions.
func sortVerdicts(v *[]verdict.Verdict) {
	slices.SortStableFunc(*v, func(a, b verdict.Verdict) int { return a.Compare(b) })
	*v = slices.Compact(*v)
}

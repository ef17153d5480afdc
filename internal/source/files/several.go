package files

import (
	"io"

	"gatehouse.dev/gatehouse/internal/verdict"
	"gatehouse.dev/gatehouse/internal/view"
)

// ReadAll reads paths once, each a directory, a file or, for "-", in. Of an object
// that stands in several the first is given. A path that cannot be read is an
// error; anything else that is wrong becomes a verdict.
func ReadAll(paths []string, in io.Reader, progress func(Progress)) (objects []Object, verdicts []verdict.Verdict, err error) {
	first := map[objectKey]Object{}
	for _, path := range paths {
		var found []Object
		var said []verdict.Verdict
		if path == "-" {
			found, said = Read(in, "-", progress)
		} else {
			src := New(view.NewStore(), Options{Root: path, Progress: progress})
			if err := src.Load(); err != nil {
				return nil, nil, err
			}
			found, said = src.Objects(), src.Verdicts()
		}
		verdicts = append(verdicts, said...)
		for _, o := range found {
			if o.Obj == nil {
				objects = append(objects, o)
				continue
			}
			winner, twice := first[o.key()]
			switch {
			case !twice:
				first[o.key()] = o
				objects = append(objects, o)
			case winner.File != o.File || winner.Line != o.Line: // paths may overlap
				verdicts = append(verdicts, duplicate(o, winner))
			}
		}
	}
	sortVerdicts(&verdicts)
	return objects, verdicts, nil
}

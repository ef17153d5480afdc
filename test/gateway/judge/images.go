package judge

import (
	"fmt"
	"io/fs"
	"regexp"
	"slices"
	"strings"

	"sigs.k8s.io/gateway-api/conformance"
)

// Image is one that the suite's manifests name. There is no registry to get it
// from: it is built and loaded into the nodes under Names. The manifests leave
// the imagePullPolicy of such names to be IfNotPresent.
type Image struct {
	Names   []string `json:"names"`
	Package string   `json:"package"` // of the program, as go build takes it in this Go module
	Program string   `json:"program"` // its path in the image, which is the entry point
}

// programs are what the images of the manifests have in them, by repository.
var programs = map[string]Image{
	"registry.k8s.io/gateway-api/echo-basic": {Package: "sigs.k8s.io/gateway-api/conformance/echo-basic", Program: "/echo-basic"},
	"registry.k8s.io/coredns/coredns":        {Package: "./cmd/coredns", Program: "/coredns"},
}

var imageLine = regexp.MustCompile(`(?m)^\s*(?:- )?image:\s*"?([^\s"#]+)`)

// Images are those of the base manifests and of all tests but those of meshes.
func Images() ([]Image, error) {
	names := map[string][]string{} // by repository
	for _, dir := range []string{"base", "tests"} {
		err := fs.WalkDir(conformance.Manifests, dir, func(path string, d fs.DirEntry, err error) error {
			if err != nil || d.IsDir() || strings.HasPrefix(path, "tests/mesh/") || !strings.HasSuffix(path, ".yaml") {
				return err
			}
			text, err := fs.ReadFile(conformance.Manifests, path)
			if err != nil {
				return err
			}
			for _, m := range imageLine.FindAllSubmatch(text, -1) {
				name := string(m[1])
				repository := name[:max(strings.LastIndexByte(name, ':'), 0)]
				if !slices.Contains(names[repository], name) {
					names[repository] = append(names[repository], name)
				}
			}
			return nil
		})
		if err != nil {
			return nil, fmt.Errorf("cannot read the suite's manifests: %w", err)
		}
	}
	var images []Image
	for repository, n := range names {
		image, known := programs[repository]
		if !known {
			return nil, fmt.Errorf("cannot say how to build %s", n[0])
		}
		slices.Sort(n)
		image.Names = n
		images = append(images, image)
	}
	slices.SortFunc(images, func(a, b Image) int { return strings.Compare(a.Names[0], b.Names[0]) })
	return images, nil
}

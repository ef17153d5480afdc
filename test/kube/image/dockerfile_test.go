package image

import (
	"encoding/json"
	"os"
	"slices"
	"strings"
	"testing"
)

// The image of the tests is that of deploy/Dockerfile.
func TestGatehouseIsAsDockerfile(t *testing.T) {
	text, err := os.ReadFile("../../../deploy/Dockerfile")
	if err != nil {
		t.Fatal(err)
	}
	last := string(text[strings.LastIndex(string(text), "\nFROM ")+1:])
	argument := func(instruction string) string {
		for line := range strings.Lines(last) {
			if rest, ok := strings.CutPrefix(line, instruction+" "); ok {
				return strings.TrimSpace(rest)
			}
		}
		t.Fatalf("no %s in\n%s", instruction, last)
		return ""
	}
	list := func(instruction string) (l []string) {
		if err := json.Unmarshal([]byte(argument(instruction)), &l); err != nil {
			t.Fatalf("%s: %v", instruction, err)
		}
		return l
	}
	var ports []string
	for _, p := range strings.Fields(argument("EXPOSE")) {
		ports = append(ports, p+"/tcp")
	}
	s := gatehouse()
	if argument("FROM") != "scratch" || argument("USER") != s.User || !slices.Equal(list("ENTRYPOINT"), s.Entrypoint) ||
		!slices.Equal(list("CMD"), s.Cmd) || !slices.Equal(ports, s.ExposedPorts) {
		t.Errorf("the tests have %+v, deploy/Dockerfile\n%s", s, last)
	}
	if !strings.Contains(last, "COPY --from=build /out/gatehouse "+s.Entrypoint[0]+"\n") {
		t.Errorf("%s is not what is built:\n%s", s.Entrypoint[0], last)
	}
}

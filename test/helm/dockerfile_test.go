package helm

import (
	"encoding/json"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
)

// TestDockerfile: the last stage of deploy/Dockerfile is an image as the chart
// takes it to be.
func TestDockerfile(t *testing.T) {
	text, err := os.ReadFile("../../deploy/Dockerfile")
	if err != nil {
		t.Fatal(err)
	}
	last := map[string][]string{} // instruction -> arguments
	for line := range strings.Lines(strings.ReplaceAll(string(text), "\\\n", "")) {
		word, rest, _ := strings.Cut(strings.TrimSpace(line), " ")
		switch word {
		case "FROM":
			last = map[string][]string{word: {rest}}
		case "", "#":
		default:
			last[word] = append(last[word], strings.TrimSpace(rest))
		}
	}
	one := func(word string) string {
		t.Helper()
		if len(last[word]) != 1 {
			t.Fatalf("%s: %q", word, last[word])
		}
		return last[word][0]
	}
	list := func(word string) (l []string) {
		t.Helper()
		if err := json.Unmarshal([]byte(one(word)), &l); err != nil {
			t.Errorf("%s is not in the form of a list: %v", word, err)
		}
		return l
	}
	r := render(t, "")
	p := r.pod(t).Spec
	c := p.Containers[0]
	if one("FROM") != "scratch" {
		t.Errorf("FROM %s", one("FROM"))
	}
	if want := fmt.Sprintf("%d:%d", *p.SecurityContext.RunAsUser, *p.SecurityContext.RunAsGroup); one("USER") != want {
		t.Errorf("USER %s, the chart has %s", one("USER"), want)
	}
	if !slices.Equal(list("ENTRYPOINT"), []string{"/gatehouse"}) || len(c.Command) != 0 {
		t.Errorf("ENTRYPOINT %q, command %q", list("ENTRYPOINT"), c.Command)
	}
	if cmd := list("CMD"); len(cmd) != 1 || cmd[0] != c.Args[0] {
		t.Errorf("CMD %q, the chart has %q", cmd, c.Args[0])
	}
	var ports []string
	for _, port := range c.Ports {
		ports = append(ports, fmt.Sprint(port.ContainerPort))
	}
	if !slices.Equal(strings.Fields(one("EXPOSE")), ports) {
		t.Errorf("EXPOSE %s, the chart has %q", one("EXPOSE"), ports)
	}
	if want := []string{
		"--from=build /etc/ssl/certs/ca-certificates.crt /etc/ssl/certs/ca-certificates.crt",
		"--from=build /out/gatehouse /gatehouse",
	}; !slices.Equal(last["COPY"], want) || len(last["RUN"])+len(last["ADD"]) != 0 {
		t.Errorf("the image has %q, RUN %q, ADD %q", last["COPY"], last["RUN"], last["ADD"])
	}
}

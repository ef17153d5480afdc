package files

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"

	yamlnode "go.yaml.in/yaml/v3"
)

// Field paths are written as the API server does: "spec.rules[0].host". Keys
// that hold dots are not quoted, so paths are compared, never parsed.

// Bounds on what the aliases of one YAML document may grow to.
const (
	maxExpandedBytes = 16 << 20
	maxExpandedNodes = 1 << 20
)

// lineOf is the line in the file of the field, or of the nearest thing around
// it that can be found.
func (d *document) lineOf(path string) int {
	best := place{line: d.line}
	d.walk(func(p place) bool {
		if p.path != path && !inside(path, p.path) {
			return false
		}
		if len(p.path) > len(best.path) {
			best = p
		}
		return p.path != path
	})
	return best.line
}

// itemLines are the lines of items[0], items[1] and so on.
func (d *document) itemLines() map[string]int {
	lines := map[string]int{}
	d.walk(func(p place) bool {
		if strings.HasPrefix(p.path, "items[") {
			lines[p.path] = p.line
			return false
		}
		return p.path == "items"
	})
	return lines
}

// inside reports whether path names something within outer.
func inside(path, outer string) bool {
	rest, ok := strings.CutPrefix(path, outer)
	return ok && rest != "" && (rest[0] == '.' || rest[0] == '[')
}

func child(path, key string) string {
	if path == "" {
		return key
	}
	return path + "." + key
}

func item(path string, i int) string { return path + "[" + strconv.Itoa(i) + "]" }

// walk visits all fields and items in the order of the text, below those for
// which visit gives true.
func (d *document) walk(visit func(place) bool) {
	if d.yaml == nil {
		line, counted := d.base+1, 0
		walkJSON(d.text, func(path string, start int) bool {
			line += bytes.Count(d.text[counted:start], []byte("\n"))
			counted = start
			return visit(place{path, line})
		})
		return
	}
	if n := d.parsed(); n != nil {
		d.walkYAML(n, "", visit)
	}
}

// parsed gives the node tree, or nil if the second parser disagrees with the
// first about what is YAML.
func (d *document) parsed() *yamlnode.Node {
	if d.node == nil {
		d.node = &yamlnode.Node{}
		_, err := toJSON(func(text []byte) ([]byte, error) { return nil, yamlnode.Unmarshal(text, d.node) }, d.yaml)
		if err != nil || len(d.node.Content) == 0 {
			d.node = &yamlnode.Node{}
		}
	}
	if len(d.node.Content) == 0 {
		return nil
	}
	return d.node.Content[0]
}

// walkYAML does not follow aliases: what an alias stands for has its own place.
func (d *document) walkYAML(n *yamlnode.Node, path string, visit func(place) bool) {
	switch n.Kind {
	case yamlnode.MappingNode:
		for i := 0; i+1 < len(n.Content); i += 2 {
			p := place{child(path, n.Content[i].Value), d.base + n.Content[i].Line}
			if visit(p) {
				d.walkYAML(n.Content[i+1], p.path, visit)
			}
		}
	case yamlnode.SequenceNode:
		for i, c := range n.Content {
			p := place{item(path, i), d.base + c.Line}
			if visit(p) {
				d.walkYAML(c, p.path, visit)
			}
		}
	}
}

// findRepeated finds the mapping keys that occur twice. Keys that a merge
// ("<<") brings in may be overridden: that is what it is for.
func (d *document) findRepeated() []place {
	var out []place
	seen := map[string]bool{}
	d.walk(func(p place) bool {
		again := seen[p.path]
		seen[p.path] = true
		if again {
			out = append(out, p)
		}
		return !again && len(out) < maxVerdicts
	})
	return out
}

// boundAliases refuses a document whose aliases stand for more than is
// sensible, before anything expands them.
func (d *document) boundAliases() error {
	if d.parsed() == nil {
		return errors.New("not YAML: anchors or aliases are broken")
	}
	sizes := map[*yamlnode.Node]expanded{}
	if total := measure(d.parsed(), sizes); total.nodes > maxExpandedNodes || total.bytes > maxExpandedBytes {
		return fmt.Errorf("aliases expand to more than %d bytes or %d values", maxExpandedBytes, maxExpandedNodes)
	}
	return nil
}

// expanded is the size of a node with its aliases replaced.
type expanded struct{ nodes, bytes int }

func measure(n *yamlnode.Node, known map[*yamlnode.Node]expanded) expanded {
	if size, ok := known[n]; ok {
		return size
	}
	// An alias inside of what it stands for has no end.
	known[n] = expanded{maxExpandedNodes + 1, 0}
	size := expanded{1, len(n.Value)}
	children := n.Content
	if n.Alias != nil {
		children = []*yamlnode.Node{n.Alias}
	}
	for _, c := range children {
		s := measure(c, known)
		size.nodes = min(size.nodes+s.nodes, maxExpandedNodes+1)
		size.bytes = min(size.bytes+s.bytes, maxExpandedBytes+1)
	}
	known[n] = size
	return size
}

// walkJSON visits all fields and items of a well-formed text in its order,
// below those for which visit gives true. start is where the key of the field,
// or the item, begins.
func walkJSON(text []byte, visit func(path string, start int) bool) {
	dec := json.NewDecoder(bytes.NewReader(text))
	_ = walkInside(dec, text, "", visit)
}

// walkInside reads the value that comes next and visits what is inside.
func walkInside(dec *json.Decoder, text []byte, path string, visit func(path string, start int) bool) error {
	t, err := dec.Token()
	if err != nil {
		return err
	}
	open, ok := t.(json.Delim)
	if !ok {
		return nil
	}
	for i := 0; dec.More(); i++ {
		start, p := nextByte(text, int(dec.InputOffset())), item(path, i)
		if open == '{' {
			key, err := dec.Token()
			if err != nil {
				return err
			}
			name, ok := key.(string)
			if !ok {
				return errors.New("BUG: a key that is no string")
			}
			p = child(path, name)
		}
		if visit(p, start) {
			err = walkInside(dec, text, p, visit)
		} else {
			err = dec.Decode(new(json.RawMessage))
		}
		if err != nil {
			return err
		}
	}
	_, err = dec.Token()
	return err
}

// nextByte skips white space and commas.
func nextByte(text []byte, at int) int {
	for at < len(text) && bytes.IndexByte([]byte(" \t\r\n,"), text[at]) >= 0 {
		at++
	}
	return at
}

// pathAt finds the field or item that the JSON decoder means by an offset: the
// last one that begins before it.
func pathAt(text []byte, offset int64) string {
	path := ""
	walkJSON(text, func(p string, start int) bool {
		if int64(start) < offset {
			path = p
		}
		return int64(start) < offset
	})
	return path
}

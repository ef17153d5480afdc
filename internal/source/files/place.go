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

// Bounds on what the aliases of one YAML document may grow to, those of a file
// to four times as much.
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
	if d.text != nil {
		line, counted := d.base+1, 0
		walkJSON(d.text, func(path string, start int) bool {
			line += bytes.Count(d.text[counted:start], []byte("\n"))
			counted = start
			return visit(place{path, line})
		})
		return
	}
	if n := d.tree(); n != nil {
		d.walkYAML(n, "", visit)
	}
}

// tree gives the root of the YAML, or nil if the second parser disagrees with the
// first about what is YAML.
func (d *document) tree() *yamlnode.Node {
	if !d.parsed {
		d.parsed = true
		top := &yamlnode.Node{}
		_, err := toJSON(func(text []byte) ([]byte, error) { return nil, yamlnode.Unmarshal(text, top) }, d.yaml)
		if err == nil && len(top.Content) > 0 {
			d.root = top.Content[0]
		}
		if d.entry && d.root != nil && len(d.root.Content) == 1 {
			d.root = d.root.Content[0]
		}
	}
	return d.root
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
// sensible, together with what those of the documents before it stood for, before
// anything expands them.
func (d *document) boundAliases(before *expanded) error {
	top := d.tree()
	if top == nil {
		return errors.New("not YAML: anchors or aliases are broken")
	}
	size := measure(top, map[*yamlnode.Node]expanded{})
	if size == measurePlain(top) {
		return nil
	}
	before.nodes += size.nodes
	before.bytes += size.bytes
	if size.nodes > maxExpandedNodes || size.bytes > maxExpandedBytes || before.nodes > 4*maxExpandedNodes || before.bytes > 4*maxExpandedBytes {
		return fmt.Errorf("aliases expand to more than %d bytes or %d values", maxExpandedBytes, maxExpandedNodes)
	}
	return nil
}

// measurePlain is the size with aliases left as they are.
func measurePlain(n *yamlnode.Node) expanded {
	size := expanded{1, len(n.Value)}
	for _, c := range n.Content {
		s := measurePlain(c)
		size.nodes += s.nodes
		size.bytes += s.bytes
	}
	return size
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

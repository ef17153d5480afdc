package files

import (
	"bytes"
	"slices"
	"strings"

	yamlnode "go.yaml.in/yaml/v3"
)

// A List can hold a whole cluster. So each of its items becomes a document of
// its own, with its own text: what is asked about an item (the line of a field,
// keys that occur twice) costs as much as the item is long, and not as the List.

// elements gives the items of a List, parallel to raw, which are their values.
func (d *document) elements(raw []rawItem) []*document {
	switch {
	case d.items != nil:
		return d.items
	case d.text != nil:
		return d.elementsOfJSON(raw)
	}
	return d.elementsOfYAML(raw)
}

// rawItem is the JSON of an item.
type rawItem = []byte

// elementsOfJSON finds the text of each item within that of the List.
func (d *document) elementsOfJSON(raw []rawItem) []*document {
	out := make([]*document, 0, len(raw))
	line, counted := d.base+1, 0
	walkJSON(d.text, func(path string, start int) bool {
		if path == "items" {
			out = out[:0] // of a key that occurs twice the last one counts
			return true
		}
		// Other fields are not looked into.
		i := len(out)
		if i < len(raw) && path == item("items", i) && bytes.HasPrefix(d.text[start:], raw[i]) {
			line += bytes.Count(d.text[counted:start], []byte("\n"))
			counted = start
			out = append(out, &document{line: line, json: raw[i], text: d.text[start : start+len(raw[i])], base: line - 1})
		}
		return false
	})
	if len(out) != len(raw) {
		out = out[:0]
		for _, r := range raw {
			out = append(out, &document{line: d.line, json: r, text: r, base: d.line - 1})
		}
	}
	return out
}

// elementsOfYAML finds the node of each item in the tree of the List.
func (d *document) elementsOfYAML(raw []rawItem) []*document {
	var nodes []*yamlnode.Node
	if top := d.tree(); top != nil && top.Kind == yamlnode.MappingNode {
		for i := 0; i+1 < len(top.Content); i += 2 {
			if top.Content[i].Value == "items" {
				nodes = top.Content[i+1].Content
			}
		}
	}
	out := make([]*document, 0, len(raw))
	for i, r := range raw {
		e := &document{line: d.line, json: r, base: d.base, parsed: true, doubtful: d.doubtful}
		if len(nodes) == len(raw) {
			e.root, e.line = nodes[i], d.base+nodes[i].Line
		}
		out = append(out, e)
	}
	return out
}

// cutList reads a List in the form that kubectl prints, item by item: parsing
// it as a whole takes many times the memory. It gives nil for all other
// documents, and whenever anything shows that the cuts may be at wrong places,
// for then the parser has to say what the whole means. They are where an entry of
// the sequence seems to begin, which no block scalar and no plain one can
// contain at this indentation. Quoted text and flow collections can; but then a part of
// it that is cut off has no end, and is no YAML.
func (s *splitter) cutList(c chunk, line int) *document {
	around, items := itemsOf(c)
	if len(items) == 0 {
		return nil
	}
	top, bad := s.convert(chunk{around, c.base}, line)
	if bad != nil || top == nil || top.doubtful || !isEmptyList(top.json) {
		return nil
	}
	d := &document{line: line, yaml: c.text, base: c.base, json: top.json, items: make([]*document, 0, len(items))}
	for _, e := range items {
		one, bad := s.convert(e, e.firstLine())
		if bad != nil || one == nil {
			return nil
		}
		one.json, one.entry = bytes.TrimSuffix(bytes.TrimPrefix(one.json, []byte("[")), []byte("]")), true
		one.root, one.parsed = nil, false // it was looked at as a sequence
		d.items = append(d.items, one)
		s.count(len(e.text))
	}
	return d
}

// isEmptyList reports whether a value is a List whose items are null.
func isEmptyList(json []byte) bool {
	h, _, message := readHeader(part{document: &document{json: json}})
	return message == "" && h.isList && h.items == nil
}

// itemsOf cuts a document at the entries of the sequence "items", which must be
// in block style. Each is a sequence of one. around is what stands before and after them.
func itemsOf(c chunk) (around []byte, items []chunk) {
	at, line := 0, c.base
	next := func() []byte {
		end := len(c.text)
		if i := bytes.IndexByte(c.text[at:], '\n'); i >= 0 {
			end = at + i + 1
		}
		l := c.text[at:end]
		at, line = end, line+1
		return l
	}
	for at < len(c.text) && !isItemsKey(next()) {
	}
	head, indent, start, base := at, -1, at, line
	take := func(end int) {
		if indent >= 0 {
			items = append(items, chunk{c.text[start:end], base})
		}
	}
	for at < len(c.text) {
		from, above := at, line
		l := next()
		depth := len(l) - len(bytes.TrimLeft(l, " "))
		rest := bytes.TrimSpace(l)
		switch {
		case len(rest) == 0, rest[0] == '#', indent >= 0 && depth > indent:
			continue
		case rest[0] == '-' && (len(rest) == 1 || rest[1] == ' ') && (indent < 0 || depth == indent):
			take(from)
			indent, start, base = depth, from, above
			continue
		case indent < 0, depth == indent && indent > 0:
			return nil, nil
		}
		take(from)
		return slices.Concat(c.text[:head], c.text[from:]), items
	}
	take(len(c.text))
	return c.text[:head], items
}

// isItemsKey takes the line "items:".
func isItemsKey(l []byte) bool {
	rest, ok := bytes.CutPrefix(l, []byte("items:"))
	return ok && len(bytes.TrimSpace(rest)) == 0
}

// firstLine is the line at which the content of an entry begins.
func (e chunk) firstLine() int {
	line := e.base + 1
	for l := range bytes.Lines(e.text) {
		if l = bytes.TrimSpace(l); len(l) > 0 && l[0] == '-' && line == e.base+1 {
			l = bytes.TrimSpace(l[1:])
		}
		if len(l) > 0 && l[0] != '#' {
			return line
		}
		line++
	}
	return e.base + 1
}

// itemOf names an item of a List, for verdicts that cannot name an object.
func itemOf(list string, i int) string { return strings.TrimPrefix(list+"."+item("items", i), ".") }

package files

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"regexp"
	"strconv"
	"strings"
	"unicode/utf8"

	yamlnode "go.yaml.in/yaml/v3"
	"sigs.k8s.io/yaml"
)

// Bounds on one file; beyond them there is a verdict and its last good objects stay.
const (
	maxYAMLValues = 1 << 20 // lines and commas of one YAML document
	maxBroken     = 100     // broken documents and objects
)

// document is one YAML or JSON document of a file, or an item of a List in
// one, as JSON.
type document struct {
	line int    // of its first content, in the file
	json []byte // the value, well-formed
	// Where to look for the line of a field: in the JSON as it stands in the file,
	// or, if that is nil, in the YAML, which is parsed for it when first needed.
	text   []byte
	yaml   []byte
	base   int            // lines of the file before text or yaml
	root   *yamlnode.Node // of the YAML once it is parsed; nil if it cannot be
	parsed bool
	// doubtful: some mapping of the YAML has a key twice.
	doubtful bool
	// entry: the YAML is that of a sequence, of which this is the one entry.
	entry bool
	// items of a List that was read item by item.
	items []*document
}

// place is a field and the line where it stands in the file.
type place struct {
	path string
	line int
}

// damage is a document that cannot be parsed.
type damage struct {
	line    int
	message string
	remedy  string
	key     objectKey // of the object that it seems to be; zero if it does not show
}

// splitter reads the documents of a file.
type splitter struct {
	data []byte
	name string
	*meter

	expanded expanded // by aliases, in all documents so far
}

// documents gives all documents, or what is wrong with them: it stays inside its
// own YAML document. number counts them from 1.
func (s *splitter) documents(yield func(d *document, bad *damage, number int) bool) {
	number, offset := 0, 0
	give := func(d *document, bad *damage) bool {
		if number++; !yield(d, bad, number) {
			return false
		}
		s.reach(offset)
		s.count(0)
		return true
	}
	isJSON := strings.HasSuffix(s.name, ".json")
	for _, c := range chunks(bytes.TrimPrefix(s.data, []byte("\xef\xbb\xbf"))) {
		offset += len(c.text)
		content, skipped := firstContent(c.text)
		if content == nil {
			continue
		}
		line := c.base + skipped + 1
		if content[0] == '{' || content[0] == '[' || isJSON {
			values, d := splitJSON(content, line)
			if d == nil || len(values) > 0 || isJSON {
				for _, v := range values {
					if !give(v, nil) {
						return
					}
				}
				if d != nil && !give(nil, d) {
					return
				}
				continue
			}
			// Not JSON: YAML's flow style looks much the same.
		}
		if doc, d := s.readYAML(c, line); (doc != nil || d != nil) && !give(doc, d) {
			return
		}
	}
}

// chunk is the text between two document markers; base counts the lines before it.
type chunk struct {
	text []byte
	base int
}

// chunks cuts at the document markers of YAML, which stand at the beginning of
// a line ("---" opens a document, "..." ends one) and cannot occur inside JSON.
func chunks(data []byte) []chunk {
	var out []chunk
	start, base, line := 0, 0, 0
	cut := func(end, lines int) {
		if end > start {
			out = append(out, chunk{data[start:end], base})
		}
		start, base = end, lines
	}
	for at := 0; at < len(data); line++ {
		end := len(data)
		if i := bytes.IndexByte(data[at:], '\n'); i >= 0 {
			end = at + i + 1
		}
		switch l := data[at:end]; {
		case isMarker(l, "---") && !onlyDirectives(data[start:at]):
			cut(at, line)
		case isMarker(l, "..."):
			cut(end, line+1)
		}
		at = end
	}
	cut(len(data), line)
	return out
}

func isMarker(line []byte, marker string) bool {
	rest, ok := bytes.CutPrefix(line, []byte(marker))
	return ok && (len(rest) == 0 || rest[0] == ' ' || rest[0] == '\t' || rest[0] == '\r' || rest[0] == '\n')
}

// onlyDirectives reports whether a chunk has directives ("%YAML 1.1") and
// nothing else: they belong to the document that the next marker opens.
func onlyDirectives(text []byte) bool {
	found := false
	for l := range bytes.Lines(text) {
		l = bytes.TrimSpace(l)
		switch {
		case len(l) == 0 || l[0] == '#':
		case l[0] == '%':
			found = true
		default:
			return false
		}
	}
	return found
}

// firstContent skips blank lines, comments, directives and the opening marker,
// and counts the lines skipped; nil means that there is nothing else.
func firstContent(text []byte) (content []byte, lines int) {
	at := 0
	for l := range bytes.Lines(text) {
		from := 0
		if isMarker(l, "---") || isMarker(l, "...") {
			from = 3
		}
		from += len(l[from:]) - len(bytes.TrimLeft(l[from:], " \t\r\n"))
		if from < len(l) && l[from] != '#' && l[from] != '%' {
			return text[at+from:], lines
		}
		at += len(l)
		lines++
	}
	return nil, lines
}

// splitJSON reads JSON values that stand one after the other.
func splitJSON(text []byte, line int) (docs []*document, bad *damage) {
	dec := json.NewDecoder(bytes.NewReader(text))
	base := line - 1
	for {
		var value json.RawMessage
		err := dec.Decode(&value)
		if err == io.EOF {
			return docs, nil
		}
		if err != nil {
			at := len(text)
			if se, ok := errors.AsType[*json.SyntaxError](err); ok {
				at = min(int(se.Offset), len(text))
			}
			return docs, &damage{line: base + lineAt(text, at-1), message: "not JSON: " + err.Error(), remedy: "correct the JSON at this line"}
		}
		start := int(dec.InputOffset()) - len(value)
		if string(value) == "null" {
			continue
		}
		before := base + lineAt(text, start) - 1
		docs = append(docs, &document{line: before + 1, json: value, text: value, base: before})
	}
}

// lineAt is the line, counted from 1, of the byte at offset.
func lineAt(text []byte, offset int) int {
	return 1 + bytes.Count(text[:max(0, min(offset, len(text)))], []byte("\n"))
}

// readYAML gives nil for a document that is null.
func (s *splitter) readYAML(c chunk, line int) (*document, *damage) {
	if list := s.cutList(c, line); list != nil {
		return list, nil
	}
	return s.convert(c, line)
}

// convert reads a YAML document as a whole.
func (s *splitter) convert(c chunk, line int) (*document, *damage) {
	fail := func(at int, message string) (*document, *damage) {
		return nil, &damage{line: at, message: message, key: guessKey(c.text)}
	}
	if n := bytes.Count(c.text, []byte("\n")) + bytes.Count(c.text, []byte(",")); n > maxYAMLValues {
		return fail(line, fmt.Sprintf("more than %d lines and values in one YAML document", maxYAMLValues))
	}
	doc := &document{line: line, yaml: c.text, base: c.base}
	if bytes.IndexByte(c.text, '&') >= 0 && bytes.IndexByte(c.text, '*') >= 0 {
		if err := doc.boundAliases(&s.expanded); err != nil {
			return fail(line, err.Error())
		}
	}
	converted, err := toJSON(yaml.YAMLToJSONStrict, c.text)
	if err != nil {
		var lenient error
		if converted, lenient = toJSON(yaml.YAMLToJSON, c.text); lenient != nil {
			at, message := yamlFault(c.text, lenient)
			if line, ok := templateLine(c); ok {
				_, d := fail(line, "is a template ({{ ... }}), not a manifest")
				d.remedy = renderFirst
				return nil, d
			}
			_, d := fail(c.base+at, "not YAML: "+message)
			d.remedy = "correct the YAML at this line"
			return nil, d
		}
		doc.doubtful = true
	}
	if bytes.Equal(converted, []byte("null")) {
		return nil, nil
	}
	doc.json = converted
	return doc, nil
}

// toJSON converts, and makes an error of a panic in the parser: one manifest
// must not end the program.
func toJSON(convert func([]byte) ([]byte, error), text []byte) (out []byte, err error) {
	defer func() {
		if p := recover(); p != nil {
			out, err = nil, fmt.Errorf("the parser failed: %v", p)
		}
	}()
	return convert(text)
}

var (
	yamlLine      = regexp.MustCompile(`(?s)^line (\d+): (.*)$`)
	unknownAnchor = regexp.MustCompile(`^unknown anchor '(.*)' referenced$`)
	headerField   = regexp.MustCompile(`^ *(apiVersion|kind|metadata|name|namespace): *["']?([^"'\s#]*)["']?\s*(?:#.*)?$`)
	listIndex     = regexp.MustCompile(`\[\d+\]`)
)

// yamlFault finds the line, counted from 1 within text, and the bare message
// of a parser's error.
func yamlFault(text []byte, err error) (line int, message string) {
	message = strings.TrimPrefix(err.Error(), "yaml: ")
	if m := yamlLine.FindStringSubmatch(message); m != nil {
		line, _ = strconv.Atoi(m[1])
		message = m[2]
		if countsFromZero(message) {
			line++
		}
		return max(1, min(line, lineAt(text, len(text)))), message
	}
	if at := badByte(text); at >= 0 {
		return lineAt(text, at), message
	}
	if m := unknownAnchor.FindStringSubmatch(message); m != nil {
		if at := bytes.Index(text, []byte("*"+m[1])); at >= 0 {
			return lineAt(text, at), message
		}
	}
	return 1, message
}

// countsFromZero knows the messages of the YAML library's parser stage, whose
// lines are one too small; those of its scanner stage are right.
func countsFromZero(message string) bool {
	switch message {
	case "did not find expected <stream-start>", "did not find expected <document start>",
		"did not find expected node content", "did not find expected key",
		"did not find expected '-' indicator", "did not find expected ',' or ']'",
		"did not find expected ',' or '}'", "found undefined tag handle":
		return true
	}
	return false
}

// badByte finds the first byte that no YAML stream may hold, or -1.
func badByte(text []byte) int {
	for i := 0; i < len(text); {
		r, n := utf8.DecodeRune(text[i:])
		control := r < ' ' && r != '\t' && r != '\n' && r != '\r' || r == 0x7f
		if control || r == utf8.RuneError && n == 1 {
			return i
		}
		i += n
	}
	return -1
}

// guessKey finds which object a broken YAML document is meant to be, by the
// plain block style in which manifests are written. The zero key means unknown.
func guessKey(text []byte) objectKey {
	got := map[string]string{}
	section, indent := "", -1
	for l := range bytes.Lines(text) {
		l = bytes.TrimRight(l, " \t\r\n")
		if t := bytes.TrimLeft(l, " "); len(t) == 0 || t[0] == '#' {
			continue
		}
		depth := len(l) - len(bytes.TrimLeft(l, " "))
		m := headerField.FindSubmatch(l)
		switch {
		case depth == 0 && m != nil:
			section, indent = string(m[1]), -1
			if _, twice := got[section]; twice {
				return objectKey{}
			}
			got[section] = string(m[2])
		case depth == 0:
			section = ""
		case section == "metadata":
			if indent < 0 {
				indent = depth
			}
			if depth == indent && m != nil {
				got["metadata."+string(m[1])] = string(m[2])
			}
		}
	}
	k, ok, _ := kindOf(got["apiVersion"], got["kind"])
	if !ok || got["metadata.name"] == "" {
		return objectKey{}
	}
	return k.key(got["metadata.namespace"], got["metadata.name"])
}

package files

import (
	"fmt"
	"io"
	"strings"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	kjson "sigs.k8s.io/json"

	"gatehouse.dev/gatehouse/internal/verdict"
	"gatehouse.dev/gatehouse/internal/view"
)

// maxVerdicts bounds what is said about one file.
const maxVerdicts = 1000

// maxListDepth bounds Lists inside Lists.
const maxListDepth = 8

// objectKey says which object is meant, whatever its version. The zero value
// means none.
type objectKey struct{ kind, namespace, name string }

func (k kind) key(namespace, name string) objectKey {
	switch {
	case k.cluster:
		namespace = ""
	case namespace == "":
		namespace = metav1.NamespaceDefault
	}
	return objectKey{k.name, namespace, name}
}

func (k objectKey) ref() verdict.Ref {
	r := verdict.Ref{Kind: k.kind, Namespace: k.namespace, Name: k.name}
	for _, known := range kinds() {
		if known.name == k.kind {
			r.APIVersion = known.apiVersion
		}
	}
	return r
}

func (o Object) key() objectKey { return objectKey{o.Ref.Kind, o.Ref.Namespace, o.Ref.Name} }

// content is what one version of a file says.
type content struct {
	objects  []Object // no object twice
	verdicts []verdict.Verdict
	broken   []brokenPart
	unsaid   int // verdicts beyond maxVerdicts
}

// brokenPart is an object or a document, or the whole file, that cannot be
// taken: what it said last is kept.
type brokenPart struct {
	key     objectKey // zero: unknown
	guessed bool      // the key may be wrong
	verdict int       // its index in content.verdicts, or -1
}

// Read reads one file or stream of manifests, at most 256 MiB; name stands in
// the verdicts. Of an object that occurs twice the first is given. progress is
// told how it goes; it may be nil.
func Read(r io.Reader, name string, progress func(Progress)) ([]Object, []verdict.Verdict) {
	return read(r, name, defaultLimits().fileBytes, progress)
}

func read(r io.Reader, name string, limit int64, progress func(Progress)) ([]Object, []verdict.Verdict) {
	data, err := io.ReadAll(io.LimitReader(r, limit+1))
	if err == nil && int64(len(data)) > limit {
		err = tooLarge(limit)
	}
	c := &content{}
	if err != nil {
		c = unreadable(name, err)
	} else {
		c = parse(data, name, progress)
	}
	objects, verdicts := c.settle(nil)
	sortVerdicts(&verdicts)
	return objects, verdicts
}

func unreadable(name string, err error) *content {
	c := &content{}
	c.reject(objectKey{}, false, fileVerdict(name, 0, verdict.Rejected, plain(err)))
	return c
}

// parse reads all objects of a file. progress is told how it goes; it may be nil.
func parse(data []byte, name string, progress func(Progress)) *content {
	m := &meter{Progress{File: name, Total: int64(len(data))}, progress}
	p := &parser{content: &content{}, name: name, at: map[objectKey]Object{}, meter: m}
	s := &splitter{data: data, name: name, meter: m}
	s.documents(func(d *document, bad *damage, number int) bool {
		where := ""
		if number > 1 {
			where = fmt.Sprintf("document %d", number)
		}
		if bad != nil {
			p.damaged(bad, where)
		} else {
			p.value(part{document: d, where: where}, 0)
		}
		return len(p.broken) < maxBroken
	})
	p.skip()
	if len(p.broken) >= maxBroken {
		p.reject(objectKey{}, false, fileVerdict(name, 0, verdict.Rejected,
			fmt.Sprintf("more than %d mistakes; the rest of the file is not read", maxBroken)))
	}
	if p.unsaid > 0 {
		v := fileVerdict(name, 0, verdict.Warning, fmt.Sprintf("there is more to say about this file than the %d findings that are given: %d are left out", maxVerdicts, p.unsaid))
		p.verdicts = append(p.verdicts, v)
	}
	return p.content
}

// damaged notes a document that cannot be parsed.
func (p *parser) damaged(bad *damage, where string) {
	v := fileVerdict(p.name, bad.line, verdict.Rejected, bad.message)
	if where != "" {
		v.Message += " (" + where + ")"
	}
	v.Remedy = bad.remedy
	p.reject(bad.key, true, v)
}

// parser gathers the content of one file.
type parser struct {
	*content
	name string
	at   map[objectKey]Object // where an object was defined first
	*meter
	strays []stray
}

// part is a value inside a file: a document, or an item of a List in one.
type part struct {
	*document
	where string // in words, for what names no object; empty for the first document
	// What an item of a typed list may leave out.
	apiVersion, kind string
}

func (p *parser) where(line int) string { return fmt.Sprintf("%s:%d", p.name, line) }

// value reads an object or a List.
func (p *parser) value(v part, depth int) {
	if len(p.broken) >= maxBroken {
		return
	}
	h, field, message := readHeader(v)
	switch {
	case message != "":
		key := objectKey{}
		if k, ok, _ := kindOf(h.apiVersion, h.kind); ok && h.name != "" {
			key = k.key(h.namespace, h.name)
		}
		if depth == 0 && isStray(p.name, v.json) {
			p.strays = append(p.strays, stray{v, field, message})
			return
		}
		p.invalid(v, key, verdict.Rejected, field, message, headerRemedy(field, v.json))
	case h.isList && depth >= maxListDepth:
		p.invalid(v, objectKey{}, verdict.Rejected, "items", fmt.Sprintf("Lists lie more than %d deep in each other", maxListDepth), "")
	case h.isList:
		p.list(v, h, depth)
	default:
		p.object(v, h)
	}
}

func (p *parser) list(v part, h header, depth int) {
	if p.merged(v) {
		return
	}
	for i, d := range v.elements(h.items) {
		next := part{document: d, where: itemOf(v.where, i)}
		if h.kind != "List" {
			next.apiVersion, next.kind = h.apiVersion, strings.TrimSuffix(h.kind, "List")
		}
		p.value(next, depth+1)
		if v.items == nil && depth == 0 {
			p.count(len(d.text))
		}
	}
}

// merged tells of two objects in one document, of which one would be lost.
func (p *parser) merged(v part) bool {
	twice := v.repeatedHeader()
	if twice.path == "" {
		return false
	}
	p.reject(objectKey{}, false, verdict.Verdict{Object: verdict.Ref{Kind: "File", Name: p.name},
		Severity: verdict.Rejected, Reason: verdict.ObjectInvalid, Field: twice.path,
		Message: "occurs twice in one document", Remedy: `put a line "---" between two objects`,
		File: p.where(twice.line)})
	return true
}

// object reads one object of any kind.
func (p *parser) object(v part, h header) {
	k, known, exact := kindOf(h.apiVersion, h.kind)
	if !known {
		if k, field, ok := meant(h.apiVersion, h.kind); ok {
			p.misspelt(v, h, k, field)
			return
		}
		p.ignored(v, h)
		return
	}
	key := k.key(h.namespace, h.name)
	if h.name == "" {
		key = objectKey{}
	}
	if !exact {
		field, message := "apiVersion", fmt.Sprintf("%s %s is not read", h.apiVersion, h.kind)
		remedy := fmt.Sprintf("convert it to %s: kubectl convert --output-version %s -f FILE", k.apiVersion, k.apiVersion)
		if h.kind != k.name {
			field, remedy = "kind", fmt.Sprintf("write apiVersion: %s and kind: %s", k.apiVersion, k.name)
		}
		p.invalid(v, key, verdict.Rejected, field, message, remedy)
		return
	}
	if p.merged(v) {
		return
	}
	obj := k.make()
	odd, err := kjson.UnmarshalStrict(v.json, obj, kjson.DisallowUnknownFields, kjson.DisallowDuplicateFields)
	if err != nil {
		field, message := typeFault(v.json, err)
		p.invalid(v, key, verdict.Rejected, field, message, "")
		return
	}
	obj.SetNamespace(k.key(h.namespace, h.name).namespace)
	setDefaults(obj)
	if faults := validate(obj); len(faults) > 0 {
		for _, f := range faults {
			p.invalid(v, key, verdict.Rejected, f.field, f.message, "")
		}
		return
	}
	if !p.take(v, key, obj) {
		return
	}
	p.warn(v, key, obj, odd)
}

// warn tells what is odd about an object that is taken.
func (p *parser) warn(v part, key objectKey, obj metav1.Object, odd []error) {
	twice := v.doubtful
	for _, err := range odd {
		field := ""
		if fe, ok := err.(kjson.FieldError); ok {
			field = fe.FieldPath()
		}
		if strings.HasPrefix(err.Error(), "duplicate") {
			twice = true
			continue
		}
		p.invalid(v, key, verdict.Warning, field, "unknown field; it has no effect", "remove it or correct its name or place")
	}
	if twice {
		for _, r := range v.findRepeated() {
			p.say(verdict.Verdict{Object: key.ref(), Severity: verdict.Warning, Reason: verdict.ObjectInvalid, Field: r.path,
				Message: "occurs twice; the last one holds", Remedy: "remove one", File: p.where(r.line)})
		}
	}
	for _, f := range oddities(obj) {
		p.invalid(v, key, verdict.Warning, f.field, f.message, "")
	}
}

// take adds the object unless the file gave it already.
func (p *parser) take(v part, key objectKey, obj metav1.Object) bool {
	view.Trim(obj)
	o := Object{Ref: key.ref(), File: p.name, Line: v.line, Obj: obj}
	if first, twice := p.at[key]; twice {
		p.say(duplicate(o, first))
		return false
	}
	p.at[key] = o
	p.objects = append(p.objects, o)
	return true
}

// ignored notes an object of a kind that is not read.
func (p *parser) ignored(v part, h header) {
	ref := verdict.Ref{Kind: h.kind, Namespace: h.namespace, Name: h.name, APIVersion: h.apiVersion}
	p.objects = append(p.objects, Object{Ref: ref, File: p.name, Line: v.line})
	if harmless(h.apiVersion, h.kind) {
		return
	}
	p.say(verdict.Verdict{Object: ref, Severity: verdict.Ignored, Reason: verdict.KindIgnored, Field: "kind",
		Message: fmt.Sprintf("Gatehouse does not read %s %s", h.apiVersion, h.kind),
		Remedy:  ignoredRemedy(h.apiVersion, h.kind), File: p.where(v.line)})
}

// misspelt refuses an object of a kind that does not exist, as the API server would.
func (p *parser) misspelt(v part, h header, k kind, field string) {
	key := objectKey{}
	if h.name != "" {
		key = k.key(h.namespace, h.name)
	}
	p.invalid(v, key, verdict.Rejected, field, fmt.Sprintf("there is no kind %s in %s", h.kind, h.apiVersion),
		fmt.Sprintf("did you mean apiVersion: %s and kind: %s?", k.apiVersion, k.name))
}

// invalid says what is wrong with a part. Rejected means that the part is lost.
func (p *parser) invalid(v part, key objectKey, s verdict.Severity, field, message, remedy string) {
	said := verdict.Verdict{Object: key.ref(), Severity: s, Reason: verdict.ObjectInvalid, Field: field,
		Message: message, Remedy: remedy, File: p.where(v.lineOf(field))}
	if key == (objectKey{}) {
		said.Object = verdict.Ref{Kind: "File", Name: p.name}
		if v.where != "" {
			said.Message += " (" + v.where + ")"
		}
	}
	if s == verdict.Rejected {
		p.reject(key, false, said)
	} else {
		p.say(said)
	}
}

// say gives the verdict's index, or -1 if there are too many.
func (c *content) say(v verdict.Verdict) int {
	if len(c.verdicts) >= maxVerdicts {
		c.unsaid++
		return -1
	}
	c.verdicts = append(c.verdicts, v)
	return len(c.verdicts) - 1
}

func (c *content) reject(key objectKey, guessed bool, v verdict.Verdict) {
	c.broken = append(c.broken, brokenPart{key, guessed, c.say(v)})
}

// settle gives the file's objects and verdicts: where something is broken, its
// objects stay as they were last.
func (c *content) settle(last []Object) ([]Object, []verdict.Verdict) {
	if len(c.broken) == 0 {
		return c.objects, c.verdicts
	}
	good, had := map[objectKey]bool{}, map[objectKey]bool{}
	for _, o := range c.objects {
		good[o.key()] = true
	}
	for _, o := range last {
		had[o.key()] = true
	}
	meant, all := map[objectKey]bool{}, false
	for _, b := range c.broken {
		meant[b.key] = true
		all = all || b.key == objectKey{} || b.guessed && !had[b.key]
	}
	kept := 0
	for _, o := range last {
		if o.Obj != nil && !good[o.key()] && (all || meant[o.key()]) {
			c.objects = append(c.objects, o)
			kept++
		}
	}
	if kept > 0 {
		for _, b := range c.broken {
			if b.verdict >= 0 {
				c.verdicts[b.verdict].Message += "; what it last gave keeps serving"
			}
		}
	}
	return c.objects, c.verdicts
}

func fileVerdict(name string, line int, s verdict.Severity, message string) verdict.Verdict {
	v := verdict.Verdict{Object: verdict.Ref{Kind: "File", Name: name}, Severity: s, Reason: verdict.FileUnreadable,
		Field: name, Message: message, File: name}
	if line > 0 {
		v.Field = fmt.Sprintf("%s:%d", name, line)
		v.File = v.Field
	}
	return v
}

package translate

import (
	"slices"
	"sync"

	corev1 "k8s.io/api/core/v1"

	"gatehouse.dev/gatehouse/internal/ir"
	"gatehouse.dev/gatehouse/internal/translate/candidate"
	"gatehouse.dev/gatehouse/internal/translate/ingress"
	"gatehouse.dev/gatehouse/internal/translate/resolve"
	"gatehouse.dev/gatehouse/internal/verdict"
	"gatehouse.dev/gatehouse/internal/view"
)

// Memory keeps what a Build made for the next one: what each Ingress was
// lowered to, by the Ingress and all that it refers to; of each pattern who
// claims it, and what came of that. It is for one set of Options. Builds with
// the same Memory wait for each other.
type Memory struct {
	mu sync.Mutex
	memory
}

type memory struct {
	certificates *resolve.Certificates
	ingresses    ingress.Memory
	lowered      []*ingress.Lowered
	index        *index
	uses         *uses

	asked        bool             // for the fallback
	secrets      []*corev1.Secret // that there were then
	fallback     *resolve.Certificate
	fallbackSays []verdict.Verdict

	// lists are what the sorted verdicts were made of.
	lists    [][]verdict.Verdict
	verdicts []verdict.Verdict
}

// NewMemory gives an empty Memory.
func NewMemory() *Memory { return &Memory{} }

func (m *memory) reset(o Options) {
	*m = memory{certificates: o.Certificates, index: newIndex(), uses: newUses()}
	if m.certificates == nil {
		m.certificates = resolve.NewCertificates()
	}
}

func (m *Memory) build(v *view.View, o Options) (*ir.Config, *Report) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.index == nil {
		m.reset(o)
	}
	// Should this panic, the next Build begins with nothing.
	working := m.memory
	m.memory = memory{}
	cfg, report := working.build(v, o)
	m.memory = working
	return cfg, report
}

func (m *memory) build(v *view.View, o Options) (*ir.Config, *Report) {
	o.Certificates = m.certificates
	lowered, classVerdicts := m.ingresses.Lower(v, ingress.Options{
		IngressClass:   o.IngressClass,
		ControllerName: o.ControllerName,
		AnyClass:       o.AnyClass,
		Certificates:   o.Certificates,

		SSLRedirect:         o.SSLRedirect,
		VerifyUpstreams:     o.VerifyUpstreams,
		AllowCrossNamespace: o.AllowCrossNamespace,
	})
	a := &assembler{merger: &merger{
		index: m.claim(lowered), uses: m.uses, options: o, extra: map[string]int{},
	}, borrowed: map[string]int{}}
	a.merge()
	a.fallback = m.defaultCertificate(v, o)
	cfg := a.config()

	report := &Report{Generation: v.Generation, Verdicts: m.tell(a.merger, lowered, classVerdicts)}
	report.Ingresses = make([]*IngressReport, len(lowered))
	for i, x := range lowered {
		report.Ingresses[i] = &x.Report
	}
	return cfg, report
}

// claim brings the index up to date with what the Ingresses claim now.
func (m *memory) claim(lowered []*ingress.Lowered) *index {
	var gone, come []*candidate.Set
	collect := func(sets *[]*candidate.Set) func(*ingress.Lowered) {
		return func(l *ingress.Lowered) {
			if l.Set != nil {
				*sets = append(*sets, l.Set)
			}
		}
	}
	byObject := func(a, b *ingress.Lowered) int { return a.Object.Compare(b.Object) }
	view.Edits(m.lowered, lowered, byObject, collect(&gone), collect(&come))
	m.lowered = lowered
	for _, s := range gone {
		m.index.remove(s)
	}
	slices.SortFunc(come, func(a, b *candidate.Set) int { return a.Owner.Compare(b.Owner) })
	for _, s := range come {
		m.index.add(s)
	}
	return m.index
}

// defaultCertificate is asked for again when a Secret changed, and only then
// does what nobody reads any more fall into oblivion.
func (m *memory) defaultCertificate(v *view.View, o Options) *resolve.Certificate {
	if m.asked && view.Same(v.Secrets, m.secrets) {
		return m.fallback
	}
	fallback, verdicts := defaultCertificate(v, o)
	if m.fallback == nil || fallback == nil || m.fallback.ID != fallback.ID || m.fallback.Origin != fallback.Origin {
		m.fallback = fallback
	}
	m.fallbackSays, m.secrets, m.asked = verdicts, v.Secrets, true
	m.certificates.Sweep()
	return m.fallback
}

// tell gathers all verdicts. When nobody says anything new they are the same as
// before.
func (m *memory) tell(x *merger, lowered []*ingress.Lowered, more []verdict.Verdict) []verdict.Verdict {
	var lists [][]verdict.Verdict
	add := func(l []verdict.Verdict) {
		if len(l) > 0 {
			lists = append(lists, l)
		}
	}
	add(more)
	add(m.fallbackSays)
	add(x.verdicts)
	for _, l := range lowered {
		add(l.Verdicts)
	}
	for _, n := range x.nodes {
		add(n.verdicts)
	}
	same := func(a, b []verdict.Verdict) bool {
		return len(a) == len(b) && &a[0] == &b[0] || slices.Equal(a, b)
	}
	if !slices.EqualFunc(lists, m.lists, same) {
		m.lists, m.verdicts = lists, sortVerdicts(lists...)
	}
	return m.verdicts
}

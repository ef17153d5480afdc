package translate

import (
	"cmp"
	"maps"
	"slices"
	"sync"

	corev1 "k8s.io/api/core/v1"

	"gatehouse.dev/gatehouse/internal/ir"
	"gatehouse.dev/gatehouse/internal/sorted"
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
	lowered      sorted.List[*ingress.Lowered]
	reports      *sorted.Editor[*IngressReport] // of lowered
	index        *index
	uses         *uses
	served       *served
	said         *said
	terms        *terms

	asked    bool                        // for the fallback
	secrets  sorted.List[*corev1.Secret] // that there were then
	fallback *resolve.Certificate
}

// NewMemory gives an empty Memory.
func NewMemory() *Memory { return &Memory{} }

func (m *memory) reset(o Options) {
	*m = memory{certificates: o.Certificates, index: newIndex(), uses: newUses(), served: newServed(), said: newSaid(), terms: newTerms()}
	m.reports = sorted.NewEditor(sorted.List[*IngressReport]{}, compareReports)
	if m.certificates == nil {
		m.certificates = resolve.NewCertificates()
	}
}

func compareReports(a, b *IngressReport) int { return a.Object.Compare(b.Object) }

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
		DefaultForMissing:   o.DefaultForMissing,
		AllowCrossNamespace: o.AllowCrossNamespace,
	})
	m.said.by(aboutClasses, classVerdicts)
	m.claim(lowered)
	m.index.budget(cmp.Or(o.bound, maxNamespaceSteps))
	fallback := m.defaultCertificate(v, o)
	m.judgeTerms(v, o)
	a := &assembler{
		merger: &merger{index: m.index, uses: m.uses, said: m.said, options: o},
		served: m.served, fallback: fallback, borrowed: map[string]int{},
	}
	a.merge()
	cfg := a.config()
	return cfg, &Report{Generation: v.Generation, Ingresses: m.reports.List(), Verdicts: m.said.sorted(), Due: m.terms.due()}
}

// claim brings the index up to date with what the Ingresses claim now.
func (m *memory) claim(lowered sorted.List[*ingress.Lowered]) {
	var come []*candidate.Set
	sorted.Diff(m.lowered, lowered, ingress.CompareLowered, func(old, now *ingress.Lowered) {
		if old != nil {
			m.said.by(old, nil)
			m.said.by(aboutTerm{old}, nil)
			m.terms.forget(old)
			if old.Set != nil {
				m.index.remove(old.Set)
			}
			if now == nil {
				m.reports.Delete(&old.Report)
			}
		}
		if now != nil {
			m.said.by(now, now.Verdicts)
			m.terms.note(now)
			if now.Set != nil {
				come = append(come, now.Set)
			}
			m.reports.Set(&now.Report)
		}
	})
	m.lowered = lowered
	slices.SortFunc(come, func(a, b *candidate.Set) int { return a.Owner.Compare(b.Owner) })
	for _, s := range come {
		m.index.add(s)
	}
}

// defaultCertificate is asked for again when a Secret changed, and only then
// does what nobody reads any more fall into oblivion.
func (m *memory) defaultCertificate(v *view.View, o Options) *resolve.Certificate {
	if m.asked && sorted.Same(v.Secrets, m.secrets) {
		return m.fallback
	}
	fallback, verdicts := defaultCertificate(v, o)
	if m.fallback == nil || fallback == nil || m.fallback.ID != fallback.ID || m.fallback.Origin != fallback.Origin {
		m.fallback = fallback
	}
	m.said.by(aboutFallback, verdicts)
	m.terms.fallbackNext = o.Now // the verdict names the Secret as it is now
	m.secrets, m.asked = v.Secrets, true
	m.certificates.Sweep()
	return m.fallback
}

// said are the verdicts, by who has a part in them.
type said struct {
	lists    map[any][]verdict.Verdict
	changed  bool
	verdicts []verdict.Verdict // of all lists
}

// What has a part in verdicts, besides the Ingresses and the nodes.
type part int

const (
	aboutClasses part = iota
	aboutFallback
	aboutFallbackTerm
	aboutNames
	aboutGuests
)

func newSaid() *said { return &said{lists: map[any][]verdict.Verdict{}} }

// by puts a list in place of what the same one has said.
func (s *said) by(who any, what []verdict.Verdict) {
	if slices.Equal(s.lists[who], what) {
		return
	}
	s.changed = true
	if s.lists[who] = what; len(what) == 0 {
		delete(s.lists, who)
	}
}

// sorted gives all of them in order, without repetitions. As long as nobody says
// anything new they are the same memory.
func (s *said) sorted() []verdict.Verdict {
	if s.changed {
		s.changed = false
		all := sortVerdicts(slices.Collect(maps.Values(s.lists))...)
		if !slices.Equal(all, s.verdicts) {
			s.verdicts = all
		}
	}
	return s.verdicts
}

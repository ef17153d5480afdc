package match

import "gatehouse.dev/gatehouse/internal/ir"

// Guard is what lies before the endpoint of a Route.
type Guard struct {
	// Class is the same for those that ask the same of requests.
	Class int32
	// Local: no endpoint ever sees a request.
	Local bool
}

// closed is the Class of Routes that let nobody in. A redirect to HTTPS is one of
// them: what guards the Route there is not to be seen here.
const closed = -1

// Guards gives those of Routes.
func Guards(routes []*ir.Route) []Guard {
	out := make([]Guard, len(routes))
	var classes []ir.Security
	var known map[ir.Security]int32 // by the pointers in it; of one class there is none
	classOf := func(s ir.Security) int32 {
		if len(classes) > 0 && s == classes[0] {
			return 0
		}
		class, ok := known[s]
		if ok {
			return class
		}
		for int(class) < len(classes) && !classes[class].Equal(s) {
			class++
		}
		if int(class) == len(classes) {
			classes = append(classes, s)
		}
		if len(classes) > 1 {
			if known == nil {
				known = map[ir.Security]int32{}
			}
			known[s] = class
		}
		return class
	}
	for i, r := range routes {
		out[i] = Guard{Class: closed, Local: r.Action.Forward == nil}
		if to := r.Action.Redirect; r.Action.Respond == nil && (to == nil || to.Scheme == "") {
			out[i].Class = classOf(r.Security)
		}
	}
	return out
}

func (p *Paths) setGuards(guards []Guard, n int) {
	if guards == nil {
		guards = make([]Guard, n)
		for i := range guards {
			guards[i].Class = int32(i)
		}
	}
	for i := range p.Broken() {
		guards[i] = Guard{closed, true}
	}
	for _, g := range guards {
		if g.Class != guards[0].Class {
			p.guards = guards
			return
		}
	}
}

// guarded reports whether a request that selects the Route may get to an endpoint
// that others are kept from.
func (p *Paths) guarded(chosen int) bool {
	return p.guards != nil && chosen >= 0 && !p.guards[chosen].Local
}

// crosses reports whether the path selects a Route whose Guard is of another class.
// It is lookup, but asks the expressions of other classes first, of which there
// are few: those of the same class matter only when one of these matches.
func (p *Paths) crosses(path []byte, class int32, work *int) bool {
	best := int32(noRoute)
	if len(p.nodes) > 0 {
		best = p.walk(path)
	}
	other := p.firstExpression(path, best, work, func(c int32) bool { return c != class })
	if other == noRoute {
		if best == noRoute || p.guards[best].Class == class {
			return false
		}
		other = best
	}
	return p.firstExpression(path, other, work, func(c int32) bool { return c == class }) == noRoute
}

// firstExpression gives the first of the expressions before an index, of the classes
// that are asked for, that takes the path, or noRoute.
func (p *Paths) firstExpression(path []byte, before int32, work *int, asked func(class int32) bool) int32 {
	for i := range p.expressions {
		x := &p.expressions[i]
		if x.index >= before {
			break
		}
		if !asked(p.guards[x.index].Class) {
			continue
		}
		if *work -= len(x.prefix); *work < 0 {
			break
		}
		if !x.begins(path) {
			continue
		}
		if *work -= x.steps * (len(path) + 1); *work < 0 {
			break
		}
		if x.matches(path) {
			return x.index
		}
	}
	return noRoute
}

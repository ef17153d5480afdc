// Package candidate is what Ingress (and later Gateway API) objects are lowered
// to before conflicts between them are resolved: claims on hosts, paths and
// server names, each with its owner.
//
// It is pure data. It knows nothing of the API that a claim comes from, so that
// the merge need not either.
package candidate

import (
	"cmp"
	"time"

	"gatehouse.dev/gatehouse/internal/ir"
	"gatehouse.dev/gatehouse/internal/translate/resolve"
	"gatehouse.dev/gatehouse/internal/verdict"
)

// Owner is the object that claims come from.
type Owner struct {
	Ref     verdict.Ref
	Created time.Time
}

// Compare orders by precedence: the older comes first, then the lower
// namespace, name and kind.
func (o *Owner) Compare(p *Owner) int {
	return cmp.Or(
		o.Created.Compare(p.Created),
		cmp.Compare(o.Ref.Namespace, p.Ref.Namespace),
		cmp.Compare(o.Ref.Name, p.Ref.Name),
		cmp.Compare(o.Ref.Kind, p.Ref.Kind),
	)
}

// Set is everything that one object claims.
type Set struct {
	Owner *Owner
	// Hosts of its rules, without repetitions, in the order of the object.
	Hosts []ir.HostPattern
	// Routes in the order of the object: among equals the first wins.
	Routes []Route
	// TLS claims in the order of the object.
	TLS []TLS
}

// Route claims a path of a host, or with Default what is left of it.
type Route struct {
	Host  ir.HostPattern
	Route ir.Route
	// Backend is what Route forwards to; nil when it answers itself.
	Backend *ir.Backend
	// Default routes take the requests of the host that no other route takes.
	Default bool
	// Type is the path type as the user wrote it, for verdicts.
	Type string
	// Field of the object, for verdicts.
	Field string
}

// TLS claims a server name.
type TLS struct {
	Host ir.HostPattern
	// Certificate to show; nil when there is none, or none that is usable.
	Certificate *resolve.Certificate
	// Fallback: no Secret was named, the default certificate is asked for.
	Fallback bool
	// Field of the object, for verdicts.
	Field string
}

// Usable reports whether the claim can be served.
func (t *TLS) Usable() bool { return t.Certificate != nil || t.Fallback }

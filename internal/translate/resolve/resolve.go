// Package resolve looks up what objects refer to: Services with their ports,
// and TLS Secrets.
//
// It takes names and a View and gives what stands behind them, or a Problem.
// It decides nothing about what becomes of the route or host: that is the
// caller's. It does no I/O.
package resolve

import (
	corev1 "k8s.io/api/core/v1"

	"gatehouse.dev/gatehouse/internal/verdict"
)

// Objects are those that references can lead to; nil: there is none. A
// view.View is one.
type Objects interface {
	Service(namespace, name string) *corev1.Service
	Secret(namespace, name string) *corev1.Secret
}

// Problem says why a reference leads nowhere.
type Problem struct {
	// Field is the part of the reference that is wrong, relative to it:
	// "name", "port.number".
	Field   string
	Reason  verdict.Reason
	Message string
	Remedy  string
}

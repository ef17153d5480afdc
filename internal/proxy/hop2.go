package proxy

import (
	"gatehouse.dev/gatehouse/internal/ir"
	"gatehouse.dev/gatehouse/internal/proxy/upstream"
)

func (x *exchange) prepare2() (bool, ir.Reason)                               { panic("x") }
func (x *exchange) connect2(ep *upstream.Endpoint, r *route, t *target) error { panic("x") }
func isUnprocessed(err error) bool                                            { return false }

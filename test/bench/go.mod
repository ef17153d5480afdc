// The benchmark is a module of its own, so that what it starts and measures
// with never meets the product's dependencies.
module gatehouse.dev/gatehouse/test/bench

go 1.26.0

require (
	golang.org/x/net v0.62.0
	golang.org/x/sys v0.49.0
)

require golang.org/x/text v0.43.0 // indirect

// Package match is the compiled router of the data plane: it says which Host
// and which Route a request selects, and what its canonical path is.
//
// It takes the patterns and path matches of an ir.Config, in their order of
// precedence, and gives immutable tables that any number of goroutines may
// read. Every table answers exactly what a linear scan with the reference
// (ir.HostPattern.Matches, Matches) answers. Lookups neither allocate nor
// lock, and take time in the length of what is looked up, not in the number of
// routes; but regular expressions are tried in their order, each in linear time.
//
// It never does I/O, never logs and never decides what an answer looks like:
// it finds that an authority or a path is malformed or ambiguous, and the
// caller answers 400. It imports the standard library and ir only.
package match

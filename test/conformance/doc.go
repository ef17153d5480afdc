// Package conformance lets other people's programs judge Gatehouse: test suites
// of protocols, clients of other languages and libraries, scanners. Its tests
// build the gatehouse binary, with the race detector, serve manifests with it on
// loopback, and talk to it from outside only. It never looks inside, but for
// TestH2Spec, which judges the HTTP/2 engine alone.
package conformance

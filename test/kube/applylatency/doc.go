// Package applylatency measures how long a change made through a real API
// server takes to reach clients: from the return of the API call to the first
// answer that shows it, with many Ingresses present. It is a benchmark only,
// kept in this module for its dependencies; the module test/bench runs it and
// puts the figures into its tables.
//
//	go test -run '^$' -bench . -benchtime 100x ./applylatency
package applylatency

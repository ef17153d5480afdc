package peer

import (
	"fmt"
	"strings"
)

// Path is one path of every host.
type Path struct {
	Path   string // without a slash at its end
	Exact  bool   // else the path and all below it, element by element
	Target string // of the requests that the load sends
}

// Table is what every proxy routes: each host has each path.
type Table struct {
	Hosts []string
	Paths []Path
}

// NewTable makes a Table of n hosts with three paths each, as a small site has
// them: two prefixes and one exact path, and nothing at /.
func NewTable(hosts int) Table {
	t := Table{Paths: []Path{
		{Path: "/api", Target: "/api/v1/orders/4711"},
		{Path: "/shop/cart", Target: "/shop/cart/items"},
		{Path: "/health", Exact: true, Target: "/health"},
	}}
	for i := range hosts {
		t.Hosts = append(t.Hosts, fmt.Sprintf("site%d.bench.example", i))
	}
	return t
}

// Requests are the requests of the load: one for each host and path.
func (t Table) Requests() [][]byte {
	var all [][]byte
	for _, p := range t.Paths {
		for _, h := range t.Hosts {
			all = append(all, Request(h, p.Target, ""))
		}
	}
	return all
}

// patterns are the Table's rows for net/http's ServeMux.
func (t Table) patterns() []string {
	var all []string
	for _, h := range t.Hosts {
		for _, p := range t.Paths {
			all = append(all, h+p.Path)
			if !p.Exact {
				all = append(all, h+p.Path+"/")
			}
		}
	}
	return all
}

// Request is a GET as the load sends it; fields are added lines.
func Request(host, target, fields string) []byte {
	return []byte("GET " + target + " HTTP/1.1\r\nHost: " + host + "\r\nUser-Agent: bench\r\nAccept: */*\r\n" + fields + "\r\n")
}

// label is a host's name for use in names.
func label(host string) string {
	name, _, _ := strings.Cut(host, ".")
	return name
}

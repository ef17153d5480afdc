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
	Hosts    []string
	Paths    []Path
	Services []string // the hosts share them in turn; all have the same endpoint
}

// mostServices keeps the connections to the backend few where hosts are many.
const mostServices = 100

// Service is that of the host with the number i.
func (t Table) Service(i int) string { return t.Services[i%len(t.Services)] }

// NewTable makes a Table of so many hosts with up to three paths each, as a small
// site has them: two prefixes and one exact path, and nothing at /.
func NewTable(hosts, paths int) Table {
	t := Table{Paths: []Path{
		{Path: "/api", Target: "/api/v1/orders/4711"},
		{Path: "/shop/cart", Target: "/shop/cart/items"},
		{Path: "/health", Exact: true, Target: "/health"},
	}[:paths]}
	for i := range min(hosts, mostServices) {
		t.Services = append(t.Services, fmt.Sprintf("service%d", i))
	}
	for i := range hosts {
		t.Hosts = append(t.Hosts, fmt.Sprintf("site%d.bench.example", i))
	}
	return t
}

// Requests are the requests of the load: what ask makes of each host and path, in
// an order in which neighbours have nothing in common.
func (t Table) Requests(ask func(host, target string) []byte) [][]byte {
	var all [][]byte
	for _, p := range t.Paths {
		for _, h := range t.Hosts {
			all = append(all, ask(h, p.Target))
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

// Browse is a GET as a browser sends it, about 700 bytes.
func Browse(host, target string) []byte {
	return []byte("GET " + target + " HTTP/1.1\r\nHost: " + host + "\r\nConnection: keep-alive\r\n" +
		"Cache-Control: max-age=0\r\nsec-ch-ua: \"Chromium\";v=\"130\", \"Not?A_Brand\";v=\"99\"\r\nsec-ch-ua-mobile: ?0\r\n" +
		"sec-ch-ua-platform: \"Linux\"\r\nUpgrade-Insecure-Requests: 1\r\n" +
		"User-Agent: Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/130.0.0.0 Safari/537.36\r\n" +
		"Accept: text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,image/webp,*/*;q=0.8\r\n" +
		"Sec-Fetch-Site: same-origin\r\nSec-Fetch-Mode: navigate\r\nSec-Fetch-User: ?1\r\nSec-Fetch-Dest: document\r\n" +
		"Referer: http://" + host + "/shop\r\nAccept-Encoding: gzip, deflate, br\r\nAccept-Language: en-GB,en;q=0.9,de;q=0.8\r\n" +
		"Cookie: session=0123456789abcdef0123456789abcdef; theme=dark; seen=1\r\n\r\n")
}

// Post sends a body.
func Post(host, target string, body []byte) []byte {
	return fmt.Appendf(nil, "POST %s HTTP/1.1\r\nHost: %s\r\nUser-Agent: bench\r\nAccept: */*\r\nContent-Type: text/plain\r\nContent-Length: %d\r\n\r\n%s", target, host, len(body), body)
}

// some are at most n of the hosts, the first and the last among them.
func (t Table) some(n int) []string {
	if len(t.Hosts) <= n {
		return t.Hosts
	}
	var out []string
	for i := range n {
		out = append(out, t.Hosts[i*(len(t.Hosts)-1)/(n-1)])
	}
	return out
}

// label is a host's name for use in names.
func label(host string) string {
	name, _, _ := strings.Cut(host, ".")
	return name
}

package app

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strconv"
	"strings"

	"k8s.io/apimachinery/pkg/util/validation"

	"gatehouse.dev/gatehouse/internal/service"
	"gatehouse.dev/gatehouse/internal/translate"
)

// backendUsage is what --help says of --backend.
const backendUsage = "NAMESPACE/NAME[:PORT]=HOST:PORT (repeatable): what serves a Service of --manifests, in place of EndpointSlices; PORT of the Service, default all; HOST is an address or a name"

// readBackends reads the values of --backend.
func readBackends(values []string) (out []translate.Backend, err error) {
	var errs []error
	type port struct {
		key    service.Key
		number uint16
	}
	names := map[port]int{}
	count := map[port]int{}
	for _, v := range values {
		b, wrong := parseBackend(v)
		if wrong != "" {
			errs = append(errs, fmt.Errorf("--backend %q: %s; give NAMESPACE/NAME=HOST:PORT, such as shop/web=127.0.0.1:3000", v, wrong))
			continue
		}
		at := port{b.Service, b.Port}
		if count[at]++; !isAddress(b.Host) {
			names[at]++
		}
		if names[at] > 0 && count[at] > 1 {
			errs = append(errs, fmt.Errorf("--backend %q: a Service has several addresses, or one name; give addresses only", v))
		}
		out = append(out, b)
	}
	return out, errors.Join(errs...)
}

func parseBackend(v string) (b translate.Backend, wrong string) {
	name, target, ok := strings.Cut(v, "=")
	if !ok {
		return b, "there is no ="
	}
	name, number, hasPort := strings.Cut(name, ":")
	if hasPort {
		if b.Port, ok = parsePort(number); !ok {
			return b, "the Service's port " + strconv.Quote(number) + " is not a number from 1 to 65535"
		}
	}
	b.Service.Namespace, b.Service.Name, ok = strings.Cut(name, "/")
	if !ok || len(validation.IsDNS1123Label(b.Service.Namespace)) > 0 || len(validation.IsDNS1123Label(b.Service.Name)) > 0 {
		return b, strconv.Quote(name) + " is not the namespace and the name of a Service"
	}
	host, number, err := net.SplitHostPort(target)
	if err != nil {
		return b, strconv.Quote(target) + " is not HOST:PORT"
	}
	if b.HostPort, ok = parsePort(number); !ok {
		return b, "the port " + strconv.Quote(number) + " is not a number from 1 to 65535"
	}
	b.Host = strings.TrimSuffix(strings.ToLower(host), ".")
	if !isAddress(b.Host) && len(validation.IsDNS1123Subdomain(b.Host)) > 0 {
		return b, strconv.Quote(host) + " is neither an address nor a name"
	}
	return b, ""
}

func isAddress(host string) bool {
	a, err := netip.ParseAddr(host)
	return err == nil && a.Zone() == ""
}

func parsePort(s string) (uint16, bool) {
	n, err := strconv.ParseUint(s, 10, 16)
	return uint16(n), err == nil && n > 0
}

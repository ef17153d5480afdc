package testserver

import (
	"fmt"
	"os"
	"time"
)

// Options of a Server. The zero value serves on no port.
type Options struct {
	HTTPAddr  string // HTTP/1.1 and HTTP/2 with prior knowledge, in the clear
	HTTPSAddr string // HTTP/1.1 and HTTP/2 by ALPN
	GRPCAddr  string // gRPC in the clear

	// CertFile and KeyFile are PEM files; without them the server makes a
	// certificate for any name by itself. A client's certificate is asked for;
	// with ClientCAFile it must be there and be signed by that authority.
	CertFile, KeyFile, ClientCAFile string

	Pod, Namespace, Node, IP string // who answers

	// Collector is the HOST:PORT of a Collector; empty for none.
	Collector string

	// Abrupt ends at once when told to, as a badly made server does. Otherwise
	// the server goes on accepting for Grace, since endpoints leave the slices,
	// and the proxies' tables, only a while after the pod was told to end; each
	// answer then says that the connection ends. After that it takes nothing
	// new, and what is open has Drain to end.
	Abrupt       bool
	Grace, Drain time.Duration
}

// FromEnvironment reads Options from HTTP_ADDR (:8080), HTTPS_ADDR (:8443),
// GRPC_ADDR (:9090) ("off" for none); TLS_CERT, TLS_KEY, CLIENT_CA; POD_NAME
// (the host's name), POD_NAMESPACE, NODE_NAME, POD_IP (from the downward API);
// COLLECTOR; END (graceful or abrupt), GRACE (5s) and DRAIN (20s). The default
// terminationGracePeriodSeconds, 30, is enough for the default times.
func FromEnvironment() (Options, error) {
	host, err := os.Hostname()
	if err != nil {
		return Options{}, fmt.Errorf("cannot read the host's name: %w", err)
	}
	o := Options{
		HTTPAddr: address("HTTP_ADDR", ":8080"), HTTPSAddr: address("HTTPS_ADDR", ":8443"),
		GRPCAddr: address("GRPC_ADDR", ":9090"),
		CertFile: os.Getenv("TLS_CERT"), KeyFile: os.Getenv("TLS_KEY"), ClientCAFile: os.Getenv("CLIENT_CA"),
		Pod: variable("POD_NAME", host), Namespace: os.Getenv("POD_NAMESPACE"),
		Node: os.Getenv("NODE_NAME"), IP: os.Getenv("POD_IP"), Collector: os.Getenv("COLLECTOR"),
	}
	switch end := variable("END", "graceful"); end {
	case "graceful":
	case "abrupt":
		o.Abrupt = true
	default:
		return o, fmt.Errorf("cannot read END: %q is neither graceful nor abrupt", end)
	}
	if o.Grace, err = duration("GRACE", 5*time.Second); err != nil {
		return o, err
	}
	o.Drain, err = duration("DRAIN", 20*time.Second)
	return o, err
}

func variable(name, otherwise string) string {
	if v, ok := os.LookupEnv(name); ok {
		return v
	}
	return otherwise
}

func address(name, otherwise string) string {
	if addr := variable(name, otherwise); addr != "off" {
		return addr
	}
	return ""
}

func duration(name string, otherwise time.Duration) (time.Duration, error) {
	d, err := time.ParseDuration(variable(name, otherwise.String()))
	if err != nil || d < 0 {
		return 0, fmt.Errorf("cannot read %s: %q is no duration", name, os.Getenv(name))
	}
	return d, nil
}

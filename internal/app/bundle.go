package app

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"time"

	"github.com/spf13/cobra"
)

// ErrIncomplete is what `gatehouse bundle` ends with when the archive was
// written without some of its parts: it names them in its output.
var ErrIncomplete = errors.New("incomplete bundle")

const (
	// partTimeout bounds the wait for one part; after one that took as long
	// the others get hungTimeout: the program hangs.
	partTimeout = 15 * time.Second
	hungTimeout = 2 * time.Second
	// maxPart bounds one part, in bytes: a configuration of 10,000 Ingresses
	// has about a fifth of it.
	maxPart = 128 << 20
)

// part is a file of the bundle.
type part struct {
	name     string
	path     string // where it is asked for
	about    string
	optional string // not empty: why it may be missing
	anyway   bool   // an answer other than 200 says something too
}

// parts are the files of a bundle that come from the running program.
var parts = []part{
	{name: "readyz.txt", path: "/readyz", about: "whether it is ready, and why not", anyway: true},
	{name: "healthz.txt", path: "/healthz", about: "whether it runs at all", anyway: true},
	{name: "process.json", path: "/debug/process", about: "version, flags, environment (only what is no secret), memory"},
	{name: "log.jsonl", path: "/debug/log", about: "the last verdicts, warnings and errors, and lines of level info: up to 256 of each"},
	{name: "failures.jsonl", path: "/debug/failures", about: "the last 100 requests that failed, without queries, users and clients"},
	{name: "verdicts.json", path: "/debug/verdicts", about: "what is wrong with which object, and the remedy"},
	{name: "upstreams.json", path: "/debug/upstreams", about: "backends with their endpoints: connections, and who is ejected and why"},
	{name: "certificates.json", path: "/debug/certificates", about: "the certificates that are shown, and when they expire"},
	{name: "config.json", path: "/debug/config", about: "the configuration that serves; keys and passwords are left out"},
	{name: "report.json", path: "/debug/report", about: "what translation says about each object"},
	{name: "metrics.txt", path: "/metrics", about: "all metrics, in Prometheus' text format"},
	{name: "goroutines.txt", path: "/debug/goroutines", about: "what all goroutines do"},
	{name: "heap.txt", path: "/debug/pprof/heap?debug=1", about: "what holds memory", optional: "only with --pprof"},
}

func bundleCommand(version string, std Streams) *cobra.Command {
	output, addr := "", Defaults().AdminAddr
	cmd := &cobra.Command{
		Use:   "bundle",
		Short: "Write a diagnostics archive of a running Gatehouse",
		Long: `Gather what explains a running Gatehouse into one tar.gz of text and JSON files:
readiness, log, failed requests, verdicts, endpoints, configuration, metrics,
flags, goroutines. It is asked for on the admin address of the process, so run
it where that can be reached, which is usually inside the Pod:

  kubectl exec -n gatehouse POD -- /gatehouse bundle -o - > bundle.tar.gz

Private keys, passwords, tokens and the data of Secrets are never in it; names
of objects and hosts, and addresses of endpoints are.

When a part cannot be had, the rest is written, README.txt and standard error
name what is missing, and the exit status is 1; without an archive it is 2, also
when nothing answers at the address: then no file is left.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := fromEnvironment(cmd.Flags()); err != nil {
				return err
			}
			if !cmd.Flags().Changed("admin-addr") {
				addr = adminAddrOf(firstProcess, addr)
			}
			from, err := adminURL(addr)
			if err != nil {
				return fmt.Errorf("--admin-addr %q: %w", addr, err)
			}
			b := &bundle{version: version, from: from, made: time.Now().UTC(), timeout: partTimeout, client: &http.Client{Transport: &http.Transport{Proxy: nil}}}
			defer b.client.CloseIdleConnections()
			if err := b.reach(cmd.Context()); err != nil {
				return err
			}
			if output == "-" {
				return b.toStream(cmd.Context(), std)
			}
			return b.toFile(cmd.Context(), std, output)
		},
	}
	f := cmd.Flags()
	f.SortFlags = false
	f.StringVarP(&output, "output", "o", "", "file to write, - for standard output; default gatehouse-bundle-TIME.tar.gz here")
	f.StringVar(&addr, "admin-addr", addr, "admin address of the running process; default that of process 1")
	return cmd
}

// firstProcess is the command line of the container's program, when that is seen
// from here: a bundle is mostly asked for by kubectl exec.
const firstProcess = "/proc/1/cmdline"

// adminAddrOf gives the --admin-addr of the gatehouse whose command line the file
// holds, or the address given.
func adminAddrOf(file, otherwise string) string {
	data, err := os.ReadFile(file)
	if err != nil {
		return otherwise
	}
	args := strings.Split(strings.TrimSuffix(string(data), "\x00"), "\x00")
	if filepath.Base(args[0]) != "gatehouse" {
		return otherwise
	}
	for i, a := range args {
		if v, ok := strings.CutPrefix(a, "--admin-addr="); ok {
			return v
		}
		if a == "--admin-addr" && i+1 < len(args) {
			return args[i+1]
		}
	}
	return otherwise
}

// adminURL is where the address can be reached from here.
func adminURL(addr string) (string, error) {
	a, err := parseAddr(addr)
	switch {
	case err != nil:
		return "", fmt.Errorf("%w; give host:port with an IP address, or :port", err)
	case !a.IsValid():
		return "", errors.New("a bundle needs the admin address; serve without it offers nothing to gather")
	case a.Addr().IsUnspecified():
		a = netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, 0, 0, 1}), a.Port())
	}
	return "http://" + a.String(), nil
}

// bundle is one archive in the making.
type bundle struct {
	version string // of this program, which may not be the one that runs
	from    string
	made    time.Time
	client  *http.Client
	timeout time.Duration
	missing []string
}

// reach says that nothing runs where the bundle is to come from, before an archive
// of nothing but errors is made. A program that hangs still takes connections.
func (b *bundle) reach(ctx context.Context) error {
	addr := strings.TrimPrefix(b.from, "http://")
	c, err := (&net.Dialer{Timeout: b.timeout}).DialContext(ctx, "tcp", addr)
	if err != nil {
		var op *net.OpError
		if errors.As(err, &op) {
			err = op.Err
		}
		return fmt.Errorf("nothing answers at %s: %w; is gatehouse running here, and is this its --admin-addr?", addr, err)
	}
	return c.Close()
}

func (b *bundle) toStream(ctx context.Context, std Streams) error {
	if f, ok := std.Out.(*os.File); ok {
		if i, err := f.Stat(); err == nil && i.Mode()&os.ModeCharDevice != 0 && i.Mode()&os.ModeDevice != 0 && f.Name() != os.DevNull {
			return errors.New("standard output is a terminal; redirect it to a file, or give --output FILE")
		}
	}
	if err := b.write(ctx, std.Out); err != nil {
		return fmt.Errorf("cannot write bundle: %w", err)
	}
	return b.end(std, "standard output")
}

func (b *bundle) toFile(ctx context.Context, std Streams, name string) error {
	if name == "" {
		name = "gatehouse-bundle-" + b.made.Format("20060102T150405Z") + ".tar.gz"
	}
	f, err := os.OpenFile(name, os.O_CREATE|os.O_WRONLY|os.O_TRUNC, 0o600)
	if err != nil {
		return fmt.Errorf("cannot write bundle: %w; --output - writes to standard output", err)
	}
	err = errors.Join(b.write(ctx, f), f.Close())
	if err != nil {
		os.Remove(name)
		return fmt.Errorf("cannot write bundle: %w", err)
	}
	return b.end(std, name)
}

// end says what there is and what not, on standard error: standard output may
// be the archive.
func (b *bundle) end(std Streams, where string) error {
	fmt.Fprintln(std.Err, "bundle written to", where)
	if len(b.missing) == 0 {
		return nil
	}
	for _, m := range b.missing {
		fmt.Fprintln(std.Err, "missing:", m)
	}
	return ErrIncomplete
}

// write makes the archive. README.txt comes last, since it says what is there.
func (b *bundle) write(ctx context.Context, w io.Writer) error {
	gz := gzip.NewWriter(w)
	tw := tar.NewWriter(gz)
	var list strings.Builder
	for _, p := range parts {
		data, err := b.fetch(ctx, p)
		switch {
		case err == nil:
			fmt.Fprintf(&list, "  %-16s %s\n", p.name, p.about)
			if err := b.add(tw, p.name, data); err != nil {
				return err
			}
		case p.optional != "":
			fmt.Fprintf(&list, "  %-16s not there: %s\n", p.name, p.optional)
		default:
			fmt.Fprintf(&list, "  %-16s MISSING: %v\n", p.name, err)
			b.missing = append(b.missing, p.name+": "+err.Error())
		}
	}
	if err := b.add(tw, "README.txt", []byte(b.readme(list.String()))); err != nil {
		return err
	}
	return errors.Join(tw.Close(), gz.Close())
}

func (b *bundle) readme(list string) string {
	host, _ := os.Hostname()
	return fmt.Sprintf(`Diagnostics of Gatehouse
made %s on %s from %s
by gatehouse %s %s %s/%s

%s
Read readyz.txt and log.jsonl first, then verdicts.json for what is wrong with
objects, failures.jsonl for what clients saw, upstreams.json for endpoints that
are avoided. docs/troubleshooting.md says what to look for.

Private keys, passwords, tokens and the data of Secrets are not in here. Names of
objects and hosts, paths of failed requests and addresses of endpoints are.
`, b.made.Format(time.RFC3339), host, b.from, b.version, runtime.Version(), runtime.GOOS, runtime.GOARCH, list)
}

func (b *bundle) add(tw *tar.Writer, name string, data []byte) error {
	if err := tw.WriteHeader(&tar.Header{Name: "gatehouse-bundle/" + name, Mode: 0o644, Size: int64(len(data)), ModTime: b.made, Format: tar.FormatUSTAR}); err != nil {
		return err
	}
	_, err := tw.Write(data)
	return err
}

// fetch asks the running program for a part.
func (b *bundle) fetch(ctx context.Context, p part) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, b.timeout)
	defer cancel()
	defer func() {
		if errors.Is(ctx.Err(), context.DeadlineExceeded) {
			b.timeout = min(b.timeout, hungTimeout)
		}
	}()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, b.from+p.path, nil)
	if err != nil {
		return nil, err
	}
	res, err := b.client.Do(req)
	if err != nil {
		var op *net.OpError
		if errors.As(err, &op) && op.Op == "dial" {
			return nil, fmt.Errorf("%w (is this the --admin-addr of serve?)", op)
		}
		return nil, err
	}
	defer res.Body.Close()
	data, err := io.ReadAll(io.LimitReader(res.Body, maxPart+1))
	switch {
	case err != nil:
		return nil, fmt.Errorf("cut off after %d bytes: %w", len(data), err)
	case len(data) > maxPart:
		return nil, fmt.Errorf("larger than %d bytes", maxPart)
	case res.StatusCode != http.StatusOK && !p.anyway:
		return nil, fmt.Errorf("%s: %s", res.Status, bytes.TrimSpace(data[:min(len(data), 200)]))
	case p.anyway:
		data = append([]byte(res.Status+"\n"), data...)
	}
	return data, nil
}

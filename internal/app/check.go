package app

import (
	"encoding/json"
	"fmt"
	"io"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"gatehouse.dev/gatehouse/internal/ir"
	"gatehouse.dev/gatehouse/internal/proxy/certs"
	"gatehouse.dev/gatehouse/internal/source/files"
	"gatehouse.dev/gatehouse/internal/translate"
	"gatehouse.dev/gatehouse/internal/verdict"
	"gatehouse.dev/gatehouse/internal/view"
)

func checkCommand(std Streams) *cobra.Command {
	output := "text"
	o := Defaults()
	o.AllowLocalEndpoints = true
	cmd := &cobra.Command{
		Use:   "check DIR|FILE|-",
		Short: "Say what would be accepted and what not, without serving",
		Long: `Read manifests (of -, those on standard input) and give a verdict on every
object: accepted, or rejected with the field, the reason and the remedy. Nothing is served and no cluster is asked,
so Services and Secrets that an Ingress names must be among the manifests. Of
every host of an accepted Ingress it says what happens to TLS: offloaded with
which certificate, bridged to which Service and whether that one is verified, or
passed through.

Exit status: 0 when nothing is rejected, 1 when something is, 2 when the
manifests cannot be read.`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := fromEnvironment(cmd.Flags()); err != nil {
				return err
			}
			r, err := check(args[0], std, o)
			if err != nil {
				return err
			}
			switch output {
			case "json":
				enc := json.NewEncoder(std.Out)
				enc.SetIndent("", "  ")
				err = enc.Encode(r)
			case "text":
				err = r.print(std.Out)
			default:
				return fmt.Errorf("--output %q: give text or json", output)
			}
			if err == nil && r.Rejected > 0 {
				err = ErrRejected
			}
			return err
		},
	}
	f := cmd.Flags()
	f.StringVarP(&output, "output", "o", output, "text or json")
	f.StringVar(&o.IngressClass, "ingress-class", o.IngressClass, "as in serve")
	f.StringVar(&o.ControllerName, "controller-name", o.ControllerName, "as in serve")
	f.BoolVar(&o.AllowLocalEndpoints, "allow-local-endpoints", true, "as in serve")
	o.addAnnotationFlags(f)
	return cmd
}

// checkResult is the output of `gatehouse check -o json`.
type checkResult struct {
	Objects  []checkedObject   `json:"objects"`
	Files    []verdict.Verdict `json:"files,omitempty"` // about whole files
	Rejected int               `json:"rejected"`
}

// checkedObject is one object with what there is to say about it.
type checkedObject struct {
	Object   verdict.Ref       `json:"object"`
	File     string            `json:"file,omitempty"`
	Line     int               `json:"line,omitempty"`
	Result   string            `json:"result"` // accepted, rejected, ignored
	Verdicts []verdict.Verdict `json:"verdicts,omitempty"`
	// TLS says how an accepted Ingress's hosts are served under HTTPS.
	TLS []tlsMode `json:"tls,omitempty"`
	// Certificate says when that of a Secret holds, if it is shown.
	Certificate *certificateTerm `json:"certificate,omitempty"`
}

// check gives the verdicts on a directory, a file, or standard input for "-".
func check(path string, std Streams, o Options) (*checkResult, error) {
	progress := everySecond(func(p files.Progress) {
		fmt.Fprintf(std.Err, "reading %s: %d objects, %d %%\n", p.File, p.Objects, percent(p))
	})
	s, err := o.check()
	if err != nil {
		return nil, err
	}
	store := view.NewStore()
	var objects []files.Object
	var verdicts []verdict.Verdict
	if path == "-" {
		objects, verdicts = files.Read(std.In, "-", progress)
		for _, ob := range objects {
			if ob.Obj != nil {
				store.Apply([]metav1.Object{ob.Obj}, nil)
			}
		}
	} else {
		src := files.New(store, files.Options{Root: path, Progress: progress})
		if err := src.Load(); err != nil {
			return nil, err
		}
		objects, verdicts = src.Objects(), src.Verdicts()
	}
	selfSigned, err := certs.SelfSigned(time.Now())
	if err != nil {
		return nil, err
	}
	everywhere := netip.AddrPortFrom(netip.IPv6Unspecified(), 0)
	to := s.translation()
	to.HTTPAddr, to.HTTPSAddr, to.AnyClass, to.SelfSigned = everywhere, everywhere, true, selfSigned
	to.Now = time.Now()
	v := store.View()
	cfg, report := translate.Build(v, to)
	all := merge(verdicts, report.Verdicts, translate.Services(v, to, nil).Verdicts)
	result := collect(objects, all, report, tlsModes(cfg))
	result.addTerms(cfg, to.Now)
	return result, nil
}

// collect sorts the verdicts, and what there is to say about TLS, to their
// objects.
func collect(objects []files.Object, all []verdict.Verdict, report *translate.Report, modes []tlsMode) *checkResult {
	r := &checkResult{}
	type key struct{ kind, namespace, name string }
	keyOf := func(ref verdict.Ref) key { return key{ref.Kind, ref.Namespace, ref.Name} }
	byObject := map[key][]verdict.Verdict{}
	for _, v := range all {
		byObject[keyOf(v.Object)] = append(byObject[keyOf(v.Object)], v)
	}
	foreign := map[key]bool{}
	for ing := range report.Ingresses.All() {
		foreign[keyOf(ing.Object)] = !ing.Attached
	}
	tls := map[ingressName][]tlsMode{}
	for _, m := range modes {
		tls[m.ingress] = append(tls[m.ingress], m)
	}
	for _, ob := range objects {
		k := keyOf(ob.Ref)
		c := checkedObject{Object: ob.Ref, File: ob.File, Line: ob.Line, Result: "accepted", Verdicts: byObject[k]}
		delete(byObject, k)
		for i := range c.Verdicts {
			if v := &c.Verdicts[i]; v.File == "" && ob.File != "" {
				v.File = fmt.Sprintf("%s:%d", ob.File, ob.Line)
			}
		}
		switch {
		case slices.ContainsFunc(c.Verdicts, func(v verdict.Verdict) bool { return v.Severity == verdict.Rejected }):
			c.Result = "rejected"
			r.Rejected++
		case ob.Obj == nil, foreign[k]:
			c.Result = "ignored"
		case ob.Ref.Kind == "Ingress":
			c.TLS = tls[ingressName{ob.Ref.Namespace, ob.Ref.Name}]
		}
		r.Objects = append(r.Objects, c)
	}
	for _, v := range all {
		if _, left := byObject[keyOf(v.Object)]; left {
			r.Files = append(r.Files, v)
			if v.Severity == verdict.Rejected {
				r.Rejected++
			}
		}
	}
	return r
}

// print writes one line per object and one per finding.
func (r *checkResult) print(w io.Writer) error {
	var b strings.Builder
	line := func(v verdict.Verdict) {
		fmt.Fprintf(&b, "    %s %s", v.Severity, v.Reason)
		if v.Field != "" {
			fmt.Fprintf(&b, " at %s", v.Field)
		}
		fmt.Fprintf(&b, ": %s\n", v.Message)
		if v.Remedy != "" {
			fmt.Fprintf(&b, "        remedy: %s\n", v.Remedy)
		}
	}
	for _, o := range r.Objects {
		fmt.Fprintf(&b, "%-8s  %s", o.Result, o.Object)
		if o.File != "" {
			fmt.Fprintf(&b, "  (%s:%d)", o.File, o.Line)
		}
		b.WriteString("\n")
		for _, m := range o.TLS {
			host := m.Host
			if host == ir.AnyHost.String() {
				host = "any other host"
			}
			fmt.Fprintf(&b, "    tls: %s: %s\n", host, m.Text)
		}
		if o.Certificate != nil {
			fmt.Fprintf(&b, "    certificate: %s\n", o.Certificate.Text)
		}
		for _, v := range o.Verdicts {
			line(v)
		}
	}
	for _, v := range r.Files {
		fmt.Fprintf(&b, "%-8s  %s\n", strings.ToLower(string(v.Severity)), v.Object)
		line(v)
	}
	fmt.Fprintf(&b, "%d objects, %d rejected\n", len(r.Objects), r.Rejected)
	_, err := io.WriteString(w, b.String())
	return err
}

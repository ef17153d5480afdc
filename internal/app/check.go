package app

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"gatehouse.dev/gatehouse/internal/ir"
	"gatehouse.dev/gatehouse/internal/proxy/certs"
	"gatehouse.dev/gatehouse/internal/source/files"
	"gatehouse.dev/gatehouse/internal/translate"
	"gatehouse.dev/gatehouse/internal/verdict"
)

// checkRun is one call of check.
type checkRun struct {
	Options
	output, as string
	strict     bool
}

func checkCommand(std Streams) *cobra.Command {
	c := checkRun{Options: Defaults(), output: "text"}
	cmd := &cobra.Command{
		Use:   "check [flags] DIR|FILE|-...",
		Short: "Say what would be accepted and what not, without serving",
		Long: `Read manifests (of -, those on standard input; of --kubeconfig, the objects of a
cluster) and give a verdict on every object: accepted, or rejected with the
field, the reason and the remedy. Nothing is served and nothing is written.
Services and Secrets that an Ingress names must be among the manifests. Of every
host of an accepted Ingress it says what happens to TLS.

With --as ingress-nginx it judges the Ingresses of ingress-nginx as if Gatehouse
came in its place, and reports for each what moves: served the same, with
differences, without some of its settings, or closed. See docs/migrating.md.

Exit status: 0 when nothing is rejected (with --as: nothing closes), 1 when
something is, with --strict also when anything is ignored, differs or gets a
warning; 2 when a flag is wrong or something cannot be read at all.`,
		Example: `  gatehouse check deploy/                              manifests, recursively
  helm template shop ./chart | gatehouse check -       what a chart renders
  kubectl get ing,ingressclass,svc,endpointslice,secret -A -o yaml | gatehouse check --as ingress-nginx -
  gatehouse check --as ingress-nginx --kubeconfig ~/.kube/config
  gatehouse check --strict -o json deploy/ > report.json   for CI: docs/check.schema.json`,
		Args: cobra.ArbitraryArgs,
		RunE: func(cmd *cobra.Command, args []string) error {
			f := cmd.Flags()
			live, namespaces := f.Changed("kubeconfig"), f.Changed("watch-namespace")
			if err := fromEnvironment(f); err != nil {
				return err
			}
			// What the environment says of a cluster is for serve, where manifests are given.
			if len(args) > 0 && !live {
				c.Kubeconfig = ""
			}
			if c.Kubeconfig == "" && !namespaces {
				c.WatchNamespaces = nil
			}
			if err := c.complete(f, args); err != nil {
				return err
			}
			r, err := c.check(cmd.Context(), args, std)
			if err != nil {
				return err
			}
			if c.output == "json" {
				enc := json.NewEncoder(std.Out)
				enc.SetIndent("", "  ")
				err = enc.Encode(r)
			} else {
				err = r.print(std.Out)
			}
			if err == nil && r.fails(c.strict) {
				err = ErrRejected
			}
			return err
		},
	}
	f := cmd.Flags()
	f.StringVarP(&c.output, "output", "o", c.output, "text or json")
	f.StringVar(&c.as, "as", "", "the controller in whose place Gatehouse is to come: ingress-nginx. Its Ingresses are judged, and what moves is reported")
	f.BoolVar(&c.strict, "strict", false, "exit with 1 also for what is ignored, differs or gets a warning")
	f.StringVar(&c.Kubeconfig, "kubeconfig", "", "kubeconfig file of a cluster to judge, in place of manifests; it is only read")
	f.StringSliceVar(&c.WatchNamespaces, "watch-namespace", nil, "namespace to judge (repeatable), with --kubeconfig only; default all")
	f.StringVar(&c.IngressClass, "ingress-class", c.IngressClass, "as in serve; with --as that of the other controller")
	f.StringVar(&c.ControllerName, "controller-name", c.ControllerName, "as in serve; with --as that of the other controller")
	f.BoolVar(&c.AllowLocalEndpoints, "allow-local-endpoints", true, "as in serve; default false with --kubeconfig")
	c.addAnnotationFlags(f)
	return cmd
}

// complete settles what hangs on other flags, and refuses what makes no sense.
func (c *checkRun) complete(f *pflag.FlagSet, args []string) error {
	if c.output != "text" && c.output != "json" {
		return fmt.Errorf("--output %q: give text or json", c.output)
	}
	switch live := c.Kubeconfig != ""; {
	case live && len(args) > 0:
		return fmt.Errorf("--kubeconfig and manifests (%s): give one of the two", strings.Join(args, " "))
	case !live && len(args) == 0:
		return errors.New("nothing to check: give a directory, a file, - for standard input, or --kubeconfig FILE")
	case !live && len(c.WatchNamespaces) > 0:
		return errors.New("--watch-namespace goes with --kubeconfig only: remove it")
	case live && !f.Changed("allow-local-endpoints"):
		c.AllowLocalEndpoints = false
	}
	if n := slices.Index(args, "-"); n >= 0 && slices.Contains(args[n+1:], "-") {
		return errors.New("standard input can be read once only: give - once")
	}
	if c.as == "" {
		return nil
	}
	t := c.takeover()
	if t == nil {
		return fmt.Errorf("--as %q: give ingress-nginx", c.as)
	}
	if !f.Changed("controller-name") {
		c.ControllerName = t.controller
	}
	if !f.Changed("ingress-class") {
		c.IngressClass = t.class
	}
	return nil
}

// takeover is what --as names, or nil.
func (c *checkRun) takeover() *takeover {
	for i := range takeovers {
		if takeovers[i].name == c.as {
			return &takeovers[i]
		}
	}
	return nil
}

// checkResult is the output of `gatehouse check -o json`; docs/check.schema.json
// is its schema.
type checkResult struct {
	Objects  []checkedObject   `json:"objects"`
	Files    []verdict.Verdict `json:"files,omitempty"` // about whole files, and about what is not among the objects
	Rejected int               `json:"rejected"`
	// Warnings counts what is ignored of objects that are read, and warnings.
	Warnings     int            `json:"warnings"`
	OtherClasses []foreignClass `json:"otherClasses,omitempty"`
	Migration    *migration     `json:"migration,omitempty"`
}

// fails reports whether the exit status is to say so.
func (r *checkResult) fails(strict bool) bool {
	rejected := r.Rejected
	if m := r.Migration; m != nil {
		if m.Close > 0 || strict && m.Differ+m.Lose > 0 {
			return true
		}
		// What of an Ingress is rejected counts by what the move changes.
		for _, o := range r.Objects {
			if o.Object.Kind == "Ingress" && o.Result == "rejected" {
				rejected--
			}
		}
	}
	return rejected > 0 || strict && r.Warnings > 0 && r.Migration == nil
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

// check gives the verdicts on manifests, or on a cluster.
func (c *checkRun) check(ctx context.Context, paths []string, std Streams) (*checkResult, error) {
	s, err := c.Options.check()
	if err != nil {
		return nil, err
	}
	var in *checkInput
	if c.Kubeconfig != "" {
		in, err = readCluster(ctx, s, std)
	} else {
		in, err = readManifests(paths, std)
	}
	if err != nil {
		return nil, err
	}
	t := c.takeover()
	if t != nil {
		in.addClass(*t)
	}
	selfSigned, err := certs.SelfSigned(time.Now())
	if err != nil {
		return nil, err
	}
	everywhere := netip.AddrPortFrom(netip.IPv6Unspecified(), 0)
	to := s.translation()
	to.HTTPAddr, to.HTTPSAddr, to.AnyClass, to.SelfSigned = everywhere, everywhere, c.Kubeconfig == "", selfSigned
	to.Now = time.Now()
	v := in.store.View()
	cfg, report := translate.Build(v, to)
	others, classes := foreign(v, report, s)
	all := merge(in.verdicts, report.Verdicts, translate.Services(v, to, nil).Verdicts, others)
	result := collect(in.objects, all, report, tlsModes(cfg))
	result.OtherClasses = classes
	result.addTerms(cfg, to.Now)
	if t != nil {
		byObject := map[refKey][]verdict.Verdict{}
		for _, o := range result.Objects {
			byObject[keyOf(o.Object)] = o.Verdicts
		}
		attached := map[refKey]bool{}
		for r := range report.Ingresses.All() {
			attached[keyOf(r.Object)] = r.Attached
		}
		result.Migration = newMigration(t.name, in.objects, func(r verdict.Ref) bool { return attached[keyOf(r)] }, byObject)
	}
	return result, nil
}

// refKey names an object whatever its version.
type refKey struct{ kind, namespace, name string }

func keyOf(ref verdict.Ref) refKey { return refKey{ref.Kind, ref.Namespace, ref.Name} }

// collect sorts the verdicts, and what there is to say about TLS, to their
// objects.
func collect(objects []files.Object, all []verdict.Verdict, report *translate.Report, modes []tlsMode) *checkResult {
	r := &checkResult{Objects: []checkedObject{}}
	byObject := map[refKey][]verdict.Verdict{}
	for _, v := range all {
		if v.Severity != verdict.Rejected && v.Reason != verdict.KindIgnored && v.Reason != verdict.FileSkipped {
			r.Warnings++
		}
		byObject[keyOf(v.Object)] = append(byObject[keyOf(v.Object)], v)
	}
	foreign := map[refKey]bool{}
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

// print writes the result for people: one line per object and one per finding, or
// the report on a move.
func (r *checkResult) print(w io.Writer) error {
	var b strings.Builder
	for i := range r.Objects {
		// With a report, only of what it does not tell of.
		if o := &r.Objects[i]; r.Migration == nil || o.Object.Kind != "Ingress" && o.Result == "rejected" {
			o.print(&b)
		}
	}
	var skipped []string
	for _, v := range r.Files {
		if v.Reason == verdict.FileSkipped {
			skipped = append(skipped, v.Object.Name)
			continue
		}
		if r.Migration != nil && v.Severity != verdict.Rejected {
			continue
		}
		fmt.Fprintf(&b, "%-8s  %s\n", strings.ToLower(string(v.Severity)), v.Object)
		printVerdict(&b, v)
	}
	if r.Migration != nil {
		r.Migration.print(&b)
	}
	if len(skipped) > 0 {
		fmt.Fprintf(&b, "skipped   %s: %s\n", plural(len(skipped), "file that is no manifest", "files that are no manifests"), strings.Join(skipped, ", "))
	}
	printForeign(&b, r.OtherClasses)
	if r.Migration != nil {
		r.Migration.summary(&b)
	} else {
		fmt.Fprintf(&b, "%d objects, %d rejected\n", len(r.Objects), r.Rejected)
	}
	_, err := io.WriteString(w, b.String())
	return err
}

func (o *checkedObject) print(b *strings.Builder) {
	fmt.Fprintf(b, "%-8s  %s", o.Result, o.Object)
	if o.File != "" {
		fmt.Fprintf(b, "  (%s:%d)", o.File, o.Line)
	}
	b.WriteString("\n")
	for _, m := range o.TLS {
		host := m.Host
		if host == ir.AnyHost.String() {
			host = "any other host"
		}
		fmt.Fprintf(b, "    tls: %s: %s\n", host, m.Text)
	}
	if o.Certificate != nil {
		fmt.Fprintf(b, "    certificate: %s\n", o.Certificate.Text)
	}
	for _, v := range o.Verdicts {
		printVerdict(b, v)
	}
}

func printVerdict(b *strings.Builder, v verdict.Verdict) {
	fmt.Fprintf(b, "    %s %s", v.Severity, v.Reason)
	if v.Field != "" {
		fmt.Fprintf(b, " at %s", v.Field)
	}
	fmt.Fprintf(b, ": %s\n", v.Message)
	if v.Remedy != "" {
		fmt.Fprintf(b, "        remedy: %s\n", v.Remedy)
	}
}

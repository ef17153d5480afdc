package app

import (
	"errors"
	"fmt"
	"maps"
	"os"
	"regexp"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// foreignFlags are names that ingress-nginx has for a flag, or for what there is
// no flag for: then the text says what to do.
var foreignFlags = map[string]string{
	"configmap":                    "settings of the ConfigMap are flags here",
	"controller-class":             "did you mean --controller-name?",
	"default-ssl-certificate":      "did you mean --default-tls-secret?",
	"election-id":                  "the Lease has a fixed name, in --lease-namespace",
	"enable-ssl-passthrough":       "it is always on: remove the flag",
	"healthz-port":                 "did you mean --health-addr?",
	"http-port":                    "did you mean --http-addr (where to listen) or --public-http-port (what clients see)?",
	"https-port":                   "did you mean --https-addr (where to listen) or --public-https-port (what clients see)?",
	"publish-status-address":       "did you mean --publish-address?",
	"shutdown-grace-period":        "did you mean --drain-delay?",
	"v":                            "did you mean --log-level?",
	"watch-ingress-without-class":  "mark the IngressClass as default: ingressclass.kubernetes.io/is-default-class",
	"ingress-class-by-name":        "did you mean --ingress-class?",
	"post-shutdown-grace-period":   "did you mean --drain-timeout?",
	"update-status":                "status is written where --publish-address or --publish-service is given",
	"watch-namespace-selector":     "did you mean --watch-namespace?",
	"default-backend-service":      "an Ingress with spec.defaultBackend takes its place",
	"validating-webhook":           "there is no webhook: `gatehouse check` gives the verdicts before you apply",
	"enable-annotation-validation": "it is always on: remove the flag",
}

// unknownFlag adds to pflag's error which flag was probably meant.
func unknownFlag(cmd *cobra.Command, err error) error {
	var unknown *pflag.NotExistError
	if !errors.As(err, &unknown) {
		return err
	}
	name := unknown.GetSpecifiedName()
	if hint, ok := foreignFlags[name]; ok {
		return fmt.Errorf("%w; %s", err, hint)
	}
	if n := nearest(name, flagNames(cmd)); n != "" {
		return fmt.Errorf("%w; did you mean --%s?", err, n)
	}
	return fmt.Errorf("%w; %s --help lists all flags", err, cmd.CommandPath())
}

// flagNames are those of a command.
func flagNames(cmd *cobra.Command) (names []string) {
	cmd.Flags().VisitAll(func(fl *pflag.Flag) { names = append(names, fl.Name) })
	return names
}

// nearest gives the name of which a third of the letters, or fewer, differ, or ""
// if there is none. It is cobra's judgement, which it has for commands only.
func nearest(name string, known []string) string {
	commands := &cobra.Command{}
	for _, k := range known {
		commands.AddCommand(&cobra.Command{Use: k, Run: func(*cobra.Command, []string) {}})
	}
	for d := 1; d <= len(name)/3; d++ {
		commands.SuggestionsMinimumDistance = d
		if s := commands.SuggestionsFor(name); len(s) > 0 {
			return s[0]
		}
	}
	return ""
}

// serviceLink is a variable that Kubernetes sets in every Pod for a Service whose
// name begins with "gatehouse".
var serviceLink = regexp.MustCompile(`^GATEHOUSE(_[A-Z0-9_]+)?_(SERVICE_HOST|SERVICE_PORT(_[A-Z0-9_]+)?|PORT(_[0-9]+_(TCP|UDP|SCTP)(_(PROTO|PORT|ADDR))?)?)$`)

// isServiceLink tells GATEHOUSE_X_PORT, which holds a URL, from a misspelt flag that
// holds a port.
func isServiceLink(name, value string) bool {
	if strings.HasSuffix(name, "_PORT") && !strings.HasSuffix(name, "_SERVICE_PORT") && !strings.Contains(name, "_PORT_") {
		return strings.Contains(value, "://")
	}
	return serviceLink.MatchString(name)
}

// strayVariables says of every variable that looks like a flag's, and is none of
// any command, which one was probably meant.
func strayVariables(root *cobra.Command, environ []string) (hints []string) {
	known := map[string]string{}
	for _, c := range root.Commands() {
		for _, name := range flagNames(c) {
			known[variable(name)] = name
		}
	}
	names := slices.Sorted(maps.Values(known))
	for _, v := range environ {
		name, value, _ := strings.Cut(v, "=")
		if !strings.HasPrefix(name, "GATEHOUSE_") || known[name] != "" || isServiceLink(name, value) {
			continue
		}
		hint := "the environment variable " + name + " is no flag's"
		// Without what all have in common.
		flag := strings.ReplaceAll(strings.ToLower(strings.TrimPrefix(name, "GATEHOUSE_")), "_", "-")
		if n := nearest(flag, names); n != "" {
			hint += "; did you mean " + variable(n) + "?"
		}
		hints = append(hints, hint)
	}
	slices.Sort(hints)
	return hints
}

// warnOfStrays tells of stray variables where the command has no log for it.
func warnOfStrays(cmd *cobra.Command, std Streams) {
	for _, hint := range strayVariables(cmd.Root(), os.Environ()) {
		fmt.Fprintln(std.Err, "gatehouse: warning:", hint)
	}
}

package app

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/spf13/pflag"
)

// TestFlagsDocumented compares docs/flags.md with the flags; -update writes it.
func TestFlagsDocumented(t *testing.T) {
	var b strings.Builder
	b.WriteString("# Flags\n\n<!-- Written by \"go test ./internal/app -run FlagsDocumented -update\" from the flags: do not edit. -->\n\n" +
		"Each can also be given in the environment, lists with commas; a flag wins. `demo` takes those of `serve` but\n" +
		"`--kubeconfig`; with it `--access-log` is off, `--log-level` is warn, and addresses are on loopback, at the next port\n" +
		"that is free, unless they are given.\n")
	for _, name := range []string{"serve", "check", "bundle"} {
		fmt.Fprintf(&b, "\n## gatehouse %s\n\n| Flag | Environment | Default | Meaning |\n|---|---|---|---|\n", name)
		find(t, name).Flags().VisitAll(func(fl *pflag.Flag) {
			def := fl.DefValue
			if def == "[]" {
				def = ""
			}
			if def != "" {
				def = "`" + def + "`"
			}
			flag := "`--" + fl.Name + "`"
			if fl.Shorthand != "" {
				flag += ", `-" + fl.Shorthand + "`"
			}
			fmt.Fprintf(&b, "| %s | `%s` | %s | %s |\n", flag, variable(fl.Name), def, fl.Usage)
		})
	}
	path := filepath.Join("..", "..", "docs", "flags.md")
	if *update {
		if err := os.WriteFile(path, []byte(b.String()), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	have, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if string(have) != b.String() {
		t.Error("docs/flags.md does not tell of the flags as they are: run go test ./internal/app -run FlagsDocumented -update")
	}
}

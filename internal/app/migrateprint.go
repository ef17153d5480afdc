package app

import (
	"fmt"
	"io"
	"strings"
)

// terminalWidth is how wide text is made, in letters.
const terminalWidth = 100

// sections of the report, worst last: the end is what stays on a terminal.
var sections = []struct {
	outcome outcome
	title   string
}{
	{same, "Served the same"},
	{differs, "Served, with differences"},
	{loses, "Served without some of their settings"},
	{closes, "Closed, in whole or in part (5xx, or no handshake)"},
}

// print writes the report for people.
func (m *migration) print(b io.Writer) {
	for _, s := range sections {
		var of []migratedIngress
		for _, j := range m.Judged {
			if j.Outcome == s.outcome {
				of = append(of, j)
			}
		}
		if len(of) == 0 {
			continue
		}
		fmt.Fprintf(b, "%s: %s\n", s.title, plural(len(of), "Ingress", "Ingresses"))
		if s.outcome == same {
			var names []string
			for _, j := range of {
				names = append(names, j.Object.Namespace+"/"+j.Object.Name)
			}
			wrap(b, "  ", strings.Join(names, ", "))
		} else {
			for _, j := range of {
				j.print(b)
			}
		}
		fmt.Fprintln(b)
	}
}

func (j *migratedIngress) print(b io.Writer) {
	fmt.Fprintf(b, "  %s", j.Object)
	if j.File != "" {
		fmt.Fprintf(b, "  (%s:%d)", j.File, j.Line)
	}
	fmt.Fprintln(b)
	for i := len(outcomes) - 1; i > 0; i-- {
		for _, f := range j.Findings {
			if f.Outcome != outcomes[i] {
				continue
			}
			wrap(b, "    ", string(f.Outcome)+": "+f.Message)
			if f.Before != "" {
				wrap(b, "      ", "before: "+f.Before)
			}
			if f.Remedy != "" {
				wrap(b, "      ", "remedy: "+f.Remedy)
			}
		}
	}
}

// summary is the last lines.
func (m *migration) summary(b io.Writer) {
	if m.SettingsLost > 0 {
		var words []string
		for _, name := range byCount(m.Lost) {
			words = append(words, fmt.Sprintf("%s (%d)", name, m.Lost[name]))
		}
		wrap(b, "", "Settings that are lost: "+strings.Join(words, ", "))
	}
	fmt.Fprintf(b, "From %s: %s: %d the same, %d with differences, %d without settings (%d), %d closed\n",
		m.From, plural(m.Ingresses, "Ingress", "Ingresses"), m.Same, m.Differ, m.Lose, m.SettingsLost, m.Close)
}

// wrap writes text in lines of terminalWidth, each behind the indent, and those
// after the first two letters deeper.
func wrap(b io.Writer, indent, text string) {
	line := indent
	empty := true
	for word := range strings.FieldsSeq(text) {
		if !empty && len(line)+1+len(word) > terminalWidth {
			fmt.Fprintln(b, line)
			line, empty = indent+"  ", true
		}
		if !empty {
			line += " "
		}
		line += word
		empty = false
	}
	fmt.Fprintln(b, line)
}

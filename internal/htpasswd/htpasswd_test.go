package htpasswd

import (
	"fmt"
	"reflect"
	"strings"
	"testing"
)

const apr1 = "$apr1$abcdefgh$h9FWgUz3n9YxylKLlR5SQ/"

// check compares names and problems (the beginnings of them, with ":" between
// those refused and those weak) and holds a File against its own Lines.
func check(t *testing.T, what string, file File, users []string, refused, weak []string) {
	t.Helper()
	var names []string
	for _, u := range file.Users {
		names = append(names, u.Name)
	}
	if !reflect.DeepEqual(names, users) {
		t.Errorf("%.80s: users %q, want %q", what, names, users)
	}
	told := func(kind string, p Problems, want []string) {
		t.Helper()
		if len(p.First) != len(want) || p.Len() != len(want) {
			t.Errorf("%.80s: %s %s, want %q", what, kind, p, want)
			return
		}
		for i, w := range want {
			if got := p.First[i]; !strings.HasPrefix(got.String(), w) || got.Remedy == "" {
				t.Errorf("%.80s: %s %s (%s), want %s", what, kind, got, got.Remedy, w)
			}
		}
	}
	told("refused", file.Refused, refused)
	told("weak", file.Weak, weak)
	checkLines(t, file)
}

// checkLines: who reads the Lines reads the same Users, and refuses none.
func checkLines(t *testing.T, file File) {
	t.Helper()
	again := ParseFile(file.Lines())
	if !reflect.DeepEqual(again.Users, file.Users) || again.Refused.Len() != 0 || again.Weak.Len() != file.Weak.Len() {
		t.Errorf("%q is read as %q, and refused: %s", []byte(file.Lines()), []byte(again.Lines()), again.Refused)
	}
}

func TestParseFile(t *testing.T) {
	f := func(content string, users, refused, weak []string) {
		t.Helper()
		check(t, fmt.Sprintf("%q", content), ParseFile([]byte(content)), users, refused, weak)
	}
	l := func(s ...string) []string { return s }
	f("bob:"+apr1, l("bob"), nil, nil)
	f("bob:"+apr1+"\r\nann:"+apr1+"\r\n", l("bob", "ann"), nil, nil)
	f("\ufeffbob:"+apr1+"  \t\n\n", l("bob"), nil, nil)
	f("# bob:x\n  bob:"+apr1+":a comment\n", l("bob"), nil, nil)
	f("b b:"+apr1+"\nbücher:"+apr1+"\nbob@shop.example:"+apr1+"\n", l("b b", "bücher", "bob@shop.example"), nil, nil)
	// The first counts, broken or not.
	f("bob:"+apr1+"\nbob:{PLAIN}other\n", l("bob"), l(`line 2: user "bob": named twice`), nil)
	f("bob:broken\nann:"+apr1+"\nbob:"+apr1+"\n", l("ann"), l(`line 1: user "bob": not a hash`, `line 3: user "bob": named twice`), nil)
	f("bob:{PLAIN}se:cret\nbob:"+apr1+"\n", nil, l(`line 1: user "bob": a colon ends`, `line 2: user "bob": named twice`), nil)
	f("hunter2hunter2\nann:"+apr1+"\n", l("ann"), l("line 1: no colon"), nil)
	f(":"+apr1+"\nann:"+apr1+"\n", l("ann"), l("line 1: no name"), nil)
	f("bob :"+apr1+"\nann:"+apr1+"\n", l("ann"), l(`line 1: user "bob ": the name begins or ends`), nil)
	f("b\x00b:"+apr1+"\nann:"+apr1+"\n", l("ann"), l(`line 1: user "b\x00b": the name has`), nil)
	f("x\n\ufeffbob:"+apr1+"\nann:"+apr1+"\n", l("ann"), l("line 1: no colon", `line 2: user "\ufeffbob": the name begins with`), nil)
	f(strings.Repeat("b", 256)+":"+apr1+"\n"+strings.Repeat("b", 255)+":"+apr1, l(strings.Repeat("b", 255)),
		l(`line 1: user "`+strings.Repeat("b", 40)+`": the name is longer`), nil)
	f("bob:{PLAIN}secret\n", l("bob"), nil, l(`line 1: user "bob": the password is kept in cleartext`))
	f("bob:{PLAIN}se:cret\n", nil, l(`line 1: user "bob": a colon ends`), nil)
	f("bob:{SHA}5en6G6MezRroT3XKqkdPOmY/BfQ=\n", l("bob"), nil, l(`line 1: user "bob": {SHA} is a fast hash`))
	f("bob:{SSHA}1G904nLkTkGWjKNnQuB/hpWXC/hzYWx0c2FsdA==\n", l("bob"), nil, l(`line 1: user "bob": {SSHA} is a fast hash`))
	f("", nil, nil, nil)
	f("\n# none\n", nil, nil, nil)
	f("bob:broken\n", nil, l(`line 1: user "bob": not a hash`), nil)
	f(strings.Repeat("\n", MaxContent+2), nil, l("more than 1048576 bytes"), nil)
	f("bob:"+apr1+strings.Repeat("\n", MaxContent-4-len(apr1)), l("bob"), nil, nil)
}

// The largest that are taken are still taken with the line ends that Lines adds.
func TestLargest(t *testing.T) {
	var b strings.Builder
	const line = len("0000000:"+apr1) + 1
	for i := range MaxContent/line - 1 {
		fmt.Fprintf(&b, "%07d:%s\n", i, apr1)
	}
	last := ":" + apr1
	b.WriteString(strings.Repeat("x", MaxContent-b.Len()-len(last)) + last)
	file := ParseFile([]byte(b.String()))
	if b.Len() != MaxContent || len(file.Users) != MaxContent/line {
		t.Fatalf("%d bytes: %d users, want %d: %s", b.Len(), len(file.Users), MaxContent/line, file.Refused)
	}
	checkLines(t, file)
	byName := map[string][]byte{}
	for i := range MaxContent / line {
		byName[fmt.Sprintf("%07d", i)] = []byte(apr1)
	}
	if file = ParseMap(byName); len(file.Users) != MaxContent/line {
		t.Fatalf("map: %d users: %s", len(file.Users), file.Refused)
	}
	checkLines(t, file)
}

// Few problems are told, all are counted, and each remedy stands once.
func TestProblems(t *testing.T) {
	file := ParseFile([]byte(strings.Repeat("broken\n", 60) + "bob:broken\n"))
	if got := file.Refused.String(); file.Refused.Len() != 61 || strings.Count(got, "no colon") != maxTold ||
		!strings.HasSuffix(got, "; and 56 more") || strings.Contains(got, "broken") {
		t.Errorf("61 broken lines: %s", got)
	}
	if got := file.Refused.Remedy(); strings.Count(got, "htpasswd") != 1 {
		t.Errorf("remedy %q", got)
	}
	if p := (Problems{}); p.String() != "" || p.Remedy() != "" || p.Len() != 0 {
		t.Errorf("none: %q, %q", p, p.Remedy())
	}
}

func TestParseMap(t *testing.T) {
	check(t, "map", ParseMap(map[string][]byte{
		"bob": []byte(apr1 + "\n"),
		"ann": []byte("{PLAIN}secret"),
		"eve": []byte("x\neve:" + apr1),
		"zoe": nil,
	}), []string{"ann", "bob"},
		[]string{`user "eve": more than one line`, `user "zoe": no hash`},
		[]string{`user "ann": the password is kept`})
	check(t, "names", ParseMap(map[string][]byte{"": []byte(apr1), "a:b": []byte(apr1), "#x": []byte(apr1), "\ufeffx": []byte(apr1)}), nil,
		[]string{"no name", `user "#x": the name begins`, `user "a:b": the name has a colon`, `user "\ufeffx": the name begins`}, nil)
	check(t, "none", ParseMap(nil), nil, nil, nil)
	check(t, "too large", ParseMap(map[string][]byte{"a": make([]byte, MaxContent)}), nil, []string{"more than 1048576 bytes"}, nil)
}

// Nothing that is printed shows a hash.
func TestHashIsRedacted(t *testing.T) {
	file := ParseFile([]byte("bob:" + apr1 + "\nann:$argon2id$v=19$m=256,t=2,p=1$c29tZXNhbHQ$nf65EOgLrQMR/uIPnA4rEsF5h7TKyQwu9U1bMCHGi/4"))
	for _, format := range []string{"%v", "%+v", "%#v", "%s"} {
		got := fmt.Sprintf(format, file)
		if strings.Contains(got, "h9FWgUz3n9") || strings.Contains(got, "nf65EOgL") || strings.Contains(got, "157") {
			t.Errorf("%s shows a hash: %s", format, got)
		}
	}
}

func FuzzParse(f *testing.F) {
	f.Add([]byte("bob:" + apr1 + "\nann:{PLAIN}x:x\n"))
	f.Add([]byte("bob:$2y$05$\n#x\n:\n\n$5$rounds=1000$a$b:$6$rounds=1000$a$b\n\ufeff#x:{SHA}5en6G6MezRroT3XKqkdPOmY/BfQ=\n"))
	f.Fuzz(func(t *testing.T, content []byte) {
		name, stored, _ := strings.Cut(string(content), "\n")
		for _, file := range []File{ParseFile(content), ParseMap(map[string][]byte{name: []byte(stored), "b": content})} {
			checkLines(t, file)
			for _, p := range append(file.Refused.First, file.Weak.First...) {
				if p.Text == "" || p.Remedy == "" || strings.ContainsAny(p.String(), "\r\n\x00") {
					t.Fatalf("problem %q", p.String())
				}
			}
			for _, u := range file.Users {
				if f := checkName(u.Name); f != nil {
					t.Fatalf("user %q: %s", u.Name, f.text)
				}
				if d := Decoy(u.Hash.Model); d.Scheme != u.Hash.Scheme || d.Model != u.Hash.Model {
					t.Fatalf("a decoy of %s for %s", d.Model, u.Hash.Model)
				}
			}
		}
	})
}

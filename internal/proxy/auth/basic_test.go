package auth

import (
	"context"
	"encoding/base64"
	"encoding/binary"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"gatehouse.dev/gatehouse/internal/htpasswd"
)

func header(user, password string) []byte {
	return []byte("Basic " + base64.StdEncoding.EncodeToString([]byte(user+":"+password)))
}

func users(t testing.TB, content string) *Users {
	t.Helper()
	u, err := NewUsers(htpasswd.ParseFile([]byte(content)).Users)
	if err != nil {
		t.Fatal(err)
	}
	return u
}

func TestCheck(t *testing.T) {
	u := users(t, "bob:"+apr1+"\nann:{SHA}5en6G6MezRroT3XKqkdPOmY/BfQ=\nb b:$apr1$colonsal$/8whuoO/tCdEuTqx01GNL/\nbücher:"+apr1+"\n")
	b := NewBasic(u, "x", NewCache(0))
	f := func(authorization, user string, want Outcome) {
		t.Helper()
		for range 2 { // the second time from memory
			if got, o := b.Check(t.Context(), []byte(authorization)); got != user || o != want {
				t.Errorf("%.80q: %q, %s, want %q, %s", authorization, got, o, user, want)
			}
		}
	}
	enc := func(s string) string { return base64.StdEncoding.EncodeToString([]byte(s)) }
	f("Basic "+enc("bob:secret"), "bob", Granted)
	f("bAsIc   "+enc("bob:secret"), "bob", Granted)
	f("Basic "+enc("ann:secret"), "ann", Granted)
	f("Basic "+enc("b b:se:cret"), "b b", Granted)
	f("Basic "+enc("bücher:secret"), "bücher", Granted)

	f("Basic "+enc("bob:wrong"), "", Refused)
	f("Basic "+enc("bob:"), "", Refused)
	f("Basic "+enc("bob:secret "), "", Refused)
	f("Basic "+enc("Bob:secret"), "", Refused)
	f("Basic "+enc("bob :secret"), "", Refused)
	f("Basic "+enc("eve:secret"), "", Refused)
	f("Basic "+enc(":secret"), "", Refused)
	f("Basic "+enc(":"), "", Refused)
	f("Basic "+enc("ann:"+apr1), "", Refused)
	f("Basic "+enc("b b:se"), "", Refused)

	f("", "", Missing)
	f("Basic", "", Missing)
	f("Bearer "+enc("bob:secret"), "", Missing)
	f("ba\u017fic "+enc("bob:secret"), "", Missing)
	f(enc("bob:secret"), "", Missing)
	f("Basic\t"+enc("bob:secret"), "", Missing)

	f("Basic ", "", Malformed)
	f("Basic "+enc("bob"), "", Malformed)
	f("Basic "+enc("bob:secret\x00"), "", Malformed)
	f("Basic "+enc("bob\n:secret"), "", Malformed)
	f("Basic "+enc("bob:secret\x7f"), "", Malformed)
	f("Basic "+enc("bob:secret")+"=", "", Malformed)
	f("Basic "+strings.TrimRight(enc("ann:secret0"), "="), "", Malformed)
	f("Basic "+enc("bob:secret")+" ", "", Malformed)
	f("Basic "+enc("bob:secret")+", Basic x", "", Malformed)
	f("Basic Ym9iOnN\nlY3JldA==", "", Malformed)
	f("Basic Ym9iOnNlY3JldB==", "", Malformed) // bits that mean nothing are not zero
	f("Basic Ym9iOnNlY3JldA", "", Malformed)
	f("Basic "+base64.URLEncoding.EncodeToString([]byte("bob:\xff\xfe\xfd")), "", Malformed)

	f("Basic "+enc(strings.Repeat("b", MaxUser)+":"+strings.Repeat("p", MaxPassword)), "", Refused)
	f("Basic "+enc(strings.Repeat("b", MaxUser+1)+":p"), "", Malformed)
	f("Basic "+enc("b:"+strings.Repeat("p", MaxPassword+1)), "", Malformed)
	f("Basic "+enc(strings.Repeat("b", MaxUser)+":"+strings.Repeat("p", MaxPassword+1)), "", Malformed)
	f("Basic "+enc(strings.Repeat("b:", 1<<20)), "", Malformed)
}

func TestNobody(t *testing.T) {
	for _, u := range []*Users{nil, {}} {
		if user, o := NewBasic(u, "x", NewCache(0)).Check(t.Context(), header("bob", "secret")); user != "" || o != Refused {
			t.Errorf("%q, %s", user, o)
		}
	}
	if o := *new(Outcome); o == Granted {
		t.Error("the zero Outcome grants")
	}
}

func TestChallenge(t *testing.T) {
	f := func(realm, want string) {
		t.Helper()
		if got := NewBasic(nil, realm, nil).Challenge(); got != want {
			t.Errorf("%q: %s, want %s", realm, got, want)
		}
	}
	f("", `Basic realm="", charset="UTF-8"`)
	f("Our shop", `Basic realm="Our shop", charset="UTF-8"`)
	f(`a"b\c`, `Basic realm="a\"b\\c", charset="UTF-8"`)
	f(`", Negotiate x="`, `Basic realm="\", Negotiate x=\"", charset="UTF-8"`)
	f("a\r\nSet-Cookie: x\x00\x7f\xff", `Basic realm="a  Set-Cookie: x   ", charset="UTF-8"`)
	f("Bücher", `Basic realm="Bücher", charset="UTF-8"`)
}

// What a file change does to what is remembered.
func TestFileChanges(t *testing.T) {
	c := NewCache(0)
	f := func(content, user, password string, want Outcome) {
		t.Helper()
		if _, o := NewBasic(users(t, content), "x", c).Check(t.Context(), header(user, password)); o != want {
			t.Errorf("%q: %s:%s is %s, want %s", content, user, password, o, want)
		}
	}
	const other = "$apr1$r31.....$HqJZimcKQFAMYayBlzkrA/" // myPassword
	for range 2 {
		f("bob:"+apr1, "bob", "secret", Granted)
		f("bob:"+apr1, "bob", "myPassword", Refused)
		f("bob:"+other, "bob", "secret", Refused)
		f("bob:"+other, "bob", "myPassword", Granted)
		f("ann:"+apr1, "bob", "secret", Refused)
		f("ann:"+apr1+"\nbob:"+apr1, "bob", "secret", Granted)
	}
}

// fake is a hash of a password of its own that counts how often it is asked.
type fake struct {
	password string
	asked    *atomic.Int64
	enter    func()
}

func (f fake) MatchesPassword(password string) bool {
	f.asked.Add(1)
	if f.enter != nil {
		f.enter()
	}
	return password == f.password
}

// counters are the invocations by kind.
type counters map[string]*atomic.Int64

func (c counters) total() (n int64) {
	for _, v := range c {
		n += v.Load()
	}
	return n
}

// fakeUsers have "secret" each; names say the kind: "slow-1".
func fakeUsers(c counters, enter func(), names ...string) *Users {
	var entries []*entry
	for _, name := range names {
		model, _, _ := strings.Cut(name, "-")
		if c[model] == nil {
			c[model] = new(atomic.Int64)
		}
		k := kind{model: model, fast: model == "fast"}
		entries = append(entries, &entry{name: name, id: newLineID(name, model), kind: k, hash: fake{"secret", c[model], enter}})
	}
	return newUsers(entries, func(k kind) hash { return fake{"no password", c[k.model], enter} })
}

// Every check that is not remembered asks one hash once, be the user known or
// not.
func TestUnknownCostsTheSame(t *testing.T) {
	f := func(names ...string) {
		t.Helper()
		c := counters{}
		u := fakeUsers(c, nil, names...)
		b := NewBasic(u, "x", NewCache(0))
		ask := func(user, password string) (model string) {
			t.Helper()
			before := map[string]int64{}
			for m, n := range c {
				before[m] = n.Load()
			}
			if _, o := b.Check(t.Context(), header(user, password)); o != Refused {
				t.Fatalf("%s:%s: %s", user, password, o)
			}
			for m, n := range c {
				switch n.Load() - before[m] {
				case 0:
				case 1:
					if model != "" {
						t.Fatalf("%s: asks %s and %s", user, model, m)
					}
					model = m
				default:
					t.Fatalf("%s: asks %s more than once", user, m)
				}
			}
			if model == "" {
				t.Fatalf("%s: asks no hash", user)
			}
			return model
		}
		for _, name := range names {
			model, _, _ := strings.Cut(name, "-")
			if m := ask(name, "wrong"); m != model {
				t.Errorf("%s costs %s", name, m)
			}
		}
		const unknown = 500
		got := map[string]int{}
		for i := range unknown {
			name := fmt.Sprintf("unknown-%d", i)
			m := ask(name, "secret")
			got[m]++
			ask(name, "no password") // even if it is the decoy's
			for j := range 3 {       // whatever the password
				if again := ask(name, fmt.Sprint("guess", j)); again != m {
					t.Fatalf("%s costs %s, then %s", name, m, again)
				}
			}
		}
		want := map[string]int{}
		for _, name := range names {
			model, _, _ := strings.Cut(name, "-")
			want[model] += unknown / len(names)
		}
		for m, n := range want {
			if got[m] < n*7/10 || got[m] > n*13/10 {
				t.Errorf("%q: %d unknown users cost %s, want about %d", names, got[m], m, n)
			}
		}
	}
	f("slow-1")
	f("slow-1", "slow-2", "slow-3")
	f("fast-1", "fast-2")
	f("slow-1", "slow-2", "other-1")
	f("slow-1", "fast-1")
}

// What was right or wrong once is not asked again.
func TestRemembered(t *testing.T) {
	c := counters{}
	b := NewBasic(fakeUsers(c, nil, "slow-1"), "x", NewCache(0))
	f := func(user, password string, want Outcome, asked int64) {
		t.Helper()
		if _, o := b.Check(t.Context(), header(user, password)); o != want || c.total() != asked {
			t.Errorf("%s:%s: %s, asked %d times, want %s, %d", user, password, o, c.total(), want, asked)
		}
	}
	f("slow-1", "secret", Granted, 1)
	f("slow-1", "secret", Granted, 1)
	f("slow-1", "wrong", Refused, 2)
	f("slow-1", "wrong", Refused, 2)
	f("eve", "secret", Refused, 3)
	f("eve", "secret", Refused, 3)
	// Wrong passwords by the thousand push out no right one, and lock nobody out.
	for i := range int64(3 * maxRefused) {
		f("slow-1", fmt.Sprint("guess", i), Refused, 4+i)
	}
	f("slow-1", "secret", Granted, 3+3*maxRefused)
	// Users of another generation of the file with the same line.
	b = NewBasic(fakeUsers(c, nil, "slow-2", "slow-1"), "x", b.cache)
	f("slow-1", "secret", Granted, 3+3*maxRefused)
	// Another process has another key.
	b = NewBasic(b.users, "x", NewCache(0))
	f("slow-1", "secret", Granted, 4+3*maxRefused)
}

func TestTableIsBounded(t *testing.T) {
	tab := newTable(maxRefused)
	d := func(i int) (d digest) {
		binary.LittleEndian.PutUint64(d[:], uint64(i))
		return d
	}
	for i := range 10 * maxRefused {
		tab.add(d(i))
		if !tab.has(d(0)) { // in use all the time
			t.Fatalf("0 is gone after %d", i)
		}
	}
	if last := 10*maxRefused - 1; !tab.has(d(last)) {
		t.Errorf("%d, the last, is not there", last)
	}
	n := 0
	for i := range 10 * maxRefused {
		if tab.has(d(i)) {
			n++
		}
	}
	if n != maxRefused {
		t.Errorf("%d are there, want %d", n, maxRefused)
	}
}

// results gathers outcomes of concurrent checks.
type results struct {
	sync.Mutex
	of map[Outcome]int
}

func (r *results) start(ctx context.Context, b *Basic, user, password string) {
	if r.of == nil {
		r.of = map[Outcome]int{}
	}
	go func() {
		name, o := b.Check(ctx, header(user, password))
		r.Lock()
		defer r.Unlock()
		if (o == Granted) != (name == user) {
			o = 99
		}
		r.of[o]++
	}()
}

func (r *results) want(t *testing.T, want map[Outcome]int) {
	t.Helper()
	r.Lock()
	defer r.Unlock()
	if fmt.Sprint(r.of) != fmt.Sprint(want) {
		t.Errorf("outcomes %v, want %v", r.of, want)
	}
}

func idle(t *testing.T, b *Basic) {
	t.Helper()
	c := b.cache
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.waiting != 0 || b.users.waiting != 0 || len(c.flights) != 0 || len(c.slots) != 0 {
		t.Errorf("left behind: %d and %d waiting, %d flights, %d slots", c.waiting, b.users.waiting, len(c.flights), len(c.slots))
	}
}

func TestSameCheckOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, open := counters{}, make(chan struct{})
		b := NewBasic(fakeUsers(c, func() { <-open }, "slow-1"), "x", NewCache(4))
		var r results
		for range 50 {
			r.start(t.Context(), b, "slow-1", "secret")
			r.start(t.Context(), b, "slow-1", "wrong")
		}
		synctest.Wait()
		if n := c.total(); n != 2 {
			t.Errorf("asked %d times, want 2", n)
		}
		close(open)
		synctest.Wait()
		r.want(t, map[Outcome]int{Granted: 50, Refused: 50})
		idle(t, b)
	})
}

func TestSlots(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, open := counters{}, make(chan struct{})
		b := NewBasic(fakeUsers(c, func() { <-open }, "slow-1", "fast-1"), "x", NewCache(2))
		var r results
		for i := range 10 {
			r.start(t.Context(), b, "slow-1", fmt.Sprint("guess", i))
		}
		synctest.Wait()
		if n := c.total(); n != 2 {
			t.Errorf("%d run at once, want 2", n)
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		r.start(ctx, b, "slow-1", "secret") // waits for a slot
		r.start(ctx, b, "slow-1", "secret") // waits for that one
		r.start(ctx, b, "slow-1", "guess0") // waits for one that runs
		synctest.Wait()
		r.want(t, map[Outcome]int{})
		<-ctx.Done()
		synctest.Wait()
		r.want(t, map[Outcome]int{Overloaded: 3})
		close(open)
		synctest.Wait()
		r.want(t, map[Outcome]int{Overloaded: 3, Refused: 10})
		idle(t, b)
		// Overloaded is not remembered, and who has left is not served.
		if _, o := b.Check(t.Context(), header("slow-1", "secret")); o != Granted {
			t.Errorf("afterwards: %s", o)
		}
		asked := c.total()
		for i := range 20 {
			if _, o := b.Check(ctx, header("slow-1", fmt.Sprint("new", i))); o != Overloaded || c.total() != asked {
				t.Errorf("after the context's end: %s, asked %d times", o, c.total()-asked)
			}
		}
	})
}

// Who waits for a turn does not wait for ever, whatever the caller allows.
func TestWaitIsBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		open := make(chan struct{})
		b := NewBasic(fakeUsers(counters{}, func() { <-open }, "slow-1"), "x", NewCache(1))
		var busy, late results
		busy.start(t.Context(), b, "slow-1", "wrong")
		synctest.Wait()
		late.start(t.Context(), b, "slow-1", "secret") // waits for the slot
		late.start(t.Context(), b, "slow-1", "wrong")  // and this one for the check
		time.Sleep(maxWait - 1)
		synctest.Wait()
		late.want(t, map[Outcome]int{})
		time.Sleep(time.Nanosecond)
		synctest.Wait()
		late.want(t, map[Outcome]int{Overloaded: 2})
		close(open)
		synctest.Wait()
		busy.want(t, map[Outcome]int{Refused: 1})
		idle(t, b)
	})
}

// The first to ask gives up: those who waited with it do not.
func TestFirstGivesUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, open := counters{}, make(chan struct{})
		b := NewBasic(fakeUsers(c, func() { <-open }, "slow-1"), "x", NewCache(1))
		var first, busy, rest results
		busy.start(t.Context(), b, "slow-1", "wrong")
		synctest.Wait()
		ctx, cancel := context.WithCancel(t.Context())
		first.start(ctx, b, "slow-1", "secret")
		synctest.Wait()
		for range 5 {
			rest.start(t.Context(), b, "slow-1", "secret")
		}
		synctest.Wait()
		cancel()
		synctest.Wait()
		first.want(t, map[Outcome]int{Overloaded: 1})
		rest.want(t, map[Outcome]int{})
		close(open)
		synctest.Wait()
		rest.want(t, map[Outcome]int{Granted: 5})
		busy.want(t, map[Outcome]int{Refused: 1})
		if n := c.total(); n != 2 {
			t.Errorf("asked %d times, want 2", n)
		}
		idle(t, b)
	})
}

// The queue is bounded, and one guard cannot fill it for all.
func TestWaitingIsBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, open := counters{}, make(chan struct{})
		cache := NewCache(1)
		var r results
		flood := func(b *Basic, n int) {
			for i := range n {
				r.start(t.Context(), b, "slow-1", fmt.Sprint("guess", i))
			}
			synctest.Wait()
		}
		u := fakeUsers(c, func() { <-open }, "slow-1")
		b := NewBasic(u, "x", cache)
		flood(b, 1)
		flood(b, 1+maxWaitingUsers+40)
		r.want(t, map[Outcome]int{Overloaded: 40 + 1}) // one of them asks what runs, and waits too
		other := NewBasic(fakeUsers(c, func() { <-open }, "slow-1", "slow-2"), "x", cache)
		var login results
		login.start(t.Context(), other, "slow-2", "secret")
		synctest.Wait()
		login.want(t, map[Outcome]int{})
		for i := range maxWaiting/maxWaitingUsers - 1 {
			var names []string
			for n := range i + 3 {
				names = append(names, fmt.Sprintf("slow-%d", n+1))
			}
			flood(NewBasic(fakeUsers(c, func() { <-open }, names...), "x", cache), maxWaitingUsers)
		}
		if cache.waiting > maxWaiting {
			t.Errorf("%d wait, want at most %d", cache.waiting, maxWaiting)
		}
		r.Lock()
		if n := r.of[Overloaded]; n < 42 {
			t.Errorf("%d Overloaded: the bound over all is not kept", n)
		}
		r.Unlock()
		close(open)
		synctest.Wait()
		login.want(t, map[Outcome]int{Granted: 1})
		idle(t, b)
	})
}

// A hash that panics leaves nothing locked, and nobody gets in.
func TestPanic(t *testing.T) {
	c := counters{}
	b := NewBasic(fakeUsers(c, func() { panic("broken") }, "slow-1"), "x", NewCache(1))
	for range 2 {
		func() {
			defer func() {
				if recover() == nil {
					t.Error("no panic")
				}
			}()
			_, o := b.Check(t.Context(), header("slow-1", "secret"))
			t.Errorf("%s", o)
		}()
		idle(t, b)
	}
}

func TestConcurrently(t *testing.T) {
	c := counters{}
	b := NewBasic(fakeUsers(c, nil, "slow-1", "slow-2", "fast-1"), "x", NewCache(2))
	var wg sync.WaitGroup
	for g := range 8 {
		wg.Go(func() {
			for i := range 300 {
				user, password, want := "slow-1", "secret", Granted
				switch (g + i) % 4 {
				case 1:
					user = "fast-1"
				case 2:
					password, want = fmt.Sprint("guess", i), Refused
				case 3:
					user, want = fmt.Sprint("eve", i), Refused
				}
				if name, o := b.Check(t.Context(), header(user, password)); o != want || (o == Granted) != (name == user) {
					t.Errorf("%s:%s is %q, %s", user, password, name, o)
				}
			}
		})
	}
	wg.Wait()
	idle(t, b)
}

func TestAllocations(t *testing.T) {
	b := NewBasic(users(t, "bob:"+apr1+"\nann:"+apr1), "x", NewCache(0))
	f := func(user, password string, want Outcome) {
		t.Helper()
		h := header(user, password)
		if n := testing.AllocsPerRun(100, func() {
			if _, o := b.Check(t.Context(), h); o != want {
				t.Fatal(o)
			}
		}); n != 0 {
			t.Errorf("%s:%s: %v allocations", user, password, n)
		}
	}
	f("bob", "secret", Granted)
	f("bob", "wrong", Refused)
	f("eve", "secret", Refused)
}

// net/http reads the same header: where both take it, they read it alike.
func FuzzCheck(f *testing.F) {
	f.Add(header("bob", "secret"))
	f.Add(header("ann", "secret"))
	f.Add([]byte("basic Ym9iOnNlY3JldA=="))
	f.Add([]byte("Basic Ym9iOnNlY3JldB=="))
	f.Add([]byte("Basic  Ym9iOnNlY3JldA=="))
	b := NewBasic(users(f, "bob:{PLAIN}secret\nann:"+apr1+"\n"), "x", NewCache(0))
	f.Fuzz(func(t *testing.T, authorization []byte) {
		r := http.Request{Header: http.Header{"Authorization": {string(authorization)}}}
		user, password, ok := r.BasicAuth()
		right := ok && password == "secret" && (user == "bob" || user == "ann")
		name, o := b.Check(t.Context(), authorization)
		switch {
		case o == Overloaded:
			t.Fatal("overloaded")
		case (o == Granted) != (name != ""):
			t.Fatalf("%s with %q", o, name)
		case o == Granted && (!right || name != user):
			// Several spaces after the scheme are ours alone (RFC 9110: 1*SP).
			if !strings.Contains(string(authorization), "  ") {
				t.Fatalf("%q: granted to %q, net/http reads %q:%q", authorization, name, user, password)
			}
		case right && o != Granted && string(authorization[6:]) == base64.StdEncoding.EncodeToString([]byte(user+":"+password)):
			t.Fatalf("%q: %s", authorization, o)
		}
	})
}

func BenchmarkCheck(b *testing.B) {
	const bcrypt5 = "$2y$05$abcdefghijklmnopqrstuuOQiyCxlgf/oeuTqixKmWdcYUh4Hjl0a"
	g := NewBasic(users(b, "bob:"+bcrypt5+"\nann:{SHA}5en6G6MezRroT3XKqkdPOmY/BfQ=\n"), "x", NewCache(0))
	f := func(name, user, password string, want Outcome) {
		b.Run(name, func(b *testing.B) {
			h := header(user, password)
			b.ReportAllocs()
			for b.Loop() {
				if _, o := g.Check(b.Context(), h); o != want {
					b.Fatal(o)
				}
			}
		})
	}
	f("granted", "bob", "secret", Granted)
	f("refused", "bob", "wrong", Refused)
	f("SHA", "ann", "secret", Granted)
	b.Run("granted parallel", func(b *testing.B) {
		h := header("bob", "secret")
		b.RunParallel(func(pb *testing.PB) {
			for pb.Next() {
				if _, o := g.Check(b.Context(), h); o != Granted {
					b.Fail()
				}
			}
		})
	})
}

// What one login costs when it is not remembered.
func BenchmarkHash(b *testing.B) {
	for _, stored := range []string{
		"$2y$05$abcdefghijklmnopqrstuuOQiyCxlgf/oeuTqixKmWdcYUh4Hjl0a",
		"$2y$10$abcdefghijklmnopqrstuuOQiyCxlgf/oeuTqixKmWdcYUh4Hjl0a",
		"$2y$14$abcdefghijklmnopqrstuuOQiyCxlgf/oeuTqixKmWdcYUh4Hjl0a",
		apr1,
		"$6$abcdefgh$ltjgWl6579NluT/Vi1nwEvcil.G5Nbc4NiXZaNGStk8PSwGfQv72N2CKPPrVACtLtip/cZ/1GM/O6IND4WQhG.",
		"$6$rounds=1000000$abcdefgh$ltjgWl6579NluT/Vi1nwEvcil.G5Nbc4NiXZaNGStk8PSwGfQv72N2CKPPrVACtLtip/cZ/1GM/O6IND4WQhG.",
		"$argon2id$v=19$m=19456,t=2,p=1$c29tZXNhbHQ$nf65EOgLrQMR/uIPnA4rEsF5h7TKyQwu9U1bMCHGi/4",
		"$argon2id$v=19$m=65536,t=16,p=4$c29tZXNhbHQ$nf65EOgLrQMR/uIPnA4rEsF5h7TKyQwu9U1bMCHGi/4",
	} {
		e, _ := users(b, "bob:"+stored).lookup([]byte("bob"))
		for _, password := range []string{"secret", strings.Repeat("p", MaxPassword)} {
			b.Run(fmt.Sprintf("%.32s/%d", stored, len(password)), func(b *testing.B) {
				for b.Loop() {
					e.hash.MatchesPassword(password)
				}
			})
		}
	}
}

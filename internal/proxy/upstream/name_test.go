package upstream

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"gatehouse.dev/gatehouse/internal/ir"
	"gatehouse.dev/gatehouse/internal/service"
)

// fakeDNS answers from a table of absolute names.
type fakeDNS struct {
	mu      sync.Mutex
	records map[string][]string // no entry: no such host; silentName: no answer
	asked   []string
	running int
	most    int           // lookups at the same time
	linger  time.Duration // after the context's end
}

const silentName = "silent"

func (d *fakeDNS) set(name string, addrs ...string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.records == nil {
		d.records = map[string][]string{}
	}
	delete(d.records, name)
	if len(addrs) > 0 {
		d.records[name] = addrs
	}
}

// lookups tells how often anything was asked since the last call.
func (d *fakeDNS) lookups() int {
	d.mu.Lock()
	defer d.mu.Unlock()
	n := len(d.asked)
	d.asked = nil
	return n
}

func (d *fakeDNS) LookupNetIP(ctx context.Context, network, host string) ([]netip.Addr, error) {
	d.mu.Lock()
	if network != "ip" || !strings.HasSuffix(host, ".") {
		d.mu.Unlock()
		panic(fmt.Sprintf("looked up %q on %q: not absolute, or not for both families", host, network))
	}
	d.asked = append(d.asked, host)
	records := d.records[host]
	d.running++
	d.most = max(d.most, d.running)
	d.mu.Unlock()
	defer func() {
		d.mu.Lock()
		d.running--
		d.mu.Unlock()
	}()
	if records == nil {
		return nil, &net.DNSError{Err: "no such host", Name: host, IsNotFound: true}
	}
	if records[0] == silentName {
		<-ctx.Done()
		time.Sleep(d.linger)
		return nil, ctx.Err()
	}
	var out []netip.Addr
	for _, r := range records {
		out = append(out, netip.MustParseAddr(r))
	}
	return out, nil
}

// inBubble runs a Manager with a fake name server and a fake clock.
func inBubble(t *testing.T, policy service.AddressPolicy, f func(t *testing.T, m *Manager, d *fakeDNS)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		d, n := &fakeDNS{}, &fakeNet{}
		m := New(Options{Resolver: d, Dialer: n.dial, Addresses: policy})
		stop := start(t, m)
		defer stop()
		f(t, m, d)
	})
}

func TestExternalNameIsResolvedAgain(t *testing.T) {
	inBubble(t, service.AddressPolicy{}, func(t *testing.T, m *Manager, d *fakeDNS) {
		d.set("db.example.com.", "10.0.0.2", "2001:db8::1", "::ffff:10.0.0.1", "10.0.0.2")
		m.Update(stateOf(externalName("db.example.com")))
		b := m.Backend(shop)
		synctest.Wait()
		equal(t, "both families with the backend's port", addressesOf(b), []string{addrA, addrB, "[2001:db8::1]:80"})
		kept := endpointAt(t, b, addrB)
		c := dialOK(t, kept)
		kept.Put(c, time.Now())

		d.set("db.example.com.", "10.0.0.2", "10.0.0.3")
		time.Sleep(30*time.Second - 1)
		synctest.Wait()
		if n := d.lookups(); n != 1 {
			t.Errorf("%d lookups in 30 s, want 1", n)
		}
		time.Sleep(time.Nanosecond)
		synctest.Wait()
		equal(t, "after 30 s", addressesOf(b), []string{addrB, addrC})
		if endpointAt(t, b, addrB) != kept || closes(c) != 0 {
			t.Error("an address that stayed lost its pool")
		}
	})
}

func TestExternalNameKeepsLastGoodAnswer(t *testing.T) {
	inBubble(t, service.AddressPolicy{}, func(t *testing.T, m *Manager, d *fakeDNS) {
		d.set("db.example.com.", "10.0.0.1")
		m.Update(stateOf(externalName("db.example.com")))
		b := m.Backend(shop)
		synctest.Wait()
		d.set("db.example.com.")
		d.lookups()
		time.Sleep(30 * time.Second) // fails now, then after 1, 2, 4, 8, 16, 30 s
		synctest.Wait()
		for _, pause := range []time.Duration{1, 2, 4, 8, 16, 30, 30} {
			d.lookups()
			time.Sleep(pause*time.Second - 1)
			synctest.Wait()
			if n := d.lookups(); n != 0 {
				t.Errorf("retried before %d s had passed", pause)
			}
			time.Sleep(time.Nanosecond)
			synctest.Wait()
			if n := d.lookups(); n != 1 {
				t.Errorf("%d lookups after %d s, want 1", n, pause)
			}
			equal(t, "while the name fails", addressesOf(b), []string{addrA})
		}
		d.set("db.example.com.", "10.0.0.2")
		time.Sleep(30 * time.Second)
		synctest.Wait()
		equal(t, "after the name came back", addressesOf(b), []string{addrB})
		d.lookups()
		time.Sleep(30*time.Second - 1)
		synctest.Wait()
		if n := d.lookups(); n != 0 {
			t.Error("still in a hurry after a success")
		}
		d.set("db.example.com.")
		time.Sleep(2 * time.Second)
		synctest.Wait()
		if n := d.lookups(); n != 2 {
			t.Errorf("%d lookups in the 2 s around a new failure, want the first retry after 1 s", n)
		}
	})
}

func TestExternalNameToRefusedAddress(t *testing.T) {
	f := func(policy service.AddressPolicy, answer string, want ...string) {
		t.Helper()
		inBubble(t, policy, func(t *testing.T, m *Manager, d *fakeDNS) {
			d.set("evil.example.com.", answer)
			m.Update(stateOf(externalName("evil.example.com")))
			b := m.Backend(shop)
			synctest.Wait()
			equal(t, answer, addressesOf(b), want)
			if !ready(m) {
				t.Error("not ready although the lookup has ended")
			}
		})
	}
	admin := service.AddressPolicy{AllowLocal: true, Denied: []netip.AddrPort{netip.MustParseAddrPort("0.0.0.0:80")}}
	f(service.AddressPolicy{}, "127.0.0.1")
	f(service.AddressPolicy{}, "::1")
	f(service.AddressPolicy{}, "::ffff:127.0.0.1")
	f(service.AddressPolicy{}, "169.254.169.254")
	f(service.AddressPolicy{}, "::ffff:169.254.169.254")
	f(service.AddressPolicy{}, "fe80::1")
	f(service.AddressPolicy{}, "0.0.0.0")
	f(service.AddressPolicy{}, "fd00:ec2::254")
	f(local, "127.0.0.1", "127.0.0.1:80")
	f(local, "::ffff:127.0.0.1", "127.0.0.1:80")
	f(admin, "127.0.0.1")
}

func TestExternalNameRebinding(t *testing.T) {
	inBubble(t, service.AddressPolicy{}, func(t *testing.T, m *Manager, d *fakeDNS) {
		d.set("rebind.example.com.", "10.0.0.1")
		m.Update(stateOf(externalName("rebind.example.com")))
		b := m.Backend(shop)
		synctest.Wait()
		e := endpointAt(t, b, addrA)

		d.set("rebind.example.com.", "169.254.169.254")
		time.Sleep(30 * time.Second)
		synctest.Wait()
		equal(t, "after the name moved to the metadata service", addressesOf(b), []string{addrA})
		if endpointAt(t, b, addrA) != e {
			t.Error("the last good endpoint was made anew")
		}
		d.set("rebind.example.com.", "127.0.0.1", "10.0.0.2", "169.254.169.254")
		time.Sleep(30 * time.Second)
		synctest.Wait()
		equal(t, "of a mixed answer", addressesOf(b), []string{addrB})
	})
}

func TestExternalNameChanges(t *testing.T) {
	inBubble(t, service.AddressPolicy{}, func(t *testing.T, m *Manager, d *fakeDNS) {
		d.set("one.example.com.", "10.0.0.1")
		d.set("two.example.com.", silentName)
		m.Update(stateOf(externalName("one.example.com")))
		b := m.Backend(shop)
		synctest.Wait()
		equal(t, "first name", addressesOf(b), []string{addrA})
		d.lookups()

		m.Update(stateOf(externalName("one.example.com.")))
		synctest.Wait()
		if n := d.lookups(); n != 0 {
			t.Error("a Service that changed in something else was looked up again")
		}

		m.Update(stateOf(externalName("two.example.com")))
		synctest.Wait()
		equal(t, "until the second name answers", addressesOf(b), []string{addrA})
		if ready(m) {
			t.Error("ready before the second name answered")
		}
		time.Sleep(lookupTimeout)
		synctest.Wait()
		equal(t, "the second name failed", addressesOf(b), nil)

		m.Update(stateOf(clusterIP(addrC)))
		equal(t, "an ordinary Service now", addressesOf(b), []string{addrC})
		d.set("two.example.com.", "10.0.0.2")
		d.lookups()
		time.Sleep(time.Minute)
		synctest.Wait()
		equal(t, "an ordinary Service still", addressesOf(b), []string{addrC})
		if n := d.lookups(); n != 0 {
			t.Errorf("%d lookups of a name that nobody uses", n)
		}
	})
}

func TestLateAnswerToAnOldNameIsDropped(t *testing.T) {
	inBubble(t, service.AddressPolicy{}, func(t *testing.T, m *Manager, d *fakeDNS) {
		d.set("old.example.com.", silentName)
		d.set("new.example.com.", "10.0.0.1")
		m.Update(stateOf(externalName("old.example.com")))
		b := m.Backend(shop)
		synctest.Wait()
		m.Update(stateOf(externalName("new.example.com")))
		synctest.Wait()
		equal(t, "new name", addressesOf(b), []string{addrA})
		time.Sleep(lookupTimeout)
		synctest.Wait()
		equal(t, "after the old name failed", addressesOf(b), []string{addrA})
		m.Retain(func(ir.BackendID) bool { return false })
		d.lookups()
		time.Sleep(time.Minute)
		synctest.Wait()
		if n := d.lookups(); n != 0 {
			t.Error("the name of a dropped backend is still looked up")
		}
	})
}

func TestExternalNameThatIsAnAddress(t *testing.T) {
	inBubble(t, service.AddressPolicy{}, func(t *testing.T, m *Manager, d *fakeDNS) {
		m.Update(stateOf(externalName("10.0.0.1")))
		b := m.Backend(shop)
		equal(t, "literal address", addressesOf(b), []string{addrA})
		m.Update(stateOf(externalName("169.254.169.254")))
		equal(t, "literal metadata address", addressesOf(b), nil)
		synctest.Wait()
		if n := d.lookups(); n != 0 {
			t.Errorf("%d lookups of an address", n)
		}
		d.set("db.example.com.", "10.0.0.2")
		m.Update(stateOf(externalName("db.example.com")))
		synctest.Wait()
		m.Update(stateOf(externalName("10.0.0.1")))
		time.Sleep(time.Minute)
		synctest.Wait()
		equal(t, "an address again", addressesOf(b), []string{addrA})
	})
}

func TestAbsolute(t *testing.T) {
	for in, want := range map[string]string{"db": "db.", "db.example.com": "db.example.com.", "db.example.com.": "db.example.com."} {
		if got := absolute(in); got != want {
			t.Errorf("absolute(%q) = %q, want %q", in, got, want)
		}
	}
}

func TestWaitReady(t *testing.T) {
	inBubble(t, service.AddressPolicy{}, func(t *testing.T, m *Manager, d *fakeDNS) {
		d.set("slow.example.com.", silentName)
		m.Backend(shop)
		began := time.Now()
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		if err := m.WaitReady(ctx); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("without a state: %v", err)
		}
		cancel()
		m.Update(stateOf(externalName("slow.example.com")))
		if err := m.WaitReady(t.Context()); err != nil {
			t.Error(err)
		}
		if took := time.Since(began); took != time.Second+lookupTimeout {
			t.Errorf("ready after %v, want 1 s and the lookup's %v", took, lookupTimeout)
		}
	})
}

func TestManyNamesAreLookedUpAFewAtATime(t *testing.T) {
	inBubble(t, service.AddressPolicy{}, func(t *testing.T, m *Manager, d *fakeDNS) {
		var services []*service.Service
		for i := range 50 {
			name := fmt.Sprintf("s%02d", i)
			d.set(name+".example.com.", silentName)
			services = append(services, &service.Service{Key: service.Key{Namespace: "default", Name: name}, ExternalName: name + ".example.com"})
			m.Backend(ir.Backend{ID: ir.BackendID("default/" + name + ":80"), Namespace: "default", Service: name, Port: 80})
		}
		m.Update(stateOf(services...))
		began := time.Now()
		if err := m.WaitReady(t.Context()); err != nil {
			t.Fatal(err)
		}
		if took := time.Since(began); took != 4*lookupTimeout {
			t.Errorf("50 silent names took %v, want 4 rounds of %v: retries came first", took, lookupTimeout)
		}
		d.mu.Lock()
		defer d.mu.Unlock()
		if d.most != maxLookups {
			t.Errorf("%d lookups at the same time, want %d", d.most, maxLookups)
		}
	})
}

func TestRunEndsDuringALookup(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := &fakeDNS{linger: time.Second}
		d.set("slow.example.com.", silentName)
		m := New(Options{Resolver: d})
		stop := start(t, m)
		m.Update(stateOf(clusterIP(addrA)))
		b := m.Backend(shop)
		m.Update(stateOf(externalName("slow.example.com")))
		synctest.Wait()
		began := time.Now()
		stop()
		if took := time.Since(began); took != d.linger {
			t.Errorf("Run ended after %v, want it to wait for its lookup but not for the answer", took)
		}
		equal(t, "a lookup that was broken off is no failure", addressesOf(b), []string{addrA})
	})
}

// TestLocalhostIsNotLookedUp states RFC 6761, section 6.3: the name and all
// below it are loopback addresses, whatever a name server says, and only where
// the policy allows them.
func TestLocalhostIsNotLookedUp(t *testing.T) {
	f := func(host string, allowed bool, want ...string) {
		t.Helper()
		inBubble(t, service.AddressPolicy{AllowLocal: allowed}, func(t *testing.T, m *Manager, d *fakeDNS) {
			d.set(strings.TrimRight(host, ".")+".", "10.0.0.1")
			m.Update(stateOf(externalName(host)))
			b := m.Backend(shop)
			synctest.Wait()
			equal(t, host, addressesOf(b), want)
			if isLocal := len(want) != 1; (d.lookups() == 0) != isLocal {
				t.Errorf("%s: looked up, or not, against the rule", host)
			}
		})
	}
	for _, host := range []string{"localhost", "localhost.", "LocalHost", "a.b.localhost"} {
		f(host, true, "127.0.0.1:80", "[::1]:80")
		f(host, false)
	}
	f("notlocalhost", true, addrA)
	f("localhost.example.com", true, addrA)
}

package gatehouse

import (
	"context"
	"flag"
	"fmt"
	"net/http"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"gatehouse.dev/gatehouse/test/kube/cluster"
)

// TestMain makes this test binary stand in for gatehouse: how a process is
// judged shows best on one that behaves as it is told.
func TestMain(m *testing.M) {
	if behaviour := os.Getenv("TEST_BEHAVIOUR"); behaviour != "" {
		os.Exit(standIn(behaviour))
	}
	os.Exit(m.Run())
}

func standIn(behaviour string) int {
	flags := flag.NewFlagSet("serve", flag.ContinueOnError)
	admin := flags.String("admin-addr", "", "")
	flags.String("http-addr", "", "")
	flags.String("https-addr", "", "")
	if err := flags.Parse(os.Args[2:]); err != nil {
		return 2
	}
	term := make(chan os.Signal, 1)
	signal.Notify(term, syscall.SIGTERM)
	switch behaviour {
	case "dies":
		fmt.Fprintln(os.Stderr, "no such file")
		return 1
	case "races":
		fmt.Fprintln(os.Stderr, "==================\nWARNING: DATA RACE\nWrite at 0x0")
	}
	http.HandleFunc("/readyz", func(w http.ResponseWriter, _ *http.Request) {
		if behaviour == "unready" {
			http.Error(w, "caches have not synced", http.StatusServiceUnavailable)
		}
	})
	served := make(chan error, 1)
	go func() { served <- http.ListenAndServe(*admin, nil) }()
	for {
		select {
		case err := <-served:
			fmt.Fprintln(os.Stderr, err)
			return 1
		case <-term:
			if behaviour == "stays" {
				continue
			}
			if behaviour == "ends badly" {
				return 3
			}
			return 0
		}
	}
}

func TestProcess(t *testing.T) {
	f := func(behaviour, wantReady, wantStop string) {
		t.Helper()
		stopTimeout := 20 * time.Second
		if behaviour == "stays" {
			stopTimeout = 200 * time.Millisecond
		}
		p, err := launch(Options{
			Args:        []string{"serve"},
			Env:         []string{"TEST_BEHAVIOUR=" + behaviour},
			Binary:      os.Args[0],
			stopTimeout: stopTimeout,
		}, filepath.Join(t.TempDir(), "log"))
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
		defer cancel()
		if behaviour == "unready" {
			// Short, but not before it serves.
			expect(t, "serving", cluster.Eventually(ctx, 20*time.Second, func(ctx context.Context) error {
				if err := p.Ready(ctx); !strings.Contains(err.Error(), "503") {
					return err
				}
				return nil
			}), "")
			ctx, cancel = context.WithTimeout(ctx, 200*time.Millisecond)
			defer cancel()
		}
		expect(t, behaviour+": WaitReady", p.WaitReady(ctx), wantReady)
		expect(t, behaviour+": Stop", p.Stop(), wantStop)
		if !p.proc.Exited() {
			t.Errorf("%s: not gone after Stop", behaviour)
		}
	}
	f("works", "", "")
	f("dies", "it ended: exit status 1", "exit status 1")
	f("unready", "caches have not synced", "")
	f("races", "", "data race:\nWrite at 0x0")
	f("ends badly", "", "exit status 3")
	f("stays", "", "was killed")
}

func TestKill(t *testing.T) {
	p := Run(t, Options{Args: []string{"serve"}, Env: []string{"TEST_BEHAVIOUR=works"}, Binary: os.Args[0]})
	if err := p.WaitReady(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := p.Kill(); err != nil {
		t.Fatal(err)
	}
	if err := p.Stop(); err != nil {
		t.Errorf("Stop after Kill: %v", err)
	}
}

func TestAddresses(t *testing.T) {
	var p Process
	args, err := p.addresses([]string{"serve", "--http-addr", "127.0.0.1:81", "--https-addr=127.0.0.1:82"})
	if err != nil {
		t.Fatal(err)
	}
	if p.HTTPAddr != "127.0.0.1:81" || p.HTTPSAddr != "127.0.0.1:82" {
		t.Errorf("given addresses are not kept: %+v", &p)
	}
	if len(args) != 5 || args[4] != "--admin-addr="+p.AdminAddr {
		t.Errorf("arguments are %q", args)
	}
}

func TestEnvironment(t *testing.T) {
	got := environment([]string{"PATH=/bin", "GATEHOUSE_LOG_LEVEL=debug", "KUBECONFIG=x", "https_proxy=x", "HOME=/"})
	if want := "PATH=/bin HOME=/"; strings.Join(got, " ") != want {
		t.Errorf("environment is %q, want %q", got, want)
	}
}

func expect(t *testing.T, what string, err error, want string) {
	t.Helper()
	switch {
	case want == "" && err != nil:
		t.Errorf("%s: %v", what, err)
	case want != "" && (err == nil || !strings.Contains(err.Error(), want)):
		t.Errorf("%s: error is %v, want one with %q", what, err, want)
	}
}

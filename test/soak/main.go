// Command soak overloads Gatehouse for a while and says who ended the connections
// that broke: Gatehouse, an endpoint, the client, or a kernel that ran out of
// something. It is for questions that a short test cannot answer: resets in the middle
// of responses, endpoints that slow each other down, memory that stays.
//
// Clients, Gatehouse and endpoints each have a network namespace of their own, so that
// each has the kernel's counters (nstat) for itself: a reset that Gatehouse's kernel
// counts as sent, and its clients' as received, is told from one that came from an
// endpoint, and the counters TCPAbort* say why it was sent. All of it is gone when the
// program ends. It needs root, and changes nothing outside of its namespaces.
package main

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"time"
)

// options say what is done for how long.
type options struct {
	Binary   string        // what is tried
	Length   time.Duration // of the load
	Rest     time.Duration // of the quiet after it, at whose end memory is read
	Closing  int           // clients that make a connection for each request
	HalfShut int           // of these, how many end their side after the request
	TLS      bool          // these clients speak TLS
	Size     int           // bytes of their responses
	Pause    time.Duration // of their endpoint, before each piece of a response
	Stalled  int           // HTTP/2 streams whose client never takes a byte
	Stall    int           // bytes of each of their responses
	Paced    int           // clients that ask another endpoint in turn, and are timed
	Procs    int           // CPUs of Gatehouse; 0: all
}

func main() {
	var o options
	flag.StringVar(&o.Binary, "binary", "", "what to try; empty: it is built")
	race := flag.Bool("race", false, "build it with the race detector")
	flag.DurationVar(&o.Length, "length", time.Minute, "how long the load lasts")
	flag.DurationVar(&o.Rest, "rest", 10*time.Second, "how long nothing happens after it")
	flag.IntVar(&o.Closing, "closing", 200, "clients that connect anew for each request (Connection: close)")
	flag.IntVar(&o.HalfShut, "half", 0, "how many of them end their side of the connection after the request")
	flag.BoolVar(&o.TLS, "tls", false, "let them speak TLS")
	flag.IntVar(&o.Size, "size", 256<<10, "bytes of their responses")
	flag.DurationVar(&o.Pause, "pause", 0, "how long their endpoint pauses before each eighth of a response")
	flag.IntVar(&o.Stalled, "stalled", 0, "HTTP/2 streams with a window of zero, to another endpoint")
	flag.IntVar(&o.Stall, "stall", 16<<10, "bytes of the response that each of these does not take")
	flag.IntVar(&o.Paced, "paced", 4, "clients whose requests are timed, to an endpoint of their own")
	flag.IntVar(&o.Procs, "procs", 0, "CPUs that Gatehouse may use (GOMAXPROCS); 0: all")
	role := flag.String("role", "", "for its own use")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := run(ctx, o, *race, *role); err != nil {
		fmt.Fprintln(os.Stderr, "soak:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, o options, race bool, role string) error {
	switch role {
	case "endpoints":
		return serveEndpoints(ctx)
	case "clients":
		if err := json.NewDecoder(os.Stdin).Decode(&o); err != nil {
			return err
		}
		return json.NewEncoder(os.Stdout).Encode(load(ctx, o))
	}
	dir, err := os.MkdirTemp("", "soak")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	if o.Binary == "" {
		if o.Binary, err = build(dir, race); err != nil {
			return err
		}
	}
	self, err := os.Executable()
	if err != nil {
		return err
	}
	r, err := soak(ctx, o, dir, self)
	if err != nil {
		return err
	}
	r.print(os.Stdout)
	return nil
}

// build makes the binary that is tried.
func build(dir string, race bool) (string, error) {
	binary := filepath.Join(dir, "gatehouse")
	args := []string{"build", "-o", binary}
	if race {
		args = append(args, "-race")
	}
	b := exec.Command("go", append(args, "gatehouse.dev/gatehouse/cmd/gatehouse")...)
	if text, err := b.CombinedOutput(); err != nil {
		return "", fmt.Errorf("cannot build gatehouse: %w\n%s", err, text)
	}
	return binary, nil
}

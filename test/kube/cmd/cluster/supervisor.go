package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"gatehouse.dev/gatehouse/test/kube/cluster"
	"gatehouse.dev/gatehouse/test/kube/image"
	"gatehouse.dev/gatehouse/test/kube/internal/gobuild"
	"gatehouse.dev/gatehouse/test/kube/internal/poll"
	"gatehouse.dev/gatehouse/test/kube/internal/process"
)

// supervise is the verb by which up starts the program that stays.
const supervise = "supervise"

// Files of a supervisor.
const (
	lockFile  = "lock"  // locked while it runs; its process id
	logFile   = "log"   // its output
	readyFile = "ready" // there when the cluster is up: a state, in JSON
	enterFile = "enter" // a script that runs a program in the sandbox
)

const (
	upTimeout   = 5 * time.Minute // some 5 s on an idle machine
	downTimeout = time.Minute     // some 1 s
)

// imagesEnv lists archives to load into the nodes.
const imagesEnv = "GATEHOUSE_CLUSTER_IMAGES"

// supervisor is the program that stays, as seen by itself and by others. It
// dies with nobody, and the cluster dies with it.
type supervisor struct {
	name, dir string
}

// state is what the supervisor tells of the cluster.
type state struct {
	Kubeconfig, Logs string
}

func newSupervisor(name string) (*supervisor, error) {
	cache, err := gobuild.CacheDir()
	if err != nil {
		return nil, err
	}
	return &supervisor{name: name, dir: filepath.Join(cache, "supervisors", name)}, nil
}

func (s *supervisor) file(name string) string { return filepath.Join(s.dir, name) }

// up starts the supervisor, unless it runs, and waits until the cluster is up.
func (s *supervisor) up(ctx context.Context, nodes int, load bool) error {
	running, err := s.running()
	if err != nil {
		return err
	}
	if running {
		fmt.Printf("The cluster %s is up already.\n", s.name)
		return s.show()
	}
	// Here, where the user sees it, rather than in the supervisor.
	p := progress{os.Stdout, sayEvery}
	images, err := build(ctx, p, load)
	if err != nil {
		return err
	}
	if err := os.RemoveAll(s.dir); err != nil {
		return fmt.Errorf("cannot remove what an earlier supervisor left: %w", err)
	}
	if err := os.MkdirAll(s.dir, 0o700); err != nil {
		return fmt.Errorf("cannot make the supervisor's directory: %w", err)
	}
	begin := time.Now()
	starting := fmt.Sprintf("Starting the cluster %s with %d nodes; its log is %s", s.name, nodes, s.file(logFile))
	if err := p.step(starting, func() error { return s.start(ctx, nodes, images) }); err != nil {
		return err
	}
	fmt.Printf("The cluster %s is up after %.1f s.\n", s.name, time.Since(begin).Seconds())
	return s.show()
}

// build makes what the cluster runs, and gives the archives of the images to load.
func build(ctx context.Context, p progress, load bool) (images []string, err error) {
	err = p.step("Building Kubernetes and etcd from source, up to 10 minutes the first time", func() error {
		_, err := cluster.Build(ctx)
		return err
	})
	if err != nil {
		return nil, err
	}
	if err := p.step("Fetching containerd and its like, building the images of pause and CoreDNS", func() error { return cluster.Prepare(ctx) }); err != nil {
		return nil, err
	}
	if !load {
		return nil, nil
	}
	for _, i := range []struct {
		name  string
		build func(context.Context) (string, error)
	}{{"Gatehouse", image.GatehouseImage}, {"the tests' server", image.TestServerImage}} {
		err := p.step("Building the image of "+i.name, func() error {
			archive, err := i.build(ctx)
			images = append(images, archive)
			return err
		})
		if err != nil {
			return nil, err
		}
	}
	return images, nil
}

// start starts the supervisor and waits until the cluster is up, or it failed.
func (s *supervisor) start(ctx context.Context, nodes int, images []string) error {
	path, err := os.Executable()
	if err != nil {
		return fmt.Errorf("cannot find this program: %w", err)
	}
	log, err := os.Create(s.file(logFile))
	if err != nil {
		return fmt.Errorf("cannot start the supervisor: %w", err)
	}
	defer log.Close()
	cmd := exec.Command(path, "-name", s.name, supervise, "-nodes", strconv.Itoa(nodes))
	cmd.Env = append(os.Environ(), imagesEnv+"="+strings.Join(images, string(filepath.ListSeparator)))
	cmd.Stdout, cmd.Stderr = log, log
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true} // it outlives us and our terminal
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("cannot start the supervisor: %w", err)
	}
	ended := make(chan struct{})
	go func() {
		_ = cmd.Wait()
		close(ended)
	}()
	ctx, cancel := context.WithTimeoutCause(ctx, upTimeout, errors.New("it took too long"))
	defer cancel()
	ctx, giveUp := context.WithCancelCause(ctx)
	defer giveUp(nil)
	err = poll.Until(ctx, 50*time.Millisecond, func(context.Context) error {
		_, err := os.Stat(s.file(readyFile))
		select {
		case <-ended:
			giveUp(errors.New("it ended"))
		default:
		}
		return err
	})
	if err != nil {
		tail := process.Tail(s.file(logFile), 60)
		return errors.Join(fmt.Errorf("the cluster does not get up: %w\n%s", err, tail), s.down(context.WithoutCancel(ctx)))
	}
	return s.writeEnter(cmd.Process.Pid)
}

// run is the supervisor itself.
func (s *supervisor) run(ctx context.Context, nodes int) (int, error) {
	var lock *os.File
	status, inside, err := cluster.Enter(ctx, func(context.Context) (err error) {
		lock, err = s.lock()
		if err == nil {
			_, err = fmt.Fprintln(lock, os.Getpid())
		}
		return err
	})
	if !inside {
		if lock != nil {
			err = errors.Join(err, lock.Close())
		}
		return status, err
	}
	c, err := cluster.Start(ctx, cluster.Options{
		Name: s.name, Nodes: nodes, Images: filepath.SplitList(os.Getenv(imagesEnv)),
	})
	if err != nil {
		return 0, err
	}
	text, err := json.Marshal(state{Kubeconfig: c.Admin().Kubeconfig, Logs: c.Dir()})
	if err == nil {
		err = os.WriteFile(s.file(readyFile)+".new", text, 0o600)
	}
	if err == nil {
		err = os.Rename(s.file(readyFile)+".new", s.file(readyFile))
	}
	if err == nil {
		<-ctx.Done()
	}
	return 0, errors.Join(err, c.Close())
}

// down ends the cluster and the supervisor, if they run, and removes what is
// left of them, even if they crashed.
func (s *supervisor) down(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, downTimeout)
	defer cancel()
	signal := syscall.SIGTERM
	for range 2 {
		gone, err := s.end(ctx, signal)
		if err != nil {
			return err
		}
		if gone {
			return errors.Join(cluster.Sweep(ctx), os.RemoveAll(s.dir))
		}
		signal = syscall.SIGKILL
	}
	return fmt.Errorf("the supervisor does not end; see %s", s.file(logFile))
}

// end sends the supervisor a signal and waits half a minute for its end.
func (s *supervisor) end(ctx context.Context, signal syscall.Signal) (gone bool, err error) {
	running, err := s.running()
	if err != nil || !running {
		return !running, err
	}
	text, err := os.ReadFile(s.file(lockFile))
	if err != nil {
		return false, fmt.Errorf("cannot find the supervisor: %w", err)
	}
	pid, err := strconv.Atoi(strings.TrimSpace(string(text)))
	if err != nil {
		return false, fmt.Errorf("cannot find the supervisor: %w", err)
	}
	// It holds the lock, so it lives, and the id is its own.
	if err := syscall.Kill(pid, signal); err != nil {
		return false, fmt.Errorf("cannot end the supervisor: %w", err)
	}
	ctx, cancel := context.WithTimeout(ctx, downTimeout/2)
	defer cancel()
	err = poll.Until(ctx, 50*time.Millisecond, func(context.Context) error {
		if running, err := s.running(); err != nil || running {
			return errors.Join(err, errors.New("it runs"))
		}
		return nil
	})
	return err == nil, nil
}

// running reports whether the supervisor runs.
func (s *supervisor) running() (bool, error) {
	if _, err := os.Stat(s.dir); errors.Is(err, os.ErrNotExist) {
		return false, nil
	}
	lock, err := s.lock()
	if errors.Is(err, syscall.EWOULDBLOCK) {
		return true, nil
	}
	if err != nil {
		return false, err
	}
	return false, lock.Close()
}

// lock takes the supervisor's lock, or fails with EWOULDBLOCK. Closing the file
// gives it back.
func (s *supervisor) lock() (*os.File, error) {
	lock, err := os.OpenFile(s.file(lockFile), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, fmt.Errorf("cannot lock the supervisor's directory: %w", err)
	}
	if err := syscall.Flock(int(lock.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		lock.Close()
		return nil, fmt.Errorf("cannot lock the supervisor's directory: %w", err)
	}
	return lock, nil
}

// writeEnter writes the script by which one gets into the sandbox of the
// supervisor with that process id, and a kubectl for in there.
func (s *supervisor) writeEnter(supervisor int) error {
	inside, err := child(supervisor)
	if err != nil {
		return fmt.Errorf("cannot find the sandbox: %w", err)
	}
	st, err := s.state()
	if err != nil {
		return err
	}
	kubebin, err := cluster.Build(context.Background())
	if err != nil {
		return err
	}
	script := "#!/bin/sh\n# Runs a program, or a shell, outside of the cluster but on its network.\n"
	for _, name := range []string{"PATH", "LD_LIBRARY_PATH", "XTABLES_LIBDIR"} {
		value := os.Getenv(name)
		if name == "PATH" {
			value = s.file("bin") + ":" + value
		}
		if value != "" {
			script += "export " + name + "=" + quote(value) + "\n"
		}
	}
	script += "export KUBECONFIG=" + quote(st.Kubeconfig) + "\n" +
		"[ $# -gt 0 ] || set -- \"${SHELL:-/bin/sh}\"\n" +
		fmt.Sprintf("exec nsenter --target %d --mount --net --pid -- \"$@\"\n", inside)
	kubectl := "#!/bin/sh\nexec " + quote(kubebin) + " kubectl \"$@\"\n"
	return errors.Join(
		os.WriteFile(s.file(enterFile), []byte(script), 0o700),
		os.MkdirAll(s.file("bin"), 0o700),
		os.WriteFile(s.file("bin/kubectl"), []byte(kubectl), 0o700))
}

func quote(s string) string { return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'" }

// child is the process id of the only child of a process.
func child(pid int) (int, error) {
	lists, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/children", pid))
	if err != nil {
		return 0, err
	}
	var children []string
	for _, list := range lists {
		text, err := os.ReadFile(list)
		if err != nil {
			return 0, err
		}
		children = slices.Concat(children, strings.Fields(string(text)))
	}
	if len(children) != 1 {
		return 0, fmt.Errorf("process %d has children %v, want one", pid, children)
	}
	return strconv.Atoi(children[0])
}

func (s *supervisor) state() (st state, err error) {
	text, err := os.ReadFile(s.file(readyFile))
	if err == nil {
		err = json.Unmarshal(text, &st)
	}
	if err != nil {
		err = fmt.Errorf("cannot read the cluster's state: %w", err)
	}
	return st, err
}

// show tells how to use the cluster.
func (s *supervisor) show() error {
	st, err := s.state()
	if err != nil {
		return err
	}
	script, err := os.ReadFile(s.file(enterFile))
	if err != nil {
		return fmt.Errorf("cannot read how to enter: %w", err)
	}
	lines := strings.Split(strings.TrimSpace(string(script)), "\n")
	fmt.Printf(`
export KUBECONFIG=%s
%s
    gets you a shell outside of the cluster but on its network, with kubectl;
    in there, nodes are network namespaces: nsenter --net=/run/netns/node-1
%s
    does it by hand
%s/*.log
    are the logs
`, st.Kubeconfig, s.file(enterFile), strings.TrimSuffix(strings.TrimPrefix(lines[len(lines)-1], "exec "), ` "$@"`), st.Logs)
	return nil
}

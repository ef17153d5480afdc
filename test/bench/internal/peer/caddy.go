package peer

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"

	"gatehouse.dev/gatehouse/test/bench/internal/apt"
)

// prepareCaddy builds Caddy once, in a module of its own.
func prepareCaddy(ctx context.Context, e *Env) (*Program, error) {
	if e.Mode == Passthrough {
		return nil, errors.New("does not pass TLS through")
	}
	path, err := build(ctx, e, "caddy")
	if err != nil {
		return nil, err
	}
	conf, err := e.write("Caddyfile")
	if err != nil {
		return nil, err
	}
	return &Program{
		Path: path, Args: []string{"run", "--config", conf, "--adapter", "caddyfile"},
		Env:     []string{"HOME=" + e.Dir, "XDG_DATA_HOME=" + e.Dir, "XDG_CONFIG_HOME=" + e.Dir},
		Version: version(ctx, apt.Program{Path: path}, "version"),
	}, nil
}

// build builds the program of peers/NAME into the cache, unless what it is built of
// has not changed since.
func build(ctx context.Context, e *Env, name string) (string, error) {
	dir := filepath.Join(e.Bench, "peers", name)
	sum, err := os.ReadFile(filepath.Join(dir, "go.sum"))
	if err != nil {
		return "", fmt.Errorf("cannot build %s: %w", name, err)
	}
	path := filepath.Join(e.Cache, "built", name)
	if old, err := os.ReadFile(path + ".sum"); err == nil && string(old) == string(sum) {
		return path, nil
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return "", err
	}
	cmd := exec.CommandContext(ctx, "go", "build", "-trimpath", "-o", path, ".")
	cmd.Dir = dir
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("cannot build %s: %w\n%s", name, err, out)
	}
	return path, os.WriteFile(path+".sum", sum, 0o644)
}

// Port is the port of Addr.
func (e *Env) Port() string { return port(e.Addr) }

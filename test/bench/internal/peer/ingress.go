package peer

import (
	"context"
	"os"
	"path/filepath"
	"strings"

	"gatehouse.dev/gatehouse/test/bench/internal/apt"
)

// place is a location of nginx, for the template.
type place struct{ Host, Service, Match, Path string }

func location(host, service, match, path string) place {
	return place{label(host), service, match, path}
}

// luaLibraries is where Debian puts Lua code.
const luaLibraries = "/usr/share/lua/5.1"

// LuaPath is where the Lua libraries of Debian's packages are.
func (e *Env) LuaPath() (string, error) {
	file, err := apt.File(e.ctx, e.Cache, luaLibraries+"/resty/core.lua", "libnginx-mod-http-lua")
	return strings.TrimSuffix(file, "/resty/core.lua"), err
}

func prepareIngressNginx(ctx context.Context, e *Env) (*Program, error) {
	p, err := apt.Find(ctx, e.Cache, "nginx", "nginx")
	if err != nil {
		return nil, err
	}
	dir := filepath.Join(e.Dir, "lua")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, err
	}
	for _, name := range []string{"balancer.lua", "ingress.lua", "monitor.lua"} {
		text, err := templates.ReadFile("lua/" + name)
		if err != nil {
			return nil, err
		}
		if err := os.WriteFile(filepath.Join(dir, name), text, 0o644); err != nil {
			return nil, err
		}
	}
	lua, err := e.LuaPath()
	if err != nil {
		return nil, err
	}
	conf, err := e.write("ingress-nginx.conf")
	if err != nil {
		return nil, err
	}
	env := p.Env
	if root := strings.TrimSuffix(lua, luaLibraries); root != "" {
		var libraries []string
		for _, dir := range []string{"usr/lib/*-linux-gnu", "lib/*-linux-gnu"} {
			found, err := filepath.Glob(filepath.Join(root, dir))
			if err != nil {
				return nil, err
			}
			libraries = append(libraries, found...)
		}
		for i, v := range env {
			if rest, ok := strings.CutPrefix(v, "LD_LIBRARY_PATH="); ok {
				libraries, env = append(libraries, rest), append(env[:i:i], env[i+1:]...)
				break
			}
		}
		env = append(env, "LD_LIBRARY_PATH="+strings.Join(libraries, ":"))
	}
	return &Program{
		Path: p.Path, Args: []string{"-e", "stderr", "-p", e.Dir, "-c", conf}, Env: env,
		Version: version(ctx, p, "-e", "stderr", "-v"),
	}, nil
}

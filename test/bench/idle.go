package main

import (
	"bufio"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"sync"
	"time"

	"gatehouse.dev/gatehouse/test/bench/internal/cert"
	"gatehouse.dev/gatehouse/test/bench/internal/peer"
	"gatehouse.dev/gatehouse/test/bench/internal/result"
)

const (
	idleConnections = 10000
	idleAtOnce      = 32 // being opened
	// settled is from the last answer to the look at the memory: what was used to
	// make connections may be given back until then.
	settled = 5 * time.Second
)

// idleTargets are the most bytes that an idle connection of ours may hold.
var idleTargets = map[bool]float64{false: 6 << 10, true: 18 << 10}

// holdIdle measures what idle connections hold, for all peers.
func (b *bench) holdIdle(ctx context.Context) error {
	for _, secure := range []bool{false, true} {
		w := workload{Workload: result.Workload{Name: "idle"}}
		if secure {
			w.Name, w.mode = "idle-tls", peer.Offloading
		}
		if err := b.idleOf(ctx, w, secure); err != nil {
			return fmt.Errorf("%s: %w", w.Name, err)
		}
	}
	return nil
}

func (b *bench) idleOf(ctx context.Context, w workload, secure bool) (err error) {
	dir := filepath.Join(b.dir, w.Name)
	if err := os.Mkdir(dir, 0o755); err != nil {
		return err
	}
	env := peer.Env{Mode: w.mode, Table: w.table(0), Binary: b.binary, Self: b.self, Bench: filepath.Join(b.root, "test", "bench"), Cache: b.cache}
	if secure {
		if env.Certs, err = cert.Make(dir, peer.FrontNames(), peer.BackNames(env.Table)); err != nil {
			return err
		}
	}
	server, addr, err := startBackend(b.self, dir, b.cpus[1:2], w, nil)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, server.Stop()) }()
	env.Backend = addr
	for _, p := range b.peers {
		if peer.Optional(p.Name) && p.Name != peer.Caddy {
			continue
		}
		r, err := p.Start(ctx, env, dir, b.cpus[:1])
		var i result.Idle
		if err == nil {
			i, err = fill(ctx, r, env, secure)
			err = errors.Join(err, r.Stop())
		}
		switch {
		case ctx.Err() != nil:
			return context.Cause(ctx)
		case err != nil:
			b.absent(w.Name, p.Name, err)
			continue
		}
		if p.Name == b.settings.Ours {
			i.Target = idleTargets[secure]
		}
		fmt.Fprintf(os.Stderr, "%s %-10s %.1f KiB for each of %d connections\n", w.Name, p.Name, i.Each/1024, i.Connections)
		b.report.Idle = append(b.report.Idle, i)
	}
	return nil
}

// fill opens the connections and looks at the memory before and after.
func fill(ctx context.Context, r *peer.Running, env peer.Env, secure bool) (result.Idle, error) {
	i := result.Idle{Peer: r.Peer.Name, TLS: secure, Connections: idleConnections}
	var err error
	if i.Before, err = r.Memory(); err != nil {
		return i, err
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	conns := make([]net.Conn, idleConnections)
	failed := make(chan error, idleAtOnce)
	var opening sync.WaitGroup
	for worker := range idleAtOnce {
		opening.Go(func() {
			for n := worker; n < len(conns) && ctx.Err() == nil; n += idleAtOnce {
				c, err := openIdle(ctx, r.Addr, env.Table, n, secure)
				if conns[n] = c; err != nil {
					failed <- err
					cancel()
					return
				}
			}
		})
	}
	opening.Wait()
	defer func() {
		for _, c := range conns {
			if c != nil {
				c.Close()
			}
		}
	}()
	select {
	case err := <-failed:
		return i, err
	case <-ctx.Done():
		return i, context.Cause(ctx)
	case <-time.After(settled):
	}
	after, err := r.Memory()
	i.Each = float64(after-i.Before) / idleConnections
	return i, err
}

// openIdle makes a connection on which one request has been answered.
func openIdle(ctx context.Context, addr string, t peer.Table, n int, secure bool) (net.Conn, error) {
	host := t.Hosts[n%len(t.Hosts)]
	d := net.Dialer{Timeout: 20 * time.Second}
	c, err := d.DialContext(ctx, "tcp", addr)
	if err != nil {
		return nil, err
	}
	if err := c.SetDeadline(time.Now().Add(20 * time.Second)); err != nil {
		c.Close()
		return nil, err
	}
	if secure {
		conf := cert.Config()
		conf.ServerName, conf.InsecureSkipVerify = host, true // checked before
		c = tls.Client(c, conf)
	}
	if _, err := c.Write(peer.Request(host, t.Paths[0].Target, "")); err != nil {
		c.Close()
		return nil, err
	}
	resp, err := http.ReadResponse(bufio.NewReader(c), nil)
	if err == nil {
		_, err = io.Copy(io.Discard, resp.Body)
	}
	if err == nil && resp.StatusCode != http.StatusOK {
		err = errors.New(resp.Status)
	}
	if err != nil {
		c.Close()
		return nil, err
	}
	return c, nil
}

#!/usr/bin/env bash
# A server name with a final dot (SNI "localhost.") and Go's TLS.
#
# One would guess: https://example.com./ works with a Go server, since Go's client
# drops the dot, curl does, and RFC 6066 section 3 speaks of clients only.
# What happens: Python's ssl module sends the dot as it is, and crypto/tls refuses
# the hello as one that cannot be decoded (alert decode_error), before any callback of
# tls.Config is asked: a Go server cannot serve such a client at all. OpenSSL's server
# hands the name with its dot to the program.
# Versions: Go 1.26 (crypto/tls), Python 3.11 and later, OpenSSL 3.
# Source: crypto/tls clientHelloMsg.unmarshal, "An SNI value may not include a trailing dot".
#
# Needs go and python3 in PATH. Nothing leaves loopback. Fails if the behaviour changes.
set -euo pipefail
dir=$(mktemp -d)
trap 'kill "${server:-}" 2>/dev/null || true; rm -rf "$dir"' EXIT
cd "$dir"
cat > main.go <<'GO'
package main

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"math/big"
	"os"
	"time"
)

func main() {
	key, _ := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	t := &x509.Certificate{SerialNumber: big.NewInt(1), DNSNames: []string{"localhost"}, NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, t, t, key.Public(), key)
	if err != nil {
		panic(err)
	}
	asked := func(h *tls.ClientHelloInfo) (*tls.Config, error) {
		fmt.Printf("server: asked for %q\n", h.ServerName)
		return nil, nil
	}
	l, err := tls.Listen("tcp", "127.0.0.1:0", &tls.Config{
		Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}}, GetConfigForClient: asked,
	})
	if err != nil {
		panic(err)
	}
	os.WriteFile("addr", []byte(l.Addr().String()), 0o600)
	for {
		c, err := l.Accept()
		if err != nil {
			return
		}
		fmt.Printf("server: handshake: %v\n", c.(*tls.Conn).Handshake())
		c.Close()
	}
}
GO
cat > client.py <<'PY'
import socket, ssl, sys
host, port = open("addr").read().rsplit(":", 1)
context = ssl.create_default_context()
context.check_hostname = False
context.verify_mode = ssl.CERT_NONE
for name in "localhost", "localhost.":
    try:
        with context.wrap_socket(socket.create_connection((host, int(port)), 10), server_hostname=name) as s:
            print(f"client: {name}: {s.version()}")
    except ssl.SSLError as e:
        print(f"client: {name}: {e.reason}")
PY
go version
python3 -c 'import ssl, sys; print("Python", sys.version.split()[0] + ",", ssl.OPENSSL_VERSION)'
go build -o server main.go
./server > server.log &
server=$!
for _ in $(seq 100); do [ -s addr ] && break; sleep 0.1; done
python3 client.py | tee client.log
cat server.log
grep -qx 'client: localhost: TLSv1.3' client.log
grep -qi 'client: localhost\.: .*decode_error' client.log
[ "$(grep -c 'server: asked' server.log)" = 1 ] # no callback for the second
echo "as described"

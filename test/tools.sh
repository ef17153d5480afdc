#!/bin/sh
# Installs what the tests need and Go does not bring: a C compiler for the race
# detector, and clients that judge from outside. What is there already stays.
set -eu
missing=""
need() { command -v "$1" >/dev/null 2>&1 || missing="$missing $2"; }
need gcc "gcc libc6-dev"
need git git
need curl curl
need openssl openssl
need nghttp nghttp2-client
need testssl testssl.sh
[ -z "$missing" ] && exit 0
if ! command -v apt-get >/dev/null 2>&1 || [ "$(id -u)" != 0 ]; then
	echo "tests need:$missing; install them, or run as root where apt-get is" >&2
	exit 1
fi
apt-get update -qq
DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $missing

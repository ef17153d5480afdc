#!/bin/sh
# Installs what the tests need and Go does not bring: a C compiler for the race
# detector, and clients that judge from outside. What is there already stays.
set -eu
missing=""
need() { command -v "$1" >/dev/null 2>&1 || missing="$missing $2"; }
need gcc "gcc libc6-dev"
need git git
need curl curl
need ip iproute2
need nsenter util-linux
need openssl openssl
need nghttp nghttp2-client
need testssl testssl.sh
[ -z "$missing" ] && exit 0
if ! command -v apt-get >/dev/null 2>&1 || [ "$(id -u)" != 0 ]; then
	echo "tests need:$missing; install them, or run as root where apt-get is" >&2
	exit 1
fi
# One at a time, since other clones on this machine may be at the same: apt does
# not wait for the lock of its lists, and for dpkg's only if told to.
apt() {
	DEBIAN_FRONTEND=noninteractive flock -o /var/lib/apt apt-get -o DPkg::Lock::Timeout=600 "$@"
}
apt update -qq
apt install -y -qq --no-install-recommends $missing

#!/bin/sh
# lint.sh GO STATICCHECK PACKAGES...: formatting, vet, staticcheck and the
# project's own rules.
set -eu
go=$1 staticcheck=$2
shift 2
bad=$(git ls-files '*.go' | xargs -r gofmt -l)
if [ -n "$bad" ]; then
	echo "gofmt would change:" >&2
	echo "$bad" >&2
	exit 1
fi
# Tests wait on conditions; a bare sleep hides a race or costs time.
sleeps=$(git ls-files '*_test.go' | xargs -r grep -nE 'time\.Sleep\(' | grep -v '//lint:wait' || true)
if [ -n "$sleeps" ]; then
	echo "sleeps in tests (wait on a condition; mark a polling helper with //lint:wait):" >&2
	echo "$sleeps" >&2
	exit 1
fi
$go vet "$@"
$staticcheck "$@"

#!/bin/sh
# lint.sh GO STATICCHECK PACKAGES...: formatting, vet, staticcheck and the
# project's own rules. PACKAGES are those of the root module.
set -eu
go=$1 staticcheck=$2
shift 2
bad=$(git ls-files '*.go' | xargs -r gofmt -l)
if [ -n "$bad" ]; then
	echo "gofmt would change:" >&2
	echo "$bad" >&2
	exit 1
fi
# Tests wait on conditions; a sleep hides a race or costs time. Those that mean
# it (the slowness of a peer, the pace of a poll) say so on the line; in a bubble
# of testing/synctest time costs nothing.
sleeps=$(git ls-files '*_test.go' | xargs -r grep -L 'testing/synctest' | xargs -r grep -nE 'time\.Sleep\(' | grep -vE 'Sleep\(.*\).*//' || true)
if [ -n "$sleeps" ]; then
	echo "sleeps in tests without a word why (wait on a condition instead):" >&2
	echo "$sleeps" >&2
	exit 1
fi
$go vet "$@"
$staticcheck "$@"
# The other modules have their vet beside their tests.
for module in $(git ls-files 'test/*/go.mod'); do
	dir=${module%/go.mod}
	[ "$dir" = test/lint ] || (cd "$dir" && $staticcheck ./...)
done

#!/bin/sh
# fuzz.sh GO TIME: runs every fuzz target of the module for TIME.
set -eu
go=$1 time=$2
grep -rlE '^func Fuzz' --include='*_test.go' internal | while read -r file; do
	dir=./$(dirname "$file")
	grep -oE '^func Fuzz[A-Za-z0-9]+' "$file" | sed 's/func //' | while read -r target; do
		echo "== $dir $target"
		$go test "$dir" -run '^$' -fuzz "^$target\$" -fuzztime "$time" -parallel 2
	done
done

#!/usr/bin/env bash
# Runs each test of a package under the race detector in a process of its own. The detector's
# own code crashes (SIGSEGV outside Go) now and then where one process has had many synctest
# bubbles with thousands of goroutines.
#
# race-each.sh PACKAGE TIMEOUT
set -euo pipefail
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
CGO_ENABLED=1 "${GO:-go}" test -race -c -o "$dir/test" "$1"
cd "$1"
count=0
for name in $("$dir/test" -test.list '^Test'); do
	"$dir/test" -test.run "^$name\$" -test.timeout "$2" >"$dir/out" 2>&1 || { cat "$dir/out"; echo "FAIL $1 $name"; exit 1; }
	count=$((count + 1))
done
[ "$count" -gt 0 ] || { echo "$1 has no tests: that showed nothing"; exit 1; }
echo "ok  $1: $count tests, each in a process of its own, without a race"

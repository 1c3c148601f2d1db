#!/usr/bin/env bash
# Runs every fuzz target of the module, one after the other.
# usage: tools/fuzz.sh TIME    (per target, as go test -fuzztime takes it: 20s, 500x)
#
# A failing target's input is written by go test under testdata/fuzz of its package;
# commit it with the fix, and `go test` replays it for ever.
set -euo pipefail
cd "$(dirname "$0")/.."
GO=${GO:-go}
fuzztime=${1:?usage: tools/fuzz.sh TIME}

log=$(mktemp)
trap 'rm -f "$log"' EXIT

# run_target PACKAGE NAME
run_target() {
	"$GO" test -run '^$' -fuzz "^$2\$" -fuzztime "$fuzztime" -fuzzminimizetime 5s "$1" 2>&1 | tee "$log"
}

passed=0
failed=()
while IFS=$'\t' read -r package dir; do
	[ -n "$dir" ] || continue
	names=$(cat "$dir"/*_test.go 2>/dev/null | sed -nE 's/^func (Fuzz[A-Za-z0-9_]*)\(.*/\1/p' | sort -u)
	for name in $names; do
		echo "fuzz $package $name ($fuzztime)"
		if run_target "$package" "$name"; then
			passed=$((passed + 1))
			continue
		fi
		# The engine sometimes reports its own deadline at the end of a run as a failure
		# (go.dev/issue/75804). Only that, and only once, is tried again.
		if grep -q 'context deadline exceeded' "$log" && ! grep -q 'Failing input written' "$log" &&
			run_target "$package" "$name"; then
			passed=$((passed + 1))
			continue
		fi
		failed+=("$package $name")
	done
done < <("$GO" list -f '{{if or .TestGoFiles .XTestGoFiles}}{{.ImportPath}}{{"\t"}}{{.Dir}}{{end}}' ./...)

echo "fuzz: $passed targets passed, ${#failed[@]} failed"
if [ "${#failed[@]}" -gt 0 ]; then
	printf '  %s\n' "${failed[@]}"
	exit 1
fi
if [ "$passed" -eq 0 ]; then
	echo "fuzz: no target was found, so nothing was shown" >&2
	exit 1
fi

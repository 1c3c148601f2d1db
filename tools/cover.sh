#!/usr/bin/env bash
# Measures statement coverage: one line per package, the total, and the threshold.
# usage: tools/cover.sh PERCENT_MIN TIMEOUT
# The profile stays in bin/cover.out (go tool cover -html=bin/cover.out shows it).
set -euo pipefail
cd "$(dirname "$0")/.."
GO=${GO:-go}
minimum=${1:?usage: tools/cover.sh PERCENT_MIN TIMEOUT}
timeout=${2:?usage: tools/cover.sh PERCENT_MIN TIMEOUT}

mkdir -p bin
"$GO" test -timeout "$timeout" -coverprofile bin/cover.out ./... || {
	echo "cover: tests failed, so there is no coverage to speak of" >&2
	exit 1
}

echo
echo "statement coverage by each package's own tests:"
awk 'NR > 1 {
	split($1, at, ":"); sub("/[^/]*$", "", at[1])
	all[at[1]] += $2; total += $2
	if ($3 > 0) { hit[at[1]] += $2; covered += $2 }
}
END {
	for (p in all) printf "  %5.1f %%  %s\n", 100 * hit[p] / all[p], p | "sort -k3"
	close("sort -k3")
	if (total == 0) { print "  nothing was measured"; exit 1 }
	percent = 100 * covered / total
	printf "  %5.1f %%  total (threshold %s %%)\n", percent, minimum
	exit percent + 1e-9 < minimum
}' minimum="$minimum" bin/cover.out || {
	echo "cover: below the threshold of $minimum %" >&2
	exit 1
}

#!/usr/bin/env bash
# Runs benchmarks and summarises them with benchstat.
# usage: tools/bench.sh PATTERN COUNT PACKAGE...
# BENCH_BASE=FILE compares with the raw output of an earlier run. The raw output of this
# run stays in bin/bench.txt.
set -euo pipefail
cd "$(dirname "$0")/.."
GO=${GO:-go}
pattern=${1:?usage: tools/bench.sh PATTERN COUNT PACKAGE...}
count=${2:?usage: tools/bench.sh PATTERN COUNT PACKAGE...}
shift 2

mkdir -p bin
"$GO" test -run '^$' -bench "$pattern" -benchmem -count "$count" "$@" | tee bin/bench.txt
if ! grep -q '^Benchmark' bin/bench.txt; then
	echo "bench: no benchmark matches $pattern" >&2
	exit 1
fi
echo
if ! "$GO" tool -modfile=tools/go.mod benchstat ${BENCH_BASE:+"$BENCH_BASE"} bin/bench.txt; then
	echo "bench: benchstat could not be built here; the raw numbers are in bin/bench.txt" >&2
fi

#!/usr/bin/env bash
# Runs what must give the same bytes on every processor (the tests named TestGolden… of the
# state machine) as amd64 at its first and third level and as arm64, whichever of them this
# machine is; the others run under qemu-user.
# usage: tools/processors.sh
set -euo pipefail
cd "$(dirname "$0")/.."
GO=${GO:-go}

case $(uname -m) in
x86_64) host=amd64 ;;
aarch64 | arm64) host=arm64 ;;
*) host=other ;;
esac

# third_level says whether this machine's own processor runs programs for GOAMD64=v3.
third_level() {
	local flag
	for flag in avx avx2 bmi1 bmi2 f16c fma movbe; do
		grep -qw -m 1 "$flag" /proc/cpuinfo || return 1
	done
}

# run ARCHITECTURE LEVEL EMULATOR...
run() {
	local arch=$1 level=$2 exec=()
	shift 2
	if [ $# -gt 0 ]; then
		if ! command -v "$1" >/dev/null; then
			echo "processors: $1 is missing: install qemu-user (Debian, Ubuntu: apt-get install qemu-user)" >&2
			exit 1
		fi
		exec=(-exec "$*")
	fi
	echo "processors: $arch $level ${*:-on its own}"
	local output
	# Not from the cache: it would not be this run that showed it.
	output=$(GOOS=linux GOARCH=$arch GOAMD64=$level CGO_ENABLED=0 "$GO" test -count=1 "${exec[@]}" -v -run '^TestGolden' "${packages[@]}" 2>&1) || {
		echo "$output"
		exit 1
	}
	local passed
	passed=$(grep -c '^--- PASS' <<<"$output" || true)
	echo "processors: $passed tests passed"
	if [ "$passed" -lt "${#packages[@]}" ]; then
		echo "processors: $passed tests in ${#packages[@]} packages: something did not run" >&2
		exit 1
	fi
}

mapfile -t packages < <(grep -rl --include='*_test.go' '^func TestGolden' fsm pci | xargs -n 1 dirname | sort -u | sed 's|^|./|')
if [ "${#packages[@]}" -lt 2 ]; then
	echo "processors: no test was found, so nothing was shown" >&2
	exit 1
fi

if [ "$host" = amd64 ]; then
	run amd64 v1
	if third_level; then run amd64 v3; else run amd64 v3 qemu-x86_64 -cpu max; fi
else
	run amd64 v1 qemu-x86_64 -cpu max
	run amd64 v3 qemu-x86_64 -cpu max
fi
if [ "$host" = arm64 ]; then run arm64 ""; else run arm64 "" qemu-aarch64; fi

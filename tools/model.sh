#!/usr/bin/env bash
# Checks the model of attestation (docs/model) with spin, case by case, and prints what each
# case searched and found. Fails if a case does not end as docs/model/README.md says it does.
# usage: tools/model.sh [CASE...]     cases by their names; none means all
#
# Needs spin and gcc; installs nothing. MODEL_MEMORY_MB bounds what one search may use.
set -euo pipefail
cd "$(dirname "$0")/.."
memory_mb=${MODEL_MEMORY_MB:-2048}

for program in spin gcc; do
	if ! command -v "$program" >/dev/null; then
		echo "model: $program is missing: apt-get install spin gcc libc6-dev" >&2
		exit 1
	fi
done

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cp docs/model/attest.pml "$work"

wanted=("$@")
ran=0
failed=()

# search DIRECTORY HOW SETTINGS: makes the checker for these settings and runs it.
search() {
	local dir=$1 how=$2 settings=$3 options=(-DSAFETY) arguments=(-m100000)
	case $how in
	exhaustive) ;;
	shortest) options+=(-DBFS) ;;                  # breadth first: the shortest counterexample
	shallow) options+=(-DREACH) arguments=(-m30) ;; # depth first, at most 30 steps deep
	fair) options=() arguments+=(-a -f) ;;         # the formula, under weak fairness
	esac
	mkdir "$dir"
	cp "$work/attest.pml" "$dir"
	# Settings and options are lists of words.
	# shellcheck disable=SC2086
	(cd "$dir" && spin -a $settings attest.pml >spin.txt &&
		gcc -O2 -w -DMEMLIM="$memory_mb" "${options[@]}" -o pan pan.c &&
		./pan "${arguments[@]}" >pan.txt 2>&1) || true
}

# number FILE PATTERN: the first number that the extended pattern catches.
number() { sed -nE "s/$2/\1/p" "$1" | head -n 1; }

# check NAME HOW EXPECTED SETTINGS
#   EXPECTED  holds          the search is complete and found nothing
#             contradicts    two certificates that contradict each other were found
#             reached        the question's assertion failed: yes, it happens
#             never          a run was found in which the formula never comes true
check() {
	local name=$1 how=$2 expected=$3 settings=$4
	if [ "${#wanted[@]}" -gt 0 ] && [[ " ${wanted[*]} " != *" $name "* ]]; then
		return
	fi
	ran=$((ran + 1))
	local dir="$work/$name" from=$SECONDS found="no verdict" trace=""
	search "$dir" "$how" "$settings"
	local errors
	touch "$dir/pan.txt"
	errors=$(number "$dir/pan.txt" '.*errors: ([0-9]+).*')
	if [ -f "$dir/attest.pml.trail" ]; then
		# shellcheck disable=SC2086
		trace=$(cd "$dir" && spin -t -T $settings attest.pml | grep -E '^region|START OF CYCLE' | sed 's/ *$//' || true)
	fi
	if [ "$errors" = 0 ] && ! grep -qE 'Search not completed|depth too small|MEMLIM|out of memory' "$dir/pan.txt"; then
		found=holds
	elif [ "${errors:-0}" -gt 0 ]; then
		if grep -q 'acceptance cycle' "$dir/pan.txt"; then
			found=never
		elif grep -q contradicts <<<"$trace"; then
			found=contradicts
		elif grep -q 'assertion violated' "$dir/pan.txt"; then
			found=reached
		fi
	fi
	local verdict=ok
	if [ "$found" != "$expected" ]; then
		verdict="WRONG: expected $expected"
		failed+=("$name")
	fi
	printf '%-22s %-11s %9s states %6s deep %4s MiB %3d s  %-11s %s\n' "$name" "$how" \
		"$(number "$dir/pan.txt" ' *([0-9.e+]+) states, stored.*')" \
		"$(number "$dir/pan.txt" '.*depth reached ([0-9]+).*')" \
		"$(number "$dir/pan.txt" ' *([0-9]+)\.[0-9]+.total actual memory usage.*')" \
		$((SECONDS - from)) "$found" "$verdict"
	if [ "$verdict" != ok ]; then
		sed 's/^/    /' "$dir/spin.txt" "$dir/pan.txt" | head -n 40
	fi
	if [ -n "$trace" ] && { [ "$expected" = contradicts ] || [ "$verdict" != ok ]; }; then
		sed 's/^/    /' <<<"$trace"
	fi
	rm -rf "$dir"
}

echo "P3, fewer than a third of the regions lie: every reachable state"
check lying-origin exhaustive holds "-DORIGIN_LIES"
check lying-voter exhaustive holds "-DLYING_VOTERS=1 -DDEPTH=3"
check two-lying-voters exhaustive holds "-DLYING_VOTERS=2 -DDEPTH=3"

echo "P3, the origin and a voter lie: it must break"
check two-liars shortest contradicts "-DORIGIN_LIES -DLYING_VOTERS=1"

echo "P3 with one liar and a rule switched off: it must break"
check no-lock shortest contradicts "-DORIGIN_LIES -DNO_LOCK"
check no-consistency shallow contradicts "-DORIGIN_LIES -DNO_CONSISTENCY"
check no-identical shallow contradicts "-DORIGIN_LIES -DNO_IDENTICAL"
check no-seal shortest contradicts "-DLYING_VOTERS=1 -DNO_SEAL"
check small-quorum shortest contradicts "-DORIGIN_LIES -DSMALL_QUORUM"

echo "What the model must be able to do, or it shows nothing"
check certified-1 shortest reached "-DORIGIN_LIES -DREACH_CERTIFIED=1"
check certified-2 shortest reached "-DORIGIN_LIES -DREACH_CERTIFIED=2"
check certified-honest shortest reached "-DLYING_VOTERS=1 -DREACH_CERTIFIED=2"
check vote-lost shortest reached "-DORIGIN_LIES -DREACH_LOST"
check vote-kept shortest reached "-DORIGIN_LIES -DREACH_KEPT"
check fork-refused shortest reached "-DORIGIN_LIES -DREACH_REFUSED"

echo "An honest origin's seals are certified once the faults end"
check one-silent fair holds "-DSILENT_VOTERS=1 -DFAULTS=2"
check two-silent fair never "-DSILENT_VOTERS=2 -DFAULTS=2"

if [ "$ran" -eq 0 ]; then
	echo "model: no case has that name, so nothing was shown" >&2
	exit 1
fi
if [ "${#failed[@]}" -gt 0 ]; then
	echo "model: ${#failed[@]} of $ran cases did not end as expected: ${failed[*]}" >&2
	exit 1
fi
echo "model: all $ran cases ended as expected"

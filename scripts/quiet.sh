#!/usr/bin/env bash
# Runs a command with its output in a file, and shows the end of it only if the command fails.
# Usage: quiet.sh LOG COMMAND...
set -uo pipefail
log=$1
shift
mkdir -p "$(dirname "$log")"
"$@" >"$log" 2>&1 && exit 0
code=$?
echo "failed ($code): $*; the end of $log:" >&2
tail -n 60 "$log" >&2
exit "$code"

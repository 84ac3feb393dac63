#!/usr/bin/env bash
# The chain killed again and again ends with the bytes of the chain left alone. `make killed` runs it.
set -euo pipefail
cd "$(dirname "$0")/.."
work=$(mktemp -d)
trap 'rm -rf "$work" out-killed' EXIT

# Paths stand in the provenance: both runs are made under one name.
chain() { setsid make OUT=out-killed PROFILE=tiny >"$work/log" 2>&1 & }

rm -rf out-killed
chain
wait $! || { tail -n 20 "$work/log" >&2; exit 1; }
mv out-killed "$work/whole"

kills=0
while true; do
  chain
  pid=$!
  for _ in $(seq $((RANDOM % 9 + 2))); do
    sleep 1
    kill -0 "$pid" 2>/dev/null || break
  done
  kill -0 "$pid" 2>/dev/null || { wait "$pid" || { tail -n 20 "$work/log" >&2; exit 1; }; break; }
  kill -9 -- "-$pid"
  wait "$pid" 2>/dev/null || true
  kills=$((kills + 1))
  [ "$kills" -le 100 ] || { echo "it never ends" >&2; exit 1; }
done
diff -r "$work/whole" out-killed
echo "the same bytes after $kills kills"

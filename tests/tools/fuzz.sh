#!/usr/bin/env bash
# Runs every fuzz target for FUZZ_SECONDS (60). The sanitizer is a flag that a stable compiler
# refuses without RUSTC_BOOTSTRAP.
set -euo pipefail
cd "$(dirname "$0")/../.."

seconds=${FUZZ_SECONDS:-60}
export RUSTC_BOOTSTRAP=1 PATH="$PWD/target/tools/bin:$PATH"
cargo fuzz build
for target in $(cargo fuzz list); do
  echo "fuzzing $target for $seconds s"
  mkdir -p artifacts/fuzz
  cargo fuzz run "$target" -- -max_total_time="$seconds" -max_len=8192 -timeout=10 -rss_limit_mb=2048 -print_final_stats=1 \
    >"artifacts/fuzz/$target.log" 2>&1 || { tail -n 40 "artifacts/fuzz/$target.log" >&2; echo "$target found something" >&2; exit 1; }
  grep -E 'stat::number_of_executed_units' "artifacts/fuzz/$target.log"
done

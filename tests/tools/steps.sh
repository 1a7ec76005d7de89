#!/usr/bin/env bash
# Runs make targets one after another, shows how long each took and counts what they ran.
#
# The last line is `N passed, M failed`: the tests that the test programs counted, the cases of the
# conformance program, and one for each step that counts nothing of its own.
set -uo pipefail
cd "$(dirname "$0")/../.." || exit 1

# No step takes longer, on the slowest machine: what hangs must not keep the others from being run.
limit=2700
logs=artifacts/steps
mkdir -p "$logs"
passed=0 failed=0
report=()

for step in "$@"; do
  echo "=== $step"
  started=$SECONDS
  timeout --kill-after=30 "$limit" make --no-print-directory "$step" 2>&1 | tee "$logs/$step.log"
  status=${PIPESTATUS[0]}
  took=$((SECONDS - started))
  [ "$status" -ne 124 ] || echo "=== $step was stopped after $limit s"
  # `test result: ok. 5 passed; 0 failed; …` of each test program, `cases: Pass  902  1030` of the conformance run.
  read -r good bad ran < <(awk '
    /^test result: / { ran = 1; for (i = 2; i <= NF; i++) { if ($i ~ /^passed/) good += $(i - 1); if ($i ~ /^failed/) bad += $(i - 1) } }
    /^cases: Pass / { for (i = 3; i <= NF; i++) good += $i }
    /^cases: Fail / { for (i = 3; i <= NF; i++) bad += $i }
    END { print good + 0, bad + 0, ran + 0 }' "$logs/$step.log")
  if [ "$status" -ne 0 ] && [ "$bad" -eq 0 ]; then bad=1; fi
  # A step that counts nothing is one check; test programs that ran no test are a failure.
  if [ "$status" -eq 0 ] && [ "$good" -eq 0 ]; then if [ "$ran" -eq 0 ]; then good=1; else bad=1; fi; fi
  passed=$((passed + good))
  failed=$((failed + bad))
  report+=("$(printf '%-10s %5d s  %5d passed  %4d failed' "$step" "$took" "$good" "$bad")")
done

echo
printf '%s\n' "${report[@]}"
echo "$passed passed, $failed failed"
[ "$failed" -eq 0 ]

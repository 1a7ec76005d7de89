#!/usr/bin/env bash
# Holds a running server against its own OpenAPI document: no 5xx, no status, body or media type
# that the document does not name. With an admin's API key, with an admin's session, and with the
# platform operator's on their own paths. Takes four minutes at most. WHARFINGER_BIN names the binary, else the one of `cargo build`.
#
#   schemathesis.sh [ARGUMENTS FOR SCHEMATHESIS...]
set -euo pipefail

root=$(cd "$(dirname "$0")/../.." && pwd)
binary=${WHARFINGER_BIN:-$root/target/debug/wharfinger}
fuzzer=${WHARFINGER_TOOLS:-$root/target/tools}/py/bin/schemathesis
[ -x "$binary" ] || { echo "schemathesis.sh: $binary is missing, run 'cargo build'" >&2; exit 1; }
[ -x "$fuzzer" ] || { echo "schemathesis.sh: not installed, run 'tests/tools/install.sh python'" >&2; exit 1; }

dir=$(mktemp -d)
server=
stop() {
  if [ -n "$server" ]; then kill "$server" 2>/dev/null || true; wait "$server" 2>/dev/null || true; fi
  rm -rf "$dir"
}
trap stop EXIT

free_port() {
  local port=0
  until [ "$port" -ne 0 ] && ! (exec 3<>"/dev/tcp/127.0.0.1/$port") 2>/dev/null; do port=$((10000 + RANDOM % 20000)); done
  printf '%s\n' "$port"
}
controller=$(free_port)
password='tide tables and the rope locker'
operator_password='operators keep long passwords too'
export WHARFINGER_ADMIN_PASSWORD=$password WHARFINGER_OPERATOR_PASSWORD=$operator_password
"$binary" serve --data-dir "$dir/data" --tls off --log-format json --log-level warn \
  --controller-listen "127.0.0.1:$controller" --registry-listen "127.0.0.1:$(free_port)" \
  --auth-listen "127.0.0.1:$(free_port)" --admin-listen "127.0.0.1:$(free_port)" >"$dir/server.log" 2>&1 &
server=$!
url=http://127.0.0.1:$controller
for _ in $(seq 100); do curl -fsS "$url/readyz" >/dev/null 2>&1 && break; sleep 0.1; done

api() { curl -sS -b "$dir/cookies" -H "X-CSRF-Token: ${token:-}" -H 'Content-Type: application/json' "$@"; }
# log_in USER PASSWORD: the session that `api` and `$cookie` go on with.
log_in() {
  token=$(curl -fsS -c "$dir/cookies" -H 'Content-Type: application/json' \
    -d "{\"username\": \"$1\", \"password\": \"$2\"}" "$url/api/v1/login" | jq -re .csrf_token)
  cookie=$(awk '$7 ~ /^[0-9a-f.]+$/ {print $6 "=" $7}' "$dir/cookies")
}
log_in admin@localhost "$password"
api -f -d '{"slug": "web"}' "$url/api/v1/orgs/main/projects" >/dev/null
api -d '{"name": "reader@example.com", "kind": "local"}' "$url/api/v1/orgs/main/users" >/dev/null
key=$(api -f -d '{"name": "fuzzer"}' "$url/api/v1/orgs/main/apikeys" | jq -re .key)

# One worker: two threads that parse Python at once, as hypothesis does to describe what it draws, make Python 3.11 give up
# ("AST constructor recursion depth mismatch", python/cpython#106905). What would end or renew the fuzzer's own credentials
# is left to the other tests.
cd "$dir"
# run NAME SECONDS ARGUMENTS...
run() {
  local name=$1 seconds=$2
  shift 2
  echo "schemathesis.sh: with $name"
  timeout --foreground $((seconds + 30)) "$fuzzer" --config-file "$root/tests/tools/schemathesis.toml" run \
    "$url/api/v1/openapi.json" --url "$url/api/v1" --max-time "$seconds" --phases examples,coverage,fuzzing \
    --max-examples 20 --seed 1 --continue-on-failure --no-shrink --workers 1 --no-color --warnings off \
    --checks not_a_server_error,status_code_conformance,content_type_conformance,response_schema_conformance \
    --exclude-path /logout --exclude-path /session/org --exclude-operation-id delete_api_key \
    --exclude-path-regex '/account/sessions|/mfa|/passkeys' "$@" >"$dir/report" 2>&1 || failed=1
  tail -n "${LINES_SHOWN:-60}" "$dir/report"
  # An end that nobody foresaw is none either.
  grep -q 'No issues found' "$dir/report" || failed=1
}
failed=0
run "an API key" 70 --header "X-API-KEY: $key" "$@"
# The session waited, and must not have to enrol a second factor now.
curl -fsS -o /dev/null -X PATCH -H "X-API-KEY: $key" -H 'Content-Type: application/json' \
  -d '{"mfa_required": false, "idle_logout_minutes": null, "session_hours": 24}' "$url/api/v1/orgs/main/settings"
run "a session" 70 --header "Cookie: $cookie" --header "X-CSRF-Token: $token" --exclude-operation-id update_settings "$@"
# Whoever was locked out on the way has found nothing.
curl -fsS -o /dev/null -H "X-API-KEY: $key" "$url/api/v1/orgs/main" || { echo "schemathesis.sh: the key is no good any more" >&2; failed=1; }
api -f -o /dev/null "$url/api/v1/orgs/main" || { echo "schemathesis.sh: the session is no good any more" >&2; failed=1; }
# Last, as it suspends and deletes the organization.
log_in operator@localhost "$operator_password"
run "an operator's session" 20 --header "Cookie: $cookie" --header "X-CSRF-Token: $token" --include-path-regex '^/platform/' "$@"
api -f -o /dev/null "$url/api/v1/platform/orgs" || { echo "schemathesis.sh: the operator's session is no good any more" >&2; failed=1; }
if [ -s "$dir/server.log" ] && grep -q '"level":"ERROR"' "$dir/server.log"; then
  grep '"level":"ERROR"' "$dir/server.log" | tail -n 20
  failed=1
fi
[ "$failed" -eq 0 ] || echo "schemathesis.sh: failed" >&2
exit "$failed"

#!/usr/bin/env bash
# Installs what the client journeys, the conformance run and `make check` need.
#
#   install.sh              everything
#   install.sh debian       only the Debian packages (as root)
#   install.sh check        only what `make check` needs
#   install.sh fuzz         only cargo-fuzz
#   install.sh bench        only the servers that `make bench` compares, and what measures the disk
#   install.sh bench-quick  only the one that `make bench-quick` compares
#   install.sh counts       only what `make counts` needs
#   install.sh python       only the Python packages
#   install.sh node         only the packages of Node.js
#   install.sh oidc         only the OpenID Connect provider
#
# Programs that Debian lacks are built at the versions pinned below into bin, one after another at low priority; Python packages
# go to py, those of Node.js to node: all in a cache that the clones of a user share, and that target/tools is a link to. A second
# run finds them by their stamps and takes a second.
set -euo pipefail

root=$(cd "$(dirname "$0")/../.." && pwd)
tools=${WHARFINGER_TOOLS:-${XDG_CACHE_HOME:-${HOME:-/tmp}/.cache}/wharfinger/tools}
mkdir -p "$tools/bin" "$tools/stamps" "$tools/log" "$root/target"
tools=$(readlink -f "$tools")
# One at a time: others wait, and find what it made.
[ -n "${WHARFINGER_TOOLS_LOCKED:-}" ] || exec env WHARFINGER_TOOLS_LOCKED=1 flock -o "$tools/lock" bash "$0" "$@"
if [ "$(readlink -f "$root/target/tools")" != "$tools" ]; then rm -rf "$root/target/tools"; ln -s "$tools" "$root/target/tools"; fi

debian_packages=(
  buildah ca-certificates chromium containerd curl docker-registry docker.io e2fsprogs fuse-overlayfs
  gcc git iproute2 jq make mold mount openssl podman postgresql-15 procps python3 python3-venv runc skopeo
  util-linux xfsprogs
)

bench_packages=(docker-registry fio nginx-light openssl procps)

python_packages=(
  "aiosmtpd==1.4.6"
  "schemathesis==4.32.5"
)

node_packages=(
  "axe-core@4.14.1"
  "playwright-core@1.65.1"
)

# name  module-path@version
go_tools=(
  "oci-conformance github.com/opencontainers/distribution-spec/conformance@v0.0.0-20260831232431-97274622c111"
  "crane github.com/google/go-containerregistry/cmd/crane@v0.22.1"
  "oras oras.land/oras/cmd/oras@v1.3.6"
  "regctl github.com/regclient/regclient/cmd/regctl@v0.11.7"
  "helm helm.sh/helm/v3/cmd/helm@v3.22.0"
  "registry github.com/distribution/distribution/v3/cmd/registry@v3.1.2"
  "cosign github.com/sigstore/cosign/v3/cmd/cosign@v3.1.3"
)

say() { printf 'tools: %s\n' "$*"; }
die() { printf 'tools: %s\n' "$*" >&2; exit 1; }

debian() {
  # Node.js from wherever it is; Debian's where there is none.
  command -v node >/dev/null || debian_packages+=(nodejs)
  command -v npm >/dev/null || debian_packages+=(npm)
  packages "${debian_packages[@]}"
}

# Those of the Debian packages that are missing.
packages() {
  local missing=() package
  for package in "$@"; do
    dpkg-query -W -f='${db:Status-Abbrev}' "$package" 2>/dev/null | grep -q '^ii' || missing+=("$package")
  done
  [ ${#missing[@]} -eq 0 ] && return
  [ "$(id -u)" -eq 0 ] || die "run as root, or install: ${missing[*]}"
  say "installing ${missing[*]}"
  apt-get update -q >"$tools/log/apt.log" 2>&1 || die "apt-get update failed, see $tools/log/apt.log"
  DEBIAN_FRONTEND=noninteractive apt-get install -y -q --no-install-recommends "${missing[@]}" \
    >>"$tools/log/apt.log" 2>&1 || { tail -n 20 "$tools/log/apt.log" >&2; die "apt-get install failed"; }
  # The packages may start daemons of their own; the journeys start private ones.
  local unit
  for unit in docker containerd docker-registry nginx; do
    if [ -x "/etc/init.d/$unit" ]; then "/etc/init.d/$unit" stop >/dev/null 2>&1 || true; fi
  done
}

# build NAME VERSION COMMAND...: runs COMMAND unless NAME at VERSION is already there.
build() {
  local name=$1 version=$2 started=$SECONDS
  shift 2
  if [ -x "$tools/bin/$name" ] && [ "$(cat "$tools/stamps/$name" 2>/dev/null)" = "$version" ]; then return; fi
  say "building $name ($version)"
  rm -f "$tools/stamps/$name"
  nice -n 10 "$@" >"$tools/log/$name.log" 2>&1 || { tail -n 30 "$tools/log/$name.log" >&2; die "$name did not build"; }
  [ -x "$tools/bin/$name" ] || die "$name built, but $tools/bin/$name is not there"
  printf '%s\n' "$version" >"$tools/stamps/$name"
  say "$name took $((SECONDS - started)) s"
}

go_install() {
  local name=$1 module=$2 scratch
  scratch=$(mktemp -d)
  GOBIN=$scratch CGO_ENABLED=0 GOFLAGS="-trimpath" go install -ldflags='-s -w' "$module"
  mv "$scratch"/* "$tools/bin/$name"
  rmdir "$scratch"
}

# fill FOLDER LIST COMMAND...: runs COMMAND unless FOLDER was made of the same LIST.
fill() {
  local folder=$1 list=$2
  shift 2
  if [ -d "$tools/$folder" ] && [ "$(cat "$tools/stamps/$folder" 2>/dev/null)" = "$list" ]; then return; fi
  say "installing $list"
  rm -rf "$tools/stamps/$folder" "${tools:?}/$folder"
  "$@" >"$tools/log/$folder.log" 2>&1 || { tail -n 30 "$tools/log/$folder.log" >&2; die "$folder: not installed"; }
  printf '%s\n' "$list" >"$tools/stamps/$folder"
}

python_programs() {
  fill py "${python_packages[*]}" bash -euc \
    '/usr/bin/python3 -m venv "$0" && "$0/bin/pip" install --quiet --disable-pip-version-check "$@"' \
    "$tools/py" "${python_packages[@]}"
}

node_programs() {
  fill node "${node_packages[*]}" bash -euc \
    'mkdir "$0" && cd "$0" && npm init --yes && npm install --no-audit --no-fund --save-exact "$@"' \
    "$tools/node" "${node_packages[@]}"
}

# The provider of tests/tools/oidc, at the versions of its lock file.
oidc_provider() {
  local source=$root/tests/tools/oidc
  fill oidc "provider of tests/tools/oidc ($(cat "$source"/package-lock.json "$source"/provider.mjs | sha256sum | cut -c 1-16))" \
    bash -euc 'mkdir "$0" && cp "$1"/package.json "$1"/package-lock.json "$1"/provider.mjs "$0" && cd "$0" &&
      npm ci --no-audit --no-fund' "$tools/oidc" "$source"
}

cargo_tool() {
  local name=$1 version=$2
  build "$name" "$version" env CARGO_TARGET_DIR="$tools/cargo-build" \
    cargo install --locked --quiet --debug --root "$tools" --version "$version" "$name"
  rm -rf "$tools/cargo-build"
}

# `nice` runs programs, not shell functions, so this script is also the program.
if [ "${1:-}" = --go-install ]; then go_install "$2" "$3"; exit; fi

# All of them, or the one that is named.
go_programs() {
  command -v go >/dev/null || die "a Go toolchain is needed to build the clients"
  local entry name module
  for entry in "${go_tools[@]}"; do
    read -r name module <<<"$entry"
    [ "${1:-$name}" = "$name" ] || continue
    build "$name" "$module" bash "$0" --go-install "$name" "$module"
  done
}

case ${1:-all} in
  all) debian; python_programs; node_programs; oidc_provider; go_programs; cargo_tool cargo-deny 0.20.2 ;;
  debian) debian ;;
  python) python_programs ;;
  node) node_programs ;;
  oidc) oidc_provider ;;
  check) cargo_tool cargo-deny 0.20.2 ;;
  fuzz) cargo_tool cargo-fuzz 0.13.2 ;;
  bench) packages "${bench_packages[@]}"; go_programs registry ;;
  bench-quick) packages docker-registry ;;
  counts) packages valgrind ;;
  *) die "unknown part '$1': all, bench, bench-quick, check, counts, debian, fuzz, python, node or oidc" ;;
esac
say "ready in $tools/bin"

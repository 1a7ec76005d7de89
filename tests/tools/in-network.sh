#!/usr/bin/env bash
# in-network.sh COMMAND...: runs COMMAND (as root) in a network namespace of its own, whose loopback
# interface also has 192.0.2.10: an address that clients do not take for the machine itself, so that
# they check certificates as they would for any host.
set -euo pipefail
exec unshare --net -- bash -euc 'ip link set lo up; ip address add 192.0.2.10/32 dev lo; exec "$@"' in-network "$@"

#!/bin/bash
# The programs of libmace/examples do what their heads say.
set -euo pipefail
# shellcheck source=tests/cli/common.sh
. "$(dirname "${BASH_SOURCE[0]}")/common.sh"

examples=$MACE_BUILD_DIR/libmace

# Four processes that add at once lose no addition.
running=()
for _ in 1 2 3 4; do
    "$examples/mace-example-counter" "$work/counter.mace" 250 >/dev/null &
    running+=($!)
done
for process in "${running[@]}"; do
    wait "$process" || fail "mace-example-counter"
done
total=$("$examples/mace-example-counter" "$work/counter.mace" 1)
[ "${total%%,*}" = 1001 ] || fail "1001 additions made ${total%%,*}"

printed=$("$examples/mace-example-scan" "$work/scan.mace" ap)
[ "$printed" = " apple apricot
 apricot apple" ] || fail "mace-example-scan printed: $printed"

printed=$("$examples/mace-example-async" "$work/async.mace" 1000)
[ "$printed" = "1000 durable commits" ] || fail "mace-example-async printed: $printed"

#!/bin/bash
# The main job of tools/quickstart, shorter: it must end well, and it must notice a database that is not the input.
set -euo pipefail
# shellcheck source=tests/cli/common.sh
. "$(dirname "${BASH_SOURCE[0]}")/common.sh"

export PATH=$MACE_BUILD_DIR/tools:$PATH
input=/var/lib/dpkg/status
if [ ! -s "$input" ]; then
    echo "no package database on this machine: skipped"
    exit 77
fi
mace-quickstart --seconds 3 "$work/db" >"$work/printed" || fail "$(cat "$work/printed")"
grep -q 'identical to the input' "$work/printed" || fail "the file was not compared"
[ "$(grep -c 'killing the broker' "$work/printed")" = 2 ] || fail "the broker was not killed twice"

# One byte more in the input: the comparison must fail.
{ cat "$input"; echo; } >"$work/other"
status=0
mace-quickstart --rebuild --input "$work/other" "$work/db" >"$work/printed" || status=$?
[ "$status" = 1 ] || fail "a wrong file is taken for the input"
grep -q 'NOT identical' "$work/printed" || fail "the difference is not told"

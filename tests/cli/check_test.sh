#!/bin/bash
# mace-check as a person meets it: what it prints, its exit status, that it changes nothing, and what it saves.
set -euo pipefail
# shellcheck source=tests/cli/common.sh
. "$(dirname "${BASH_SOURCE[0]}")/common.sh"

check=$MACE_BUILD_DIR/tools/mace-check
db=$work/db

# expect STATUS ARGUMENT...: runs mace-check; its words are in $work/out and $work/err.
expect() {
    local wanted=$1 status=0
    shift
    "$check" "$@" >"$work/out" 2>"$work/err" || status=$?
    [ "$status" = "$wanted" ] || fail "mace-check $*: exit $status: $(cat "$work/out" "$work/err")"
}
fingerprint() { (cd "$1" && find . -type f -exec sha256sum {} + | sort; find . | sort); }

serve "$db" --cache 16M
"$MACE_BUILD_DIR/libmace/mace-example-counter" "$db" 100 >"$work/counter"

expect 2 "$db"
grep -q -e '--online' "$work/err" || fail "it does not say how to look beside a broker"
expect 0 --online "$db"
grep -qx clean "$work/out" || fail "it does not say that the database is clean"
expect 0 --online --json "$db"
jq -e '.clean and .complete and .damage == 0 and (.findings | length) == 0 and has("buckets")' \
    "$work/out" >/dev/null || fail "--json: $(cat "$work/out")"

unserve
fingerprint "$db" >"$work/before"
expect 0 "$db"
grep -q '^bucket "default": [1-9][0-9]* keys' "$work/out" || fail "it does not tell of the bucket"
fingerprint "$db" | diff "$work/before" - || fail "looking changed the database"

# Saved whole.
expect 0 --repair "$work/saved" "$db"
grep -q "^saved into $work/saved: [1-9]" "$work/out" || fail "it does not say what it saved: $(cat "$work/out")"
fingerprint "$db" | diff "$work/before" - || fail "saving changed the database"
sound "$work/saved"

# Every record of a page, damaged: named with file, offset and keys, in words and as JSON; and still nothing is written there.
cp -r "$db" "$work/bad"
file=$(find "$work/bad/data" -name '*.dat' | sort | tail -n 1)
for offset in $(seq 4116 64 "$(stat -c %s "$file")"); do
    printf 'rot' | dd of="$file" bs=1 seek="$offset" conv=notrunc status=none
done
fingerprint "$work/bad" >"$work/before"
expect 1 "$work/bad"
grep -q "^data/[0-9a-f]*\.dat, offset [0-9]*: bucket .*; keys from " "$work/out" || fail "no finding: $(cat "$work/out")"
grep -q '^damaged: [1-9]' "$work/out" || fail "no count"
expect 1 --json "$work/bad"
jq -e '(.clean | not) and .damage >= 1 and (.findings[0] | .file and .offset and .page and .bucket and has("low") and has("high"))' \
    "$work/out" >/dev/null || fail "--json: $(cat "$work/out")"
expect 1 --json --repair "$work/rest" "$work/bad"
jq -e '.repair.path and (.repair.lost | length) >= 1' "$work/out" >/dev/null || fail "--repair --json: $(cat "$work/out")"
fingerprint "$work/bad" | diff "$work/before" - || fail "looking changed the damaged database"
sound "$work/rest"

# What it cannot do.
expect 2 "$work/nothing"
[ ! -e "$work/nothing" ] || fail "it made a directory"
mkdir "$work/empty" "$work/full"
expect 2 "$work/empty"
touch "$work/full/mine"
expect 2 --repair "$work/full" "$db"
[ "$(ls "$work/full")" = mine ] || fail "it touched a directory that is not empty"
for arguments in "" "$db $db" "$db --nonsense" "--online --repair $work/x $db"; do
    # shellcheck disable=SC2086
    expect 2 $arguments
done
expect 0 --help
[ ! -s "$work/err" ] || fail "--help speaks on stderr"

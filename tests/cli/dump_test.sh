#!/bin/bash
# mace-dump --physical as a person meets it: linked or copied, refused or cleared up, and never a change to what it copies.
set -euo pipefail
# shellcheck source=tests/cli/common.sh
. "$(dirname "${BASH_SOURCE[0]}")/common.sh"

dump=$MACE_BUILD_DIR/tools/mace-dump
counter=$MACE_BUILD_DIR/libmace/mace-example-counter
db=$work/db

# expect STATUS ARGUMENT...
expect() {
    local wanted=$1 status=0
    shift
    "$dump" "$@" >"$work/out" 2>"$work/err" || status=$?
    [ "$status" = "$wanted" ] || fail "mace-dump $*: exit $status: $(cat "$work/out" "$work/err")"
}

serve "$db" --cache 16M --data-file-size 2M
"$counter" "$db" 100 >"$work/counter"

# Beside a running broker.
expect 0 --physical "$work/live" "$db"
grep -qE "^$work/live: commit [1-9][0-9]*; [0-9]+ files linked, [0-9]+ copied" "$work/out" || fail "$(cat "$work/out")"
sound "$work/live"
# It is a database of its own: the same counter counts on in it.
first=$("$counter" "$work/live" 1)
second=$("$counter" "$db" 1)
[ "$first" = "$second" ] || fail "the copy goes on with '$first', the database with '$second'"

# Beside nobody: linked, where it is one file system.
unserve
find "$db" -type f -exec sha256sum {} + | sort >"$work/before"
expect 0 --physical "$work/copy" "$db"
grep -qE ' [1-9][0-9]* files linked' "$work/out" || fail "nothing is linked: $(cat "$work/out")"
for file in "$db"/data/*.dat; do
    [ "$file" -ef "$work/copy/data/$(basename "$file")" ] || fail "$file is not linked"
done
sound "$work/copy"
mkdir "$work/there"
expect 0 -p "$work/there/" "$db"
sound "$work/there"
if [ -w /dev/shm ] && [ "$(stat -c %d /dev/shm)" != "$(stat -c %d "$work")" ]; then
    other=$(mktemp -d /dev/shm/mace-dump-XXXXXX)
    trap 'rm -rf "$work" "$other"' EXIT
    expect 0 -p "$other/copy" "$db"
    grep -q ' 0 files linked' "$work/out" || fail "linked across file systems: $(cat "$work/out")"
    sound "$other/copy"
fi
find "$db" -type f -exec sha256sum {} + | sort | diff "$work/before" - || fail "copying changed the database"

# No room: nothing stays, an empty directory that was there before excepted.
mkdir "$work/small"
for to in "$work/small" "$work/new"; do
    status=0
    (
        trap '' XFSZ
        ulimit -f 8
        exec "$dump" -p "$to" "$db"
    ) >"$work/out" 2>"$work/err" || status=$?
    [ "$status" = 1 ] || fail "without room: exit $status"
    [ -s "$work/err" ] || fail "without room: no word"
done
[ ! -e "$work/new" ] || fail "something stays of a copy that found no room"
[ -z "$(ls -A "$work/small")" ] || fail "something stays in a directory that was there: $(ls -A "$work/small")"

# A target that is somebody's.
mkdir "$work/full"
touch "$work/full/mine"
expect 2 -p "$work/full" "$db"
expect 2 -p "$work/full/mine" "$db"
[ "$(ls "$work/full")" = mine ] || fail "it touched a directory that is not empty"
# And one that somebody is at.
mkdir "$work/busy"
flock "$work/busy" "$dump" -p "$work/busy" "$db" >"$work/out" 2>"$work/err" && fail "it took a directory that is locked"
[ -z "$(ls -A "$work/busy")" ] || fail "it wrote to a directory that is locked"

# A damaged database: refused, or a copy that is told to be damaged.
cp -r "$db" "$work/bad"
printf 'x' | dd of="$work/bad/CURRENT" bs=1 seek=3 conv=notrunc status=none
expect 1 -p "$work/none" "$work/bad"
[ ! -e "$work/none" ] || fail "a copy of a database without a manifest"
expect 1 -p "$work/none" "$work/nothing"
if [ -e "$work/none" ] || [ -e "$work/nothing" ]; then
    fail "it made a directory"
fi

for arguments in "" "$db" "-p $work/none" "-p $work/none $db $db" "--nonsense $db"; do
    # shellcheck disable=SC2086
    expect 2 $arguments
done
expect 0 --help
[ ! -s "$work/err" ] || fail "--help speaks on stderr"

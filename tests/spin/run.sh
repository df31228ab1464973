#!/bin/bash
# run.sh [MODEL]: checks every variant of the Promela models here (or of one) with spin; exit 0 when each verdict is as it
# must be, 1 when one is not, 77 when spin is not installed. MACE_SPIN_JOBS limits how many run side by side.
#
# The table: verdict that must come out (ok: no error; bad: an error is found, because the variant leaves out or changes
# one thing that the protocol needs), model, definitions. -DWEAK allows everything that total store order allows and more,
# so the variants that must be right run with it.
set -u
here=$(cd "$(dirname "$0")" && pwd)
variants='
ok  snapshot -DLAST=3 -DWEAK
ok  snapshot -DLAST=3 -DDIE -DWEAK
ok  snapshot -DLAST=3 -DEXPIRE -DWEAK
ok  snapshot -DLAST=4 -DONE_CALL -DWEAK
bad snapshot -DLAST=3 -DNO_CLIENT_FENCE
bad snapshot -DLAST=3 -DNO_BROKER_FENCE
bad snapshot -DLAST=3 -DNO_RECHECK
bad snapshot -DLAST=3 -DNAIVE_TOMBSTONE
bad snapshot -DLAST=3 -DNO_PIN
bad snapshot -DLAST=3 -DDIE -DFREE_BEFORE_DRAIN
bad snapshot -DLAST=3 -DEXPIRE -DMARK_CHECKED_FIRST
bad snapshot -DLAST=3 -DEXPIRE -DCOMMIT_NOT_CHECKED
bad snapshot -DLAST=4 -DONE_CALL -DVISIBLE_FIRST
ok  epoch -DWEAK
ok  epoch -DREVOKE -DWEAK -DREPLACEMENTS=3
bad epoch -DNO_READER_FENCE
bad epoch -DNO_BROKER_FENCE
bad epoch -DADVANCE_BEFORE_UNLINK
bad epoch -DREVOKE -DNO_MARK_FENCE -DWEAK
bad epoch -DREVOKE -DMARK_LOADED_EARLY
bad epoch -DREVOKE -DMARK_IGNORED
ok  doorbell -DWEAK
ok  doorbell -DDEATH -DWEAK
bad doorbell -DNO_CLIENT_FENCE
bad doorbell -DNO_BROKER_FENCE
bad doorbell -DNO_WAITER_FENCE
bad doorbell -DNO_ANSWER_FENCE
bad doorbell -DNO_SECOND_LOOK
bad doorbell -DRESTING_FORGOTTEN
bad doorbell -DDEATH -DNO_TIMEOUT
bad doorbell -DDEATH -DANSWER_NOT_LOOKED_AT_AGAIN
ok  publish -DCOMMITS=3 -DWEAK
bad publish -DSYNC_COVERS_LATER -DCOMMITS=3
bad publish -DANSWER_BEFORE_VISIBLE -DCOMMITS=3
bad publish -DOS_OVERTAKES -DCOMMITS=3
bad publish -DANSWER_BEFORE_SYNC -DCOMMITS=3
ok  split -DWEAK
bad split -DLEFT_FIRST
bad split -DPARENT_FIRST
bad split -DROOT_FIRST
bad split -DPLAIN -DWEAK
bad split -DNO_INNER_FENCES
bad split -DNO_MISS_FENCES
ok  split -DMERGE -DWEAK
bad split -DMERGE -DRIGHT_GONE_FIRST
bad split -DMERGE -DLEFT_LAST
bad split -DMERGE -DCHILDREN_GONE_FIRST
bad split -DMERGE -DPLAIN -DWEAK
'

if ! command -v spin >/dev/null || ! command -v gcc >/dev/null; then
    echo "spin (or gcc) is not installed: the models are skipped"
    exit 77
fi

# Checks one variant in a directory of its own and prints a line; status 0 when the verdict is the expected one.
check() {
    local expected=$1 model=$2 defines=$3 directory verdict errors states
    directory=$(mktemp -d) || return 1
    cp "$here/$model.pml" "$here/buffers.inc" "$directory" && cd "$directory" || return 1
    # shellcheck disable=SC2086
    if ! spin -a $defines "$model.pml" >spin.out 2>&1 ||
        ! gcc -O1 -w -DSAFETY -DNOREDUCE -DMEMLIM=2000 -DVECTORSZ=2048 -o pan pan.c >gcc.out 2>&1; then
        echo "FAILED  $model $defines: does not compile"
        cat spin.out gcc.out 2>/dev/null
        rm -rf "$directory"
        return 1
    fi
    timeout 100 ./pan -m1000000 >pan.out 2>&1
    errors=$(sed -n 's/.*errors: \([0-9]*\).*/\1/p' pan.out)
    states=$(sed -n 's/^ *\([0-9.e+]*\) states, stored.*/\1/p' pan.out)
    verdict=ok
    if [ "${errors:-none}" = none ] || grep -qE 'max search depth|out of memory|memory limit' pan.out; then
        verdict=unknown
    elif [ "$errors" != 0 ]; then
        verdict=bad
    fi
    rm -rf "$directory"
    if [ "$verdict" = "$expected" ]; then
        echo "passed  $expected  $model $defines ($states states)"
    else
        echo "FAILED  $model $defines: $verdict instead of $expected ($states states)"
        return 1
    fi
}

export here
export -f check
jobs=${MACE_SPIN_JOBS:-$(nproc)}
lines=$(grep -E "^(ok|bad) +${1:-[a-z]+}( |$)" <<<"$variants")
# shellcheck disable=SC2016 # the inner shell expands
while read -r expected model defines; do
    printf '%s\0%s\0%s\0' "$expected" "$model" "$defines"
done <<<"$lines" | xargs -0 -n 3 -P "$jobs" bash -c 'check "$1" "$2" "$3"' check
status=$?
echo "$(wc -l <<<"$lines") variants"
[ "$status" -eq 0 ]

#!/bin/bash
# mace-stat against a live database: the report in words, JSON that a parser reads with figures that are true, the
# Prometheus format, lines per interval, sessions, and what it says when nobody serves.
set -euo pipefail
# shellcheck source=tests/cli/common.sh
. "$(dirname "${BASH_SOURCE[0]}")/common.sh"

stat=$MACE_BUILD_DIR/tools/mace-stat
db=$work/db
# The counter example commits 100 times and then leaves; its broker stays for a while and can be looked at.
"$MACE_BUILD_DIR/libmace/mace-example-counter" "$db" 100 >"$work/counter"

"$stat" "$db" >"$work/text"
for word in broker commits reads cache trees log pages data checkpoints disk sessions latency p99; do
    grep -q "$word" "$work/text" || fail "the report does not speak of $word"
done

"$stat" --json --sessions --buckets "$db" >"$work/json"
[ "$(wc -l <"$work/json")" = 1 ] || fail "--json is not one line"
jq -e '
    .commits >= 100 and .visible >= .commits and
    .sessions == 1 and (.session_list | length) == 1 and .session_list[0].read_only == true and
    (.bucket_list | index("default")) != null and
    .pages_leaf >= 1 and .tree_height >= 1 and
    .cache_used > 0 and .cache_used <= .cache_size and
    .latency.commit.p50_ns + .latency.commit_sync.p50_ns > 0 and
    ([.latency[] | .p50_ns <= .p99_ns] | all)
' "$work/json" >/dev/null || fail "--json does not say what is true: $(cat "$work/json")"

"$stat" --prometheus "$db" >"$work/prometheus"
grep -q '^mace_commits_total [1-9]' "$work/prometheus" || fail "--prometheus has no commits"
grep -q '^# TYPE mace_commits_total counter$' "$work/prometheus" || fail "--prometheus has no types"
awk '!/^#/ && NF != 2 { exit 1 }' "$work/prometheus" || fail "--prometheus has a malformed line"

# The buckets: bounds ascend, and what they hold adds up to the number of commits.
"$stat" --json --histograms "$db" >"$work/json"
jq -e '
    (.histograms | keys | length) >= 5 and
    ([.histograms[] | ([.buckets[].count] | add // 0) == .count] | all) and
    ([.histograms[].buckets | map(.le) | map(select(. != null)) | . == (sort | unique)] | all) and
    ([.histograms[] | select(.count > 0) | .buckets[-1].le == null or .buckets[-1].le >= .max] | all) and
    .histograms.commit_latency.count + .histograms.commit_sync_latency.count >= 100 and
    .histograms.commit_latency.unit == "nanoseconds"
' "$work/json" >/dev/null || fail "--json --histograms does not add up: $(cat "$work/json")"
"$stat" --json "$db" | jq -e 'has("histograms") | not' >/dev/null || fail "histograms come unasked"
"$stat" --histograms "$db" >"$work/text"
grep -q '^  <= *[0-9][0-9]* *[1-9]' "$work/text" || fail "--histograms shows no buckets"

lines=$("$stat" "$db" 0.1 3 | grep -c '^ *[0-9]')
[ "$lines" = 3 ] || fail "an interval with a count of 3 shows $lines lines"

"$stat" --sessions "$db" | grep -qw "$$" && fail "a process that is not attached is listed"

status=0
"$stat" "$work/nothing" >"$work/out" 2>"$work/err" || status=$?
[ "$status" = 1 ] || fail "a missing database gives exit $status"
if [ -s "$work/out" ] || [ ! -s "$work/err" ]; then
    fail "the reason is not on stderr alone"
fi
[ ! -e "$work/nothing" ] || fail "mace-stat made a database"
for arguments in "" "$db -1" "$db 1 2 3" "$db --nonsense"; do
    status=0
    # shellcheck disable=SC2086
    "$stat" $arguments >/dev/null 2>&1 || status=$?
    [ "$status" = 2 ] || fail "arguments '$arguments' give exit $status"
done

#!/bin/bash
# The man pages name every public function, every status, and every option that the programs' help names.
set -euo pipefail
# shellcheck source=tests/cli/common.sh
. "$(dirname "${BASH_SOURCE[0]}")/common.sh"

header=$MACE_SOURCE_DIR/libmace/include/mace/mace.h
page=$MACE_SOURCE_DIR/libmace/man/mace.3
count=0
for name in $(sed -n '/^MACE_API/,/;/p' "$header" | grep -oE '\bmace_[a-z0-9_]+\(' | tr -d '(') \
    $(grep -oE '^ *MACE_[A-Z_]+ = -[0-9]+' "$header" | grep -oE 'MACE_[A-Z_]+'); do
    grep -qE "\\b$name\\b" "$page" || fail "mace.3 does not name $name"
    count=$((count + 1))
done
[ "$count" -ge 60 ] || fail "only $count names found in the header"

# options_documented PROGRAM PAGE
options_documented() {
    local option
    "$1" --help >"$work/help" || fail "$1 --help"
    sed 's/\\//g' "$2" >"$work/page"
    grep -oE -- '--[a-z][a-z-]+' "$work/help" | sort -u >"$work/options" || true
    [ -s "$work/options" ] || fail "$1 --help names no option"
    while read -r option; do
        grep -q -e "$option" "$work/page" || fail "$(basename "$2") does not name $option"
    done <"$work/options"
}
if [ -x "${MACE_BROKER:-}" ]; then
    options_documented "$MACE_BROKER" "$MACE_SOURCE_DIR/broker/man/mace-broker.8"
fi
for tool in mace-stat mace-check mace-dump; do
    if [ -x "$MACE_BUILD_DIR/tools/$tool" ]; then
        options_documented "$MACE_BUILD_DIR/tools/$tool" "$MACE_SOURCE_DIR/tools/man/$tool.1"
    fi
done

#!/bin/bash
# The program in README.md has at most 25 lines, compiles against the built library, and prints what README.md says.
set -euo pipefail
# shellcheck source=tests/cli/common.sh
. "$(dirname "${BASH_SOURCE[0]}")/common.sh"

readme=$MACE_SOURCE_DIR/README.md
# block LANGUAGE: the first fenced block of that language.
block() {
    awk -v fence="\`\`\`$1" '$0 == fence { inside = 1; next } inside && /^```$/ { exit } inside' "$readme"
}

block c >"$work/example.c"
block text >"$work/expected"
lines=$(wc -l <"$work/example.c")
[ "$lines" -gt 10 ] || fail "README.md has no example"
[ "$lines" -le 25 ] || fail "the example has $lines lines"

library=$MACE_BUILD_DIR/libmace
"$cc" -std=c11 "${flags[@]}" -I"$MACE_SOURCE_DIR/libmace/include" "$work/example.c" \
    -L"$library" -Wl,-rpath,"$library" -lmace -o "$work/example"

"$work/example" "$work/example.mace" >"$work/printed"
diff -u "$work/expected" "$work/printed" || fail "the example does not print what README.md says"
# The value was written: a second run finds the database and ends as well.
"$work/example" "$work/example.mace" | diff -u "$work/expected" -

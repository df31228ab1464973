#!/bin/bash
# Every header that a room exports compiles alone and twice in one source; the public one also as C++ and as plain C11.
set -euo pipefail
# shellcheck source=tests/cli/common.sh
. "$(dirname "${BASH_SOURCE[0]}")/common.sh"

checked=0
# twice HEADER: a source that includes it two times and nothing else.
twice() {
    printf '#include "%s"\n#include "%s"\ntypedef int not_empty;\n' "$1" "$1"
}

cd "$MACE_SOURCE_DIR"
for header in shm/include/mshm/*.h; do
    twice "mshm/$(basename "$header")" |
        "$cc" -std=gnu11 "${flags[@]}" -D_GNU_SOURCE= -Ishm/include -fsyntax-only -x c - || fail "$header"
    checked=$((checked + 1))
done
for header in libmace/include/mace/*.h; do
    name=mace/$(basename "$header")
    twice "$name" | "$cc" -std=c11 -pedantic "${flags[@]}" -Ilibmace/include -fsyntax-only -x c - || fail "$header"
    twice "$name" | "$cxx" -std=c++11 -pedantic "${flags[@]}" -Ilibmace/include -fsyntax-only -x c++ - ||
        fail "$header as C++"
    checked=$((checked + 1))
done
[ "$checked" -ge 10 ] || fail "only $checked headers found"

if grep -nE 'mshm|mlib|atomic|volatile' libmace/include/mace/*.h; then
    fail "the public header shows an internal name"
fi

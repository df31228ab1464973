#!/bin/bash
# An installed Mace can be used from outside: by pkg-config and by find_package, from C and C++, shared and static; and
# its library exports exactly the functions of the public header.
set -euo pipefail
# shellcheck source=tests/cli/common.sh
. "$(dirname "${BASH_SOURCE[0]}")/common.sh"

prefix="$work/a prefix"
cmake --install "$MACE_BUILD_DIR" --prefix "$prefix" >"$work/install.log" || fail "cmake --install"

pc=$(find "$prefix" -name mace.pc)
config=$(find "$prefix" -name maceConfig.cmake)
shared=$(find "$prefix" -name libmace.so)
static=$(find "$prefix" -name libmace.a)
for file in "$pc" "$config" "$shared" "$static" "$prefix/bin/mace-broker" "$prefix/bin/mace-stat" \
    "$prefix/bin/mace-check" "$prefix/bin/mace-dump"; do
    [ -e "$file" ] || fail "not installed: ${file:-a file of the library}"
done
for page in man3/mace.3 man8/mace-broker.8 man1/mace-stat.1 man1/mace-check.1 man1/mace-dump.1; do
    [ -e "$prefix/share/man/$page" ] || fail "not installed: $page"
done
headers=$(cd "$prefix/include" && find . -type f)
[ "$headers" = ./mace/mace.h ] || fail "installed headers: $headers"

# What is exported is what the header declares. Names that begin with two underscores belong to a sanitizer.
sed -n '/^MACE_API/,/;/p' "$prefix/include/mace/mace.h" | grep -oE '\bmace_[a-z0-9_]+\(' | tr -d '(' | sort -u \
    >"$work/declared"
nm -D --defined-only "$shared" | awk '{ print $NF }' | grep -v '^__' | sort -u >"$work/exported"
[ "$(wc -l <"$work/declared")" -ge 40 ] || fail "the declarations were not found in the header"
diff -u "$work/declared" "$work/exported" || fail "declared (-) and exported (+) functions differ"
nm --defined-only --extern-only "$static" | awk 'NF == 3 { print $3 }' | grep -v '^__' >"$work/static_names"
if grep -vE '^(mace|mlib|mshm)_' "$work/static_names"; then
    fail "libmace.a defines names outside mace_, mlib_ and mshm_"
fi

cat >"$work/outside.c" <<'SOURCE'
#include <mace/mace.h>
#include <stdio.h>
#include <string.h>

int main(int argc, char **argv)
{
    mace *db = NULL;
    mace_bucket *bucket = NULL;
    char buffer[16];
    size_t size = 0;
    int status = mace_open(argc > 1 ? argv[1] : "db", NULL, &db);

    if (status == MACE_OK)
        status = mace_bucket_open(db, "default", &bucket);
    if (status == MACE_OK)
        status = mace_put1(db, bucket, "key", 3, "value", 5);
    if (status == MACE_OK)
        status = mace_get1(db, bucket, "key", 3, buffer, sizeof(buffer), &size);
    if (status == MACE_OK && (size != 5 || memcmp(buffer, "value", 5) != 0))
        status = MACE_CORRUPT;
    printf("%s %s\n", mace_version(), mace_strerror(status));
    mace_bucket_close(bucket);
    mace_close(db);
    return status != MACE_OK;
}
SOURCE
cp "$work/outside.c" "$work/outside.cc"

# run NAME PROGRAM [PATH]: runs it on a new database. The library finds the broker of the tree that it was loaded from; a
# program with the library inside stands elsewhere and finds it on PATH.
unset MACE_BROKER
run() {
    local printed
    printed=$(PATH=${3:-$PATH} "$2" "$work/$1.mace") || fail "$1: $printed"
    [[ $printed == *success ]] || fail "$1 printed: $printed"
    echo "$1: $printed"
}

# By pkg-config. Its words keep the blank of the prefix behind a backslash.
PKG_CONFIG_PATH=$(dirname "$pc")
export PKG_CONFIG_PATH
words() { eval "printf '%s\n' $(pkg-config "$@" mace)"; }
mapfile -t cflags < <(words --cflags)
mapfile -t libs < <(words --libs)
mapfile -t private < <(words --libs --static | grep -vx -e -lmace)
rpath=-Wl,-rpath,$(dirname "$shared")
"$cc" -std=c11 "${flags[@]}" "${cflags[@]}" "$work/outside.c" "${libs[@]}" "$rpath" -o "$work/pc_c"
run pc_c "$work/pc_c"
"$cxx" -std=c++11 "${flags[@]}" "${cflags[@]}" "$work/outside.cc" "${libs[@]}" "$rpath" -o "$work/pc_cxx"
run pc_cxx "$work/pc_cxx"
"$cc" -std=c11 "${flags[@]}" "${cflags[@]}" "$work/outside.c" "$static" "${private[@]}" -o "$work/pc_static"
run pc_static "$work/pc_static" "$prefix/bin:$PATH"

# By find_package.
cat >"$work/CMakeLists.txt" <<'PROJECT'
cmake_minimum_required(VERSION 3.20)
project(outside C CXX)
find_package(mace REQUIRED)
add_executable(cmake_c outside.c)
target_link_libraries(cmake_c mace::mace)
add_executable(cmake_static outside.c)
target_link_libraries(cmake_static mace::mace_static)
add_executable(cmake_cxx outside.cc)
target_link_libraries(cmake_cxx mace::mace)
PROJECT
cmake -S "$work" -B "$work/b" -DCMAKE_PREFIX_PATH="$prefix" -DCMAKE_C_COMPILER="$cc" -DCMAKE_CXX_COMPILER="$cxx" \
    -DCMAKE_C_FLAGS="${flags[*]}" -DCMAKE_CXX_FLAGS="${flags[*]}" >"$work/configure.log" 2>&1 ||
    { cat "$work/configure.log"; fail "find_package"; }
cmake --build "$work/b" >"$work/build.log" 2>&1 || { cat "$work/build.log"; fail "build by find_package"; }
run cmake_c "$work/b/cmake_c"
run cmake_cxx "$work/b/cmake_cxx"
run cmake_static "$work/b/cmake_static" "$prefix/bin:$PATH"

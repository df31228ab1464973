# Sourced by the scripts of tests/cli: a directory of their own, which goes away with them, and a compiler.
# shellcheck shell=bash

: "${MACE_SOURCE_DIR:?}" "${MACE_BUILD_DIR:?}"

# The compiler of the build, and the sanitizer that the library was built with: a program that uses it needs the same.
cc=${MACE_CC:-cc}
case $(basename "$cc") in
*clang*) cxx=clang++ ;;
*) cxx=g++ ;;
esac
flags=(-Wall -Wextra -Werror)
if [ -n "${MACE_SANITIZE:-}" ]; then
    flags+=("-fsanitize=$MACE_SANITIZE")
fi
# shellcheck disable=SC2034
readonly cc cxx flags

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

fail() {
    echo "FAILED: $*" >&2
    exit 1
}

# sound DIR: mace-check finds nothing wrong in the database, be it served or not.
sound() {
    local status=0
    "$MACE_BUILD_DIR/tools/mace-check" "$1" >"$work/sound" 2>&1 || status=$?
    if [ "$status" = 2 ] && grep -q 'a broker serves' "$work/sound"; then
        status=0
        "$MACE_BUILD_DIR/tools/mace-check" --online "$1" >"$work/sound" 2>&1 || status=$?
    fi
    [ "$status" = 0 ] || fail "mace-check $1: $status: $(cat "$work/sound")"
}

# serve DIR ARGUMENT...: a broker of the script's own, which serves when this returns; its process is $broker.
serve() {
    local tries=0
    "$MACE_BROKER" "$@" >>"$work/broker.log" 2>&1 &
    broker=$!
    trap 'kill -KILL "$broker" 2>/dev/null || true; rm -rf "$work"' EXIT
    until "$MACE_BUILD_DIR/tools/mace-stat" "$1" >"$work/served" 2>&1; do
        tries=$((tries + 1))
        [ "$tries" -lt 1000 ] || fail "the broker does not serve: $(cat "$work/broker.log")"
        sleep 0.05
    done
}

# unserve: ends it in order.
unserve() {
    kill -TERM "$broker"
    wait "$broker" || fail "the broker ended badly: $(cat "$work/broker.log")"
}

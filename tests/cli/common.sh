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

# Sourced by tools/quickstart and tools/run-tests: installs Debian packages that are missing.
# shellcheck shell=bash

# What the library, the broker and the tools are built with, and what the tests need on top.
# shellcheck disable=SC2034
mace_build_packages=(gcc libc6-dev make cmake pkg-config libatomic-ops-dev liburing-dev libisal-dev libzstd-dev libjansson-dev)
# shellcheck disable=SC2034
mace_test_packages=(check g++ binutils jq spin)

# install_missing PACKAGE...: runs apt-get only when a package is missing, as root or through sudo, asking nothing.
install_missing() {
    local package missing=() as_root=()
    if ! command -v dpkg-query >/dev/null; then
        echo "no dpkg here; needed are the counterparts of: $*"
        return 0
    fi
    for package in "$@"; do
        if [ "$(dpkg-query -W -f '${db:Status-Status}' "$package" 2>/dev/null)" != installed ]; then
            missing+=("$package")
        fi
    done
    if [ ${#missing[@]} -eq 0 ]; then
        return 0
    fi
    if [ "$(id -u)" -ne 0 ]; then
        if ! command -v sudo >/dev/null; then
            echo "missing packages: ${missing[*]}; install them as root, or install sudo" >&2
            return 1
        fi
        as_root=(sudo)
    fi
    echo "installing: ${missing[*]}"
    "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get update -q
    "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -q -y --no-install-recommends "${missing[@]}"
}

#!/bin/sh
# Compiles kernel.c with its headers into a folder, a library for each instruction set of a processor family:
#   build.sh x86_64|aarch64 FOLDER
# With $CC (cc) where that compiles for the family, else with zig, from PyPI, by $UV or $PYTHON -m pip.
# The libraries call nothing but memset and memcpy, so they run on any version of any libc.
set -eu

machine=$1
folder=$2
here=$(cd "$(dirname "$0")" && pwd)
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT

# Exact arithmetic: neither of the first two may be left out, whatever they cost (nothing).
flags="-ffp-contract=off -fno-fast-math -O3 -std=gnu11 -ffreestanding -fPIC -shared -nostdlib -s -Wall -Wextra -Werror"

case $machine in
x86_64)
    names="x86_64-v3 x86_64-v4"
    options() { echo "-march=x86-64-${1#*-} -mprefer-vector-width=512"; }
    ;;
aarch64)
    names=aarch64
    options() { echo "-march=armv8-a"; }
    ;;
*)
    echo "no kernel for $machine: x86_64 or aarch64" >&2
    exit 2
    ;;
esac

compile_all() {
    for name in $names; do
        # shellcheck disable=SC2046,SC2086  # words, on purpose
        "$@" $flags $(options $name) -o "$scratch/liblamella-$name.so" "$here/kernel.c" || return 1
    done
}

install_zig() {
    if [ -n "${UV:-}" ]; then
        "$UV" pip install --quiet --target "$scratch/zig" --require-hashes --requirements "$here/requirements.lock"
    else
        "${PYTHON:-python3}" -m pip install --quiet --disable-pip-version-check --target "$scratch/zig" \
            --require-hashes --requirement "$here/requirements.lock"
    fi
}

if [ "$machine" = "$(uname -m)" ] && compile_all "${CC:-cc}" 2>"$scratch/log"; then
    :
else
    install_zig
    # zig's own way to name a processor; a target with a libc, though none is linked.
    options() { echo "-target $machine-linux-gnu -mcpu=$(echo "$1" | sed 's/-/_/; s/^aarch64$/generic/')"; }
    compile_all "$scratch/zig/ziglang/zig" cc
fi
mkdir -p "$folder"
mv "$scratch"/*.so "$folder"

#!/usr/bin/env bash
# Lets `cargo build --features cuda` find an LLVM without downloading one. For Debian and Ubuntu machines.
#
# burn's CUDA backend compiles its kernels with LLVM. The build script of `tracel-llvm-bundler` downloads a ready-made
# bundle from GitHub releases and unpacks it in the user's data folder. A machine with open internet needs nothing
# from this script. A machine that only reaches a package mirror can link the distribution's LLVM instead:
#
#   1. installs LLVM's static libraries, headers and what they link to (apt, with sudo where it is there);
#   2. puts a folder where the bundle would be, with the marker file that the build script looks for and an
#      `llvm-config` (the only program it runs there) that calls the distribution's.
#
# The program then needs libz, libzstd and libstdc++ at run time, and a CUDA toolkit's libdevice.10.bc.
# `cargo check` links nothing: it needs neither the bundle nor this script when DOCS_RS=1 is set, as .ci/run does.
#
# Running it again changes nothing. To go back to the bundle: remove the folder that it names at the end.
set -euo pipefail

readonly llvm=22
# As in tracel-llvm-bundler's src/config.rs; the version is the crate's own, from Cargo.lock.
root=$(cd "$(dirname "$0")/.." && pwd)
bundle_version=$(sed -n '/^name = "tracel-llvm-bundler"$/{n;s/^version = "\(.*\)"$/\1/p}' "$root/Cargo.lock")
[ -n "$bundle_version" ] || { echo "setup-llvm: tracel-llvm-bundler is not in Cargo.lock: this burn needs no LLVM" >&2; exit 1; }
case ${XDG_DATA_HOME:-} in
    /*) data=$XDG_DATA_HOME ;;
    *) data=$HOME/.local/share ;;
esac
bundle=$data/tracel/tracel-llvm-$bundle_version

packages=(g++ "llvm-$llvm-dev" "libpolly-$llvm-dev" zlib1g-dev libzstd-dev libxml2-dev libz3-dev)
missing=()
for package in "${packages[@]}"; do
    dpkg-query -W -f '${Status}' "$package" 2>/dev/null | grep -q 'ok installed' || missing+=("$package")
done
if [ ${#missing[@]} -gt 0 ]; then
    command -v apt-get >/dev/null || { echo "setup-llvm: no apt-get here, install LLVM $llvm by hand" >&2; exit 1; }
    if [ "$(id -u)" = 0 ]; then as_root=(env); else as_root=(sudo); fi
    echo "setup-llvm: installing ${missing[*]}"
    "${as_root[@]}" apt-get update -qq
    "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${missing[@]}" </dev/null
fi

if [ -e "$bundle/.tracel-llvm-installed" ] && [ ! -e "$bundle/.from-distribution" ]; then
    echo "setup-llvm: $bundle holds the downloaded bundle already; left as it is"
    exit 0
fi
mkdir -p "$bundle/bin"
# The distribution's llvm-config names some system libraries by path, which the build script would turn into the
# library name `libz3` instead of `z3`: this one says `-lz3`.
cat >"$bundle/bin/llvm-config" <<WRAPPER
#!/bin/sh
set -e
out=\$(llvm-config-$llvm "\$@")
for arg in "\$@"; do
    if [ "\$arg" = --system-libs ]; then
        out=\$(printf '%s' "\$out" | sed -E 's#/[^ ]*/lib([^ /]+)\.(so|a)( |\$)#-l\1\3#g')
    fi
done
printf '%s\n' "\$out"
WRAPPER
chmod +x "$bundle/bin/llvm-config"
# The marker comes last, and keeps its time: a new one would make cargo build everything above it again.
for mark in .from-distribution .tracel-llvm-installed; do
    [ -e "$bundle/$mark" ] || touch "$bundle/$mark"
done

version=$("$bundle/bin/llvm-config" --version)
libraries=$("$bundle/bin/llvm-config" --link-static --system-libs)
echo "setup-llvm: LLVM $version stands in for the bundle at $bundle (system libraries: $libraries)"

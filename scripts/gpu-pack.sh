#!/usr/bin/env bash
# Packs what a GPU machine without Rust and without internet needs for the GPU tests and the comparison with PyTorch into one
# file under 60 MiB: the tests and the benchmark built with CUDA, stripped, the shared libraries that they need, and the
# PyTorch side.
#
#     scripts/gpu-pack.sh [FILE]                              here; default: target/pluvial-gpu.tar.xz
#     tar xf pluvial-gpu.tar.xz && pluvial-gpu/run.sh OUT     there: see scripts/gpu-run.sh
#
# CUDARC_CUDA_VERSION names the oldest CUDA that the machine's driver may have (13000: CUDA 13.0). Needs xz, and what
# `--features cuda` needs to build: with scripts/setup-llvm.sh that is Debian's LLVM instead of a download.
set -euo pipefail
cd "$(dirname "$0")/.."

readonly most=$((60 * 1024 * 1024))
export CUDARC_CUDA_VERSION=${CUDARC_CUDA_VERSION:-13000}
file=${1:-target/pluvial-gpu.tar.xz}
mkdir -p "$(dirname "$file")"
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
pack=$folder/pluvial-gpu
mkdir -p "$pack/bin" "$pack/lib" "$pack/benches/peers"

echo "gpu-pack: building (the first time half an hour on two cores)" >&2
cargo test --release --no-run --features cuda -p pluvial-model -p pluvial-train -p pluvial-benches \
    --lib --test gpu --bench encoders --bench operations --message-format=json-render-diagnostics |
    python3 -c '
import json, sys
for message in map(json.loads, sys.stdin):
    if message.get("executable") and message["target"]["name"] in sys.argv[1:]:
        print(message["target"]["name"], message["executable"])' pluvial_model gpu encoders operations \
    >"$folder/executables"
while read -r name path; do
    strip -o "$pack/bin/$name" "$path"
    # What a bare machine may lack; glibc and the compiler's own libraries it has.
    ldd "$path" | awk '$3 ~ /^\// && $3 !~ /\/lib(c|m|dl|rt|pthread|gcc_s|stdc\+\+)\.so/ { print $3 }' |
        while read -r library; do cp -L -n "$library" "$pack/lib/"; done
done <"$folder/executables"

cp benches/peers/{compare.sh,table.py,torch_operations.py,torch_step.py} "$pack/benches/peers/"
cp scripts/gpu-run.sh "$pack/run.sh"
git describe --always --dirty >"$pack/version.txt"

# One stream with a dictionary that spans all executables: they share most of their code.
tar -C "$folder" -cf - pluvial-gpu | xz --threads=1 --x86 --lzma2=preset=6,dict=512MiB >"$file.tmp"
size=$(stat -c %s "$file.tmp")
if [ "$size" -ge "$most" ]; then
    echo "gpu-pack: $((size >> 20)) MiB, 60 are allowed: left as $file.tmp" >&2
    exit 1
fi
mv "$file.tmp" "$file"
echo "gpu-pack: $file, $(awk "BEGIN { printf \"%.1f\", $size / 1048576 }") MiB:"
ls -l "$pack/bin" "$pack/lib" | awk 'NF > 8 { printf "    %6.1f MiB  %s\n", $5 / 1048576, $9 }'

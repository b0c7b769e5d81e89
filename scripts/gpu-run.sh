#!/usr/bin/env bash
# What scripts/gpu-pack.sh packed, run on a machine with an NVIDIA GPU: the GPU tests, training steps of the networks beside
# compiled PyTorch, and single operations beside burn's own and PyTorch's. Stops in time, with what it has.
#
#     pluvial-gpu/run.sh [OUT [MINUTES]]          default: pluvial-gpu/results, 9.5 minutes
#
# Needs the driver, Python with torch and torchvision (PYTHON), and libdevice.10.bc, which a CUDA toolkit and Triton have.
set -uo pipefail
cd "$(dirname "$0")"
out=${1:-results}
end=$(awk "BEGIN { print int($SECONDS + 60 * ${2:-9.5}) }")
mkdir -p "$out"
out=$(cd "$out" && pwd)
export PYTHON=${PYTHON:-python3} RESULTS=$out ENCODERS=$PWD/bin/encoders

# Only where the machine lacks them: PyTorch is to have its own.
if ldd bin/encoders | grep -q 'not found'; then
    export LD_LIBRARY_PATH=$PWD/lib${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}
fi

if [ ! -e "${CUDA_PATH:-/usr/local/cuda}/nvvm/libdevice/libdevice.10.bc" ]; then
    found=$("$PYTHON" -c 'import pathlib, triton; print(next(pathlib.Path(triton.__file__).parent.rglob("libdevice.10.bc")))')
    mkdir -p "$out/toolkit/nvvm/libdevice"
    ln -sf "$found" "$out/toolkit/nvvm/libdevice/"
    export CUDA_PATH=$out/toolkit
fi

# SECONDS-AT-MOST NAME COMMAND...: its output to NAME.log, too; a failure ends nothing else.
step() {
    local most=$1 name=$2 left=$((end - SECONDS)) start=$SECONDS
    shift 2
    [ "$left" -gt 5 ] || { echo "== $name: no time left"; return; }
    echo "== $name"
    timeout "$((left < most ? left : most))" "$@" 2>&1 | tee "$out/$name.log"
    echo "== $name: status ${PIPESTATUS[0]}, $((SECONDS - start)) s"
}

{
    cat version.txt
    nvidia-smi --query-gpu=name,driver_version,memory.total --format=csv,noheader
    "$PYTHON" -c 'import torch; print("torch", torch.__version__)'
    nproc
} 2>&1 | tee "$out/machine.txt"

step 100 tests-model bin/pluvial_model --ignored --nocapture --test-threads=1 on_gpu
step 60 tests-train bin/gpu --ignored --nocapture on_gpu
export NETWORKS="convnext_tiny resnet50"
for setting in "32 bf16" "32 tf32" "128 bf16" "128 tf32"; do
    read -r batch precision <<<"$setting"
    step 120 "steps-$precision-batch$batch" benches/peers/compare.sh cuda "$batch" 128 "$precision"
done
step 40 torch-operations bash -c \
    '"$PYTHON" benches/peers/torch_operations.py --batch 32 --channels-last --tf32 > "$RESULTS/torch-operations.jsonl"'
step 120 operations bin/operations --device cuda --batch 32 --beside "$out/torch-operations.jsonl" --markdown "$out/operations-cuda.md"
rm -rf "$out/toolkit"

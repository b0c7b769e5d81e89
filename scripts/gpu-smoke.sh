#!/usr/bin/env bash
# Runs one training step on a GPU backend and compares it with the CPU: crates/train/tests/software_gpu.rs.
#
#     scripts/gpu-smoke.sh [vulkan|wgpu|cuda]                              on this machine's GPU
#     env "$(scripts/setup-software-gpu.sh)" scripts/gpu-smoke.sh wgpu     on a device made of software (Debian)
#
# On SwiftShader take wgpu: with vulkan, whose kernels are SPIR-V made by burn itself, its small matrix products (such as
# 8×3 by 3×638, and 2×8 by 8×32) come out as zeros there, with wgpu (WGSL) they are right.
#
# It has its own build profile, quick to compile; the first build still compiles all of burn with that backend.
set -euo pipefail
cd "$(dirname "$0")/.."

backend=${1:-vulkan}
case $backend in
    vulkan | wgpu | cuda) ;;
    *) echo "gpu-smoke: '$backend' is no GPU backend: choose vulkan, wgpu or cuda" >&2; exit 2 ;;
esac
# Fewer shapes are tuned on their own: the kernels need not be fast here.
export CUBECL_AUTOTUNE_LEVEL=${CUBECL_AUTOTUNE_LEVEL:-minimal}
exec cargo test --profile gpu-smoke -p pluvial-train --features "$backend" --test software_gpu -- --ignored --nocapture

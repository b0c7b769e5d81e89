#!/usr/bin/env bash
# Runs every test that needs a GPU on one of its backends: the kernels against plain loops (crates/model/src/ops), and a
# training step against the CPU's (crates/train/tests/gpu.rs).
#
#     scripts/gpu-tests.sh [vulkan|wgpu|cuda] [FILTER]                     on this machine's GPU
#     env "$(scripts/setup-software-gpu.sh)" scripts/gpu-tests.sh wgpu     on a device made of software (Debian)
#
# On SwiftShader take wgpu: with vulkan, whose kernels are SPIR-V made by burn itself, its small matrix products (such as
# 8×3 by 3×638, and 2×8 by 8×32) come out as zeros there, with wgpu (WGSL) they are right.
#
# It has its own build profile, quick to compile; the first build still compiles all of burn with that backend.
# FILTER: a part of the tests' names, all of which end in `on_gpu`.
set -euo pipefail
cd "$(dirname "$0")/.."

backend=${1:-vulkan}
case $backend in
    vulkan | wgpu | cuda) ;;
    *) echo "gpu-tests: '$backend' is no GPU backend: choose vulkan, wgpu or cuda" >&2; exit 2 ;;
esac
# Fewer shapes are tuned on their own: the kernels need not be fast here.
export CUBECL_AUTOTUNE_LEVEL=${CUBECL_AUTOTUNE_LEVEL:-minimal}
exec cargo test --profile gpu-tests -p pluvial-model -p pluvial-train --features "pluvial-train/$backend" \
    --lib --test gpu -- --ignored --nocapture --test-threads 1 "${2:-on_gpu}"

#!/usr/bin/env bash
# Speed of the networks beside PyTorch, in one run on one machine: benches/results/<device>-<precision>[-infer].csv and .md.
#
#     benches/peers/compare.sh [DEVICE [BATCH [SIZE [PRECISION [MODE]]]]]        (default: cpu 4 64 f32 train)
#
# PRECISION is f32, tf32 or bf16, MODE train or infer. On CUDA, PyTorch compiles the network and keeps channels last.
# PYTHON names an interpreter with torch and torchvision; TORCH_DEVICE the device there (default: cpu or cuda, as ours).
set -euo pipefail
cd "$(dirname "$0")/../.."
device=${1:-cpu} batch=${2:-4} size=${3:-64} precision=${4:-f32} mode=${5:-train}
python=${PYTHON:-python3}
torch_device=${TORCH_DEVICE:-$([ "$device" = cpu ] && echo cpu || echo cuda)}
torch_flags=(--device "$torch_device" --precision "${precision/#f32/fp32}")
[ "$torch_device" = cpu ] || torch_flags+=(--compile --channels-last)
results=benches/results
name=${device%%:*}-$precision$([ "$mode" = train ] || echo "-$mode")
ours=$(mktemp) theirs=$(mktemp)
trap 'rm -f "$ours" "$theirs"' EXIT
rm "$ours"
features=$([ "$device" = cpu ] || echo "--features ${device%%:*}")

# One network at a time, ours and theirs in turn: whatever else the machine does weighs on both.
for pair in resnet50:resnet50 convnext_atto:convnext-atto convnext_tiny:convnext-tiny; do
    # shellcheck disable=SC2086 # one word or none
    cargo bench -q -p pluvial-benches $features --bench encoders -- --device "$device" --mode "$mode" \
        --precision "$precision" --batch "$batch" --size "$size" --models "deeplabv3plus_keras-${pair%%:*}" --csv "$ours"
    "$python" benches/peers/torch_step.py --mode "$mode" --model "deeplabv3plus-${pair##*:}" --batch "$batch" \
        --size "$size" "${torch_flags[@]}" | tee -a "$theirs"
done
mkdir -p "$results"
cp "$ours" "$results/$name.csv"
"$python" benches/peers/table.py "$ours" "$theirs" > "$results/$name.md"
cat "$results/$name.md"

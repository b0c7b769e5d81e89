#!/usr/bin/env bash
# Training speed of the networks beside PyTorch, in one run on one machine: benches/results/<device>-<precision>.csv and .md.
#
#     benches/peers/compare.sh [DEVICE [BATCH [SIZE]]]        (default: cpu 4 64)
#
# PYTHON names an interpreter with torch and torchvision; TORCH_DEVICE the device there (default: cpu or cuda, as ours).
set -euo pipefail
cd "$(dirname "$0")/../.."
device=${1:-cpu} batch=${2:-4} size=${3:-64}
python=${PYTHON:-python3}
torch_device=${TORCH_DEVICE:-$([ "$device" = cpu ] && echo cpu || echo cuda)}
results=benches/results
name=${device%%:*}-f32
ours=$(mktemp) theirs=$(mktemp)
trap 'rm -f "$ours" "$theirs"' EXIT
rm "$ours"

# One network at a time, ours and theirs in turn: whatever else the machine does weighs on both.
for pair in resnet50:resnet50 convnext_atto:convnext-atto convnext_tiny:convnext-tiny; do
    cargo bench -q -p pluvial-benches --bench encoders -- --device "$device" --batch "$batch" --size "$size" \
        --models "deeplabv3plus_keras-${pair%%:*}" --csv "$ours"
    "$python" benches/peers/torch_step.py --model "deeplabv3plus-${pair##*:}" --batch "$batch" --size "$size" \
        --device "$torch_device" | tee -a "$theirs"
done
mkdir -p "$results"
cp "$ours" "$results/$name.csv"
"$python" benches/peers/table.py "$ours" "$theirs" > "$results/$name.md"
cat "$results/$name.md"

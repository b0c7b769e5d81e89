#!/usr/bin/env bash
# Speed of the networks beside PyTorch, in one run on one machine: benches/results/<device>-<precision>[-infer].csv and .md,
# on a GPU <device>-<precision>-batch<N>[-infer].
#
#     benches/peers/compare.sh [DEVICE [BATCH [SIZE [PRECISION [MODE]]]]]        (default: cpu 4 64 f32 train)
#
# PRECISION is f32, tf32 or bf16, MODE train or infer. On CUDA, PyTorch compiles the network and keeps channels last.
# PYTHON names an interpreter with torch and torchvision; TORCH_DEVICE the device there (default: cpu or cuda, as ours);
# NETWORKS the encoders (default: resnet50 convnext_atto convnext_tiny); ENCODERS a built benchmark, where there is no cargo;
# RESULTS another folder.
set -euo pipefail
cd "$(dirname "$0")/../.."
device=${1:-cpu} batch=${2:-4} size=${3:-64} precision=${4:-f32} mode=${5:-train}
python=${PYTHON:-python3}
torch_device=${TORCH_DEVICE:-$([ "$device" = cpu ] && echo cpu || echo cuda)}
torch_flags=(--device "$torch_device" --precision "${precision/#f32/fp32}")
[ "$torch_device" = cpu ] || torch_flags+=(--compile --channels-last)
results=${RESULTS:-benches/results}
name=${device%%:*}-$precision$([ "$device" = cpu ] || echo "-batch$batch")$([ "$mode" = train ] || echo "-$mode")
ours=$(mktemp) theirs=$(mktemp)
trap 'rm -f "$ours" "$theirs"' EXIT
rm "$ours"
features=()
[ "$device" = cpu ] || features=(--features "${device%%:*}")
encoders() {
    if [ -n "${ENCODERS:-}" ]; then "$ENCODERS" "$@"; else
        cargo bench -q -p pluvial-benches "${features[@]}" --bench encoders -- "$@"
    fi
}

# One network at a time, ours and theirs in turn: whatever else the machine does weighs on both.
for network in ${NETWORKS:-resnet50 convnext_atto convnext_tiny}; do
    encoders --device "$device" --mode "$mode" --precision "$precision" --batch "$batch" --size "$size" --detail \
        --models "deeplabv3plus_keras-$network" --csv "$ours"
    "$python" benches/peers/torch_step.py --mode "$mode" --model "deeplabv3plus-${network//_/-}" --batch "$batch" \
        --size "$size" "${torch_flags[@]}" | tee -a "$theirs"
done
mkdir -p "$results"
cp "$ours" "$results/$name.csv"
"$python" benches/peers/table.py "$ours" "$theirs" > "$results/$name.md"
cat "$results/$name.md"

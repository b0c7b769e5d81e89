#!/usr/bin/env bash
# Peak memory of a training step with and without gradient checkpointing: benches/results/memory-<device>-f32.csv and .md.
#
#     benches/memory.sh [DEVICE [GIB [SIZE]]]        (default: cpu 8 64)
#
# Batches 4 and 16, and the largest batch that fits into GIB. ENCODERS names a built benchmark, where there is no cargo.
set -euo pipefail
cd "$(dirname "$0")/.."
device=${1:-cpu} gib=${2:-8} size=${3:-64}
name=benches/results/memory-${device%%:*}-f32
rows=$(mktemp)
trap 'rm -f "$rows"' EXIT
rm "$rows"
features=()
[ "$device" = cpu ] || features=(--features "${device%%:*}")
encoders() {
    if [ -n "${ENCODERS:-}" ]; then "$ENCODERS" "$@"; else
        cargo bench -q -p pluvial-benches "${features[@]}" --bench encoders -- "$@"
    fi
}
bench() {
    encoders --device "$device" --size "$size" --csv "$rows" "$@"
}

for checkpointing in "" --checkpointing; do
    for batch in 4 16; do
        bench --batch "$batch" --warmup 1 --steps 1 $checkpointing
    done
    bench --batch 64 --largest-batch --memory-gib "$gib" $checkpointing
done
cp "$rows" "$name.csv"
python3 benches/memory_table.py "$name.csv" "$gib" > "$name.md"
cat "$name.md"

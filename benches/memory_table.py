#!/usr/bin/env python3
"""Rows that memory.sh measured (CSV), as a Markdown table.

    python3 memory_table.py ROWS.csv GIB
"""
import csv, sys

rows = list(csv.DictReader(open(sys.argv[1])))
first = rows[0]
steps = {(row["model"], row["checkpointing"], int(row["batch"])): row for row in rows if row["median_ms"]}
largest = {(row["model"], row["checkpointing"]): row for row in rows if not row["median_ms"]}
print(f"# {first['device']}, {first['precision']}: memory of a training step, {first['size']} × {first['size']} cells, input enlarged ×2\n")
print(f"{first['versions']}. Made by `benches/memory.sh`: peak memory of the process (on a GPU, of burn's pools) in MiB, everything kept → with")
print("`train.gradient_checkpointing`, which keeps of each block of the encoder only its input, for another pass forward through the blocks; and")
print(f"the largest batch, to a sixteenth, that fits into {sys.argv[2]} GiB.\n")
print(f"| network | parameters | batch 4 | batch 16 | largest batch in {sys.argv[2]} GiB |")
print("|---|---|---|---|---|")
for model in dict.fromkeys(row["model"] for row in rows):
    def pair(of):
        return " → ".join(of(checkpointing) for checkpointing in ("false", "true"))

    cells = [model, f"{int(steps[model, 'false', 4]['params']):,}"]
    cells += [pair(lambda c, batch=batch: steps[model, c, batch]["peak_mib"]) for batch in (4, 16)]
    cells += [pair(lambda c: largest[model, c]["batch"])]
    print(f"| {' | '.join(cells)} |")

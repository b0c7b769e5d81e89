"""Prints what Iris reads in Nimrod files: the figures that tests/radar.rs expects of the Met Office's public samples.

    pip install scitools-iris && python expected.py u1096_ng_*

Rows are printed from the north, coordinates are those of cell centres, times UTC.
"""

import sys

from iris.fileformats.nimrod import load_cubes

for path in sys.argv[1:]:
    for cube in load_cubes([path]):
        y = cube.coord("projection_y_coordinate").points
        x = cube.coord("projection_x_coordinate").points
        data = cube.data[::-1] if y[0] < y[-1] else cube.data
        print(path.rsplit("/", 1)[-1], cube.name(), cube.units)
        print("  x", x[0], "to", x[-1], "y", max(y), "to", min(y))
        print("  time", cube.coord("time").cell(0))
        print("  values", data.tolist())

"""Makes the GeoTIFF files beside this script with tifffile and imagecodecs, which share no code with the reader under test.

    pip install numpy tifffile imagecodecs && python make.py

Cell (i, j) of the 19 × 33 raster holds 7 i - 3 j + 40 (u8: (i + 5 j) mod 251); floats add 0.25. Cell (2, 5) is no data.
"""

import numpy as np
import tifffile

ROWS, COLUMNS = 19, 33
i, j = np.mgrid[0:ROWS, 0:COLUMNS]
BASE = 7 * i - 3 * j + 40


def values(dtype):
    kind = np.dtype(dtype).kind
    if np.dtype(dtype).itemsize == 1:
        a = (i + 5 * j) % 251
        no_data = 255
    elif kind == "u":
        a = BASE + 100
        no_data = 65535
    elif kind == "i":
        a = BASE
        no_data = -32768
    else:
        a = BASE + 0.25
        no_data = -3.4028234663852886e38 if np.dtype(dtype).itemsize == 4 else -9999.0
    a = a.astype(dtype)
    a[2, 5] = no_data
    return a, no_data


def keys(code, geographic, point=False):
    entries = [(1024, 2 if geographic else 1), (1025, 2 if point else 1), (2048 if geographic else 3072, code)]
    flat = [1, 1, 0, len(entries)]
    for key, value in entries:
        flat += [key, 0, 1, value]
    return flat


def write(name, dtype, code=27700, geographic=False, point=False, corner=(209000.0, 92000.0), cell=(50.0, 25.0), **options):
    a, no_data = values(dtype)
    extra = [
        (33550, "d", 3, (*cell, 0.0), True),
        (33922, "d", 6, (0.0, 0.0, 0.0, *corner, 0.0), True),
        (34735, "H", len(keys(code, geographic)), keys(code, geographic, point), True),
        (42113, "s", 0, repr(no_data), True),
    ]
    options.setdefault("metadata", None)
    tifffile.imwrite(name, a, photometric="minisblack", software=False, extratags=extra, **options)


write("f32_strips_deflate_predictor3.tif", "f4", compression="deflate", predictor=3, rowsperstrip=4)
write("f64_strips_none.tif", "f8", rowsperstrip=5)
write("i16_tiles_none.tif", "i2", tile=(16, 16), code=4326, geographic=True, corner=(-97.5, 32.75), cell=(0.001, 0.001))
write("i32_tiles_deflate_predictor2.tif", "i4", tile=(16, 32), compression="deflate", predictor=2)
write("u8_strips_lzw.tif", "u1", compression="lzw", rowsperstrip=7)
write("u16_tiles_lzw_predictor2_big_endian.tif", "u2", tile=(16, 16), compression="lzw", predictor=2, byteorder=">")
write("f32_tiles_lzw_bigtiff.tif", "f4", tile=(16, 16), compression="lzw", bigtiff=True)
write("f64_tiles_deflate_predictor3_big_endian.tif", "f8", tile=(32, 16), compression="deflate", predictor=3, byteorder=">")
write("i32_strips_packbits_point.tif", "i4", point=True, compression="packbits", rowsperstrip=19)

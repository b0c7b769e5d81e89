//! Bilinear resize: along the columns, then along the rows, a unit making one vector of channels.

use burn::backend::TensorMetadata;
use burn::backend::tensor::FloatTensor;
use burn::tensor::DType;
use burn_cubecl::CubeBackend;
use burn_cubecl::cubecl;
use burn_cubecl::cubecl::calculate_cube_count_elemwise;
use burn_cubecl::cubecl::prelude::*;
use burn_cubecl::ops::permute_nhwc_to_nchw;
use burn_cubecl::tensor::CubeTensor;

use super::super::bilinear::BilinearResize;
use super::{address_type, channels_last, element, empty_of, vector_size};

impl BilinearResize for CubeBackend {
    fn resize(x: FloatTensor<Self>, size: [usize; 2], aligned: bool) -> FloatTensor<Self> {
        along_axes(x, size, [2, 1], aligned, false)
    }

    fn resize_gradient(
        dy: FloatTensor<Self>,
        size: [usize; 2],
        aligned: bool,
    ) -> FloatTensor<Self> {
        along_axes(dy, size, [1, 2], aligned, true)
    }
}

/// The maps resized, or their gradients taken back, to `size`, along one of the axes after the other; first that where there is less to do.
fn along_axes(
    maps: CubeTensor,
    size: [usize; 2],
    axes: [usize; 2],
    aligned: bool,
    back: bool,
) -> CubeTensor {
    let dtype = maps.dtype;
    let maps = channels_last(maps);
    let [first, second] = axes.map(|axis| (axis, size[axis - 1]));
    // In f32 in between, so that the result is rounded once.
    let maps = along(maps, first, DType::F32, aligned, back);
    permute_nhwc_to_nchw(along(maps, second, dtype, aligned, back))
}

/// Maps `[batch, row, column, channel]` whose `axis` gets `size` places.
fn along(
    maps: CubeTensor,
    (axis, size): (usize, usize),
    dtype: DType,
    aligned: bool,
    back: bool,
) -> CubeTensor {
    if maps.shape()[axis] == size && maps.dtype == dtype {
        return maps;
    }
    let mut shape = maps.shape();
    shape[axis] = size;
    let result = empty_of(&maps, shape, dtype);
    let vector = vector_size([&maps, &result]);
    let vectors = result.shape().num_elements() / vector;
    let client = maps.client.clone();
    let cube = CubeDim::new(&client, vectors);
    let cubes = calculate_cube_count_elemwise(&client, vectors, cube);
    let addresses = address_type([&maps, &result]);
    let elements = [element(&maps), element(&result)];
    let (from, into) = (maps.into_tensor_arg(), result.clone().into_tensor_arg());
    if back {
        gather::launch(
            &client, cubes, cube, addresses, vector, from, into, axis, aligned, elements,
        );
    } else {
        interpolate::launch(
            &client, cubes, cube, addresses, vector, from, into, axis, aligned, elements,
        );
    }
    result
}

#[cube(launch, address_type = "dynamic")]
fn interpolate<F: Float, G: Float, N: Size>(
    x: &Tensor<Vector<F, N>>,
    y: &mut Tensor<Vector<G, N>>,
    #[comptime] axis: usize,
    #[comptime] aligned: bool,
    #[define(F, G)] _elements: [ElemType; 2],
) {
    let size = N::value().comptime();
    let (of_x, of_y, place, inside) = places::<F, G, N>(x, &*y, axis);
    if !inside {
        terminate!();
    }
    let step = x.stride(axis) / size;
    let (low, fraction) = neighbour(place, x.shape(axis), y.shape(axis), aligned);
    let high = (low + 1).min(x.shape(axis) - 1);
    let low = Vector::<f32, N>::cast_from(x[of_x + low * step]);
    let high = Vector::<f32, N>::cast_from(x[of_x + high * step]);
    let mixed = low * Vector::new(1.0 - fraction) + high * Vector::new(fraction);
    y[of_y] = Vector::cast_from(mixed);
}

/// For each cell of the source, the gradients of the target cells that it touches, by their weights.
#[cube(launch, address_type = "dynamic")]
fn gather<F: Float, G: Float, N: Size>(
    dy: &Tensor<Vector<F, N>>,
    dx: &mut Tensor<Vector<G, N>>,
    #[comptime] axis: usize,
    #[comptime] aligned: bool,
    #[define(F, G)] _elements: [ElemType; 2],
) {
    let size = N::value().comptime();
    let (of_dy, of_dx, place, inside) = places::<F, G, N>(dy, &*dx, axis);
    if !inside {
        terminate!();
    }
    let step = dy.stride(axis) / size;
    let from = dx.shape(axis);
    let to = dy.shape(axis);
    // The cells that lie less than one cell of the source away from it, and at an edge those beyond; at most one too many on either side.
    let mut start = 0usize;
    let mut end = to;
    if comptime!(aligned) {
        let between = (from - 1).max(1);
        if place > 0 {
            start = (place - 1) * (to - 1) / between;
        }
        end = ((place + 1) * (to - 1) / between + 1).min(to);
    } else {
        if place > 0 {
            start = (2 * place - 1) * to / (2 * from);
        }
        if place + 1 < from {
            end = ((2 * place + 3) * to / (2 * from) + 1).min(to);
        }
    }
    let mut sum = Vector::<f32, N>::new(0.0);
    for i in start..end {
        let (low, fraction) = neighbour(i, from, to, aligned);
        let mut weight = 0.0f32;
        if low == place {
            weight = 1.0 - fraction;
        }
        if (low + 1).min(from - 1) == place {
            weight += fraction;
        }
        if weight > 0.0 {
            let dy = Vector::<f32, N>::cast_from(dy[of_dy + i * step]);
            sum += dy * Vector::new(weight);
        }
    }
    dx[of_dx] = Vector::cast_from(sum);
}

/// Where this unit's vector lies: in the tensor that is read, at the first place along the axis, and in the one that is written; its
/// place along the axis in that; whether there is one.
#[cube]
fn places<F: Float, G: Float, N: Size>(
    read: &Tensor<Vector<F, N>>,
    written: &Tensor<Vector<G, N>>,
    #[comptime] axis: usize,
) -> (usize, usize, usize, bool) {
    let size = N::value().comptime();
    let vectors = written.shape(3) / size;
    let rest = ABSOLUTE_POS / vectors;
    let vector = ABSOLUTE_POS % vectors;
    let column = rest % written.shape(2);
    let rest = rest / written.shape(2);
    let row = rest % written.shape(1);
    let map = rest / written.shape(1);
    let to = map * written.stride(0) + row * written.stride(1) + column * written.stride(2);
    let (place, from) = if comptime!(axis == 1) {
        (row, column * read.stride(2))
    } else {
        (column, row * read.stride(1))
    };
    let from = map * read.stride(0) + from;
    (
        from / size + vector,
        to / size + vector,
        place,
        map < written.shape(0),
    )
}

/// The first neighbour of target cell `i` and the weight of the second, as on the CPU.
#[cube]
fn neighbour(i: usize, from: usize, to: usize, #[comptime] aligned: bool) -> (usize, f32) {
    let last = from - 1;
    let (place, unit) = if comptime!(aligned) {
        (i * last, (to - 1).max(1))
    } else {
        let place = ((2 * i + 1) * from).max(to) - to;
        (place.min(2 * to * last), 2 * to)
    };
    let fraction = f32::cast_from(place % unit) / f32::cast_from(unit);
    (place / unit, fraction)
}

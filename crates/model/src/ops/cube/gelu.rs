//! GELU and its derivative: a unit computes one vector.

use burn::backend::TensorMetadata;
use burn::backend::tensor::FloatTensor;
use burn_cubecl::CubeBackend;
use burn_cubecl::cubecl;
use burn_cubecl::cubecl::calculate_cube_count_elemwise;
use burn_cubecl::cubecl::prelude::*;
use burn_cubecl::cubecl::std::tensor::layout::linear::{LinearView, LinearViewMut};

use super::super::gelu::{COEFFICIENTS, ExactGelu, SCALE};
use super::{address_type, element, empty_beside, in_memory_order, vector_size};

impl ExactGelu for CubeBackend {
    fn exact_gelu(x: FloatTensor<Self>) -> FloatTensor<Self> {
        in_memory_order([x], |[x]| {
            let y = empty_beside(&x, x.shape());
            let vector = vector_size([&x, &y]);
            let vectors = x.meta.num_elements() / vector;
            let cube = CubeDim::new(&x.client, vectors);
            forward::launch(
                &x.client.clone(),
                calculate_cube_count_elemwise(&x.client, vectors, cube),
                cube,
                address_type([&x, &y]),
                vector,
                x.clone().into_linear_view(),
                y.clone().into_linear_view(),
                element(&x),
            );
            y
        })
    }

    fn exact_gelu_gradient(x: FloatTensor<Self>, dy: FloatTensor<Self>) -> FloatTensor<Self> {
        in_memory_order([x, dy], |[x, dy]| {
            let dx = empty_beside(&x, x.shape());
            let vector = vector_size([&x, &dy, &dx]);
            let vectors = x.meta.num_elements() / vector;
            let cube = CubeDim::new(&x.client, vectors);
            gradient::launch(
                &x.client.clone(),
                calculate_cube_count_elemwise(&x.client, vectors, cube),
                cube,
                address_type([&x, &dy, &dx]),
                vector,
                x.clone().into_linear_view(),
                dy.into_linear_view(),
                dx.clone().into_linear_view(),
                element(&x),
            );
            dx
        })
    }
}

#[cube(launch, address_type = "dynamic")]
fn forward<F: Float, N: Size>(
    x: LinearView<'_, Vector<F, N>>,
    mut y: LinearViewMut<'_, Vector<F, N>>,
    #[define(F)] _element: ElemType,
) {
    if !y.is_in_bounds(ABSOLUTE_POS) {
        terminate!();
    }
    let x = Vector::<f32, N>::cast_from(x.read(ABSOLUTE_POS));
    let (cumulative, _density) = normal::<N>(x);
    y.write(ABSOLUTE_POS, Vector::cast_from(x * cumulative));
}

#[cube(launch, address_type = "dynamic")]
fn gradient<F: Float, N: Size>(
    x: LinearView<'_, Vector<F, N>>,
    dy: LinearView<'_, Vector<F, N>>,
    mut dx: LinearViewMut<'_, Vector<F, N>>,
    #[define(F)] _element: ElemType,
) {
    if !dx.is_in_bounds(ABSOLUTE_POS) {
        terminate!();
    }
    let x = Vector::<f32, N>::cast_from(x.read(ABSOLUTE_POS));
    let dy = Vector::<f32, N>::cast_from(dy.read(ABSOLUTE_POS));
    let (cumulative, density) = normal::<N>(x);
    dx.write(
        ABSOLUTE_POS,
        Vector::cast_from(dy * (cumulative + x * density)),
    );
}

/// Φ(x) and φ(x), as on the CPU.
#[cube]
fn normal<N: Size>(x: Vector<f32, N>) -> (Vector<f32, N>, Vector<f32, N>) {
    let one = Vector::<f32, N>::new(1.0);
    let e = (x * x * Vector::new(-0.5)).exp();
    let t = one / (one + x.abs() * Vector::new(comptime!(SCALE)));
    let mut polynomial = Vector::<f32, N>::new(comptime!(COEFFICIENTS[4]));
    #[unroll]
    for i in 1..5u32 {
        polynomial = polynomial * t + Vector::new(comptime!(COEFFICIENTS[4 - i as usize]));
    }
    let tail = polynomial * t * e * Vector::new(0.5);
    let negative = x.less_than(&Vector::new(0.0));
    let cumulative = select_many(negative, tail, one - tail);
    // 1 / √(2π)
    (cumulative, e * Vector::new(0.398_942_3))
}

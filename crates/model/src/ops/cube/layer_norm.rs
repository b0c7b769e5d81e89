//! Layer normalisation: some units beside each other share a row.

use burn::backend::TensorMetadata;
use burn::backend::tensor::FloatTensor;
use burn_cubecl::CubeBackend;
use burn_cubecl::cubecl;
use burn_cubecl::cubecl::calculate_cube_count_elemwise;
use burn_cubecl::cubecl::prelude::*;
use burn_cubecl::ops::reshape;
use burn_cubecl::tensor::CubeTensor;

use super::super::layer_norm::RowNorm;
use super::rows::{Walk, chunks, empty_f32, rows, sum_across, sum_chunks, sum_down, units};
use super::{address_type, element, empty_beside, vector_size};

impl RowNorm for CubeBackend {
    fn row_norm(
        x: FloatTensor<Self>,
        gamma: FloatTensor<Self>,
        beta: FloatTensor<Self>,
        epsilon: f64,
    ) -> FloatTensor<Self> {
        let shape = x.shape();
        let (x, gamma, beta) = (rows(x), rows(gamma), rows(beta));
        let y = empty_beside(&x, x.shape());
        let vector = vector_size([&x, &y, &gamma, &beta]);
        let share = Share::of(&x, vector);
        forward::launch(
            &x.client.clone(),
            share.cubes(&x),
            share.cube_dim(),
            address_type([&x, &y]),
            vector,
            x.clone().into_tensor_arg(),
            gamma.into_tensor_arg(),
            beta.into_tensor_arg(),
            y.clone().into_tensor_arg(),
            epsilon as f32,
            share.lanes,
            share.depth,
            element(&x),
        );
        reshape(y, shape)
    }

    fn row_norm_gradients(
        x: FloatTensor<Self>,
        gamma: FloatTensor<Self>,
        dy: FloatTensor<Self>,
        epsilon: f64,
    ) -> (FloatTensor<Self>, FloatTensor<Self>, FloatTensor<Self>) {
        let shape = x.shape();
        let (x, gamma, dy) = (rows(x), rows(gamma), rows(dy));
        let [number, channels] = x.shape().dims();
        let dx = empty_beside(&x, x.shape());
        let means = empty_f32(&x, [number]);
        let inverses = empty_f32(&x, [number]);
        let vector = vector_size([&x, &dx, &dy, &gamma]);
        let share = Share::of(&x, vector);
        input_gradient::launch(
            &x.client.clone(),
            share.cubes(&x),
            share.cube_dim(),
            address_type([&x, &dx, &dy]),
            vector,
            x.clone().into_tensor_arg(),
            gamma.into_tensor_arg(),
            dy.clone().into_tensor_arg(),
            dx.clone().into_tensor_arg(),
            means.clone().into_tensor_arg(),
            inverses.clone().into_tensor_arg(),
            epsilon as f32,
            share.lanes,
            share.depth,
            element(&x),
        );
        let walk = Walk::over(&x.client, channels / vector, 32);
        let (chunk, chunks) = chunks(number, &walk);
        let [by_gamma, by_beta] = [(); 2].map(|()| empty_f32(&x, [chunks, channels]));
        parameter_gradients::launch(
            &x.client.clone(),
            walk.cubes(chunks),
            walk.cube_dim(),
            address_type([&x, &dy]),
            vector,
            x.clone().into_tensor_arg(),
            dy.into_tensor_arg(),
            means.into_tensor_arg(),
            inverses.into_tensor_arg(),
            by_gamma.clone().into_tensor_arg(),
            by_beta.clone().into_tensor_arg(),
            chunk,
            walk.lanes,
            walk.depth,
            element(&x),
        );
        let [dgamma, dbeta] = sum_chunks(by_gamma, by_beta, vector);
        (reshape(dx, shape), dgamma, dbeta)
    }
}

/// How many units share a row, and how many rows a cube has.
struct Share {
    lanes: usize,
    depth: usize,
}

impl Share {
    fn of(x: &CubeTensor, vector: usize) -> Self {
        let units = units(&x.client);
        let [_, channels] = x.shape().dims();
        // A few vectors for each unit, and rows side by side in what the device runs in step.
        let lanes = (channels / vector).div_ceil(4).next_power_of_two();
        let lanes = lanes.min(32).min(units);
        Self {
            lanes,
            depth: units / lanes,
        }
    }

    fn cube_dim(&self) -> CubeDim {
        CubeDim::new_2d(self.lanes as u32, self.depth as u32)
    }

    fn cubes(&self, x: &CubeTensor) -> CubeCount {
        let [number, _] = x.shape().dims();
        calculate_cube_count_elemwise(&x.client, number * self.lanes, self.cube_dim())
    }
}

#[cube(launch, address_type = "dynamic")]
fn forward<F: Float, N: Size>(
    x: &Tensor<Vector<F, N>>,
    gamma: &Tensor<Vector<f32, N>>,
    beta: &Tensor<Vector<f32, N>>,
    y: &mut Tensor<Vector<F, N>>,
    epsilon: f32,
    #[comptime] lanes: usize,
    #[comptime] depth: usize,
    #[define(F)] _element: ElemType,
) {
    let size = N::value().comptime();
    let vectors = x.shape(1) / size;
    let row = CUBE_POS * depth + UNIT_POS_Y as usize;
    let inside = row < x.shape(0);
    // Units beyond the last row join the sums.
    let row = select(inside, row, 0);
    let (mean, inverse) = moments::<F, N>(x, row, epsilon, lanes, depth);
    if inside {
        let from = row * x.stride(0) / size;
        let to = row * y.stride(0) / size;
        for i in range_stepped(UNIT_POS_X as usize, vectors, lanes) {
            let normal = (Vector::<f32, N>::cast_from(x[from + i]) - mean) * inverse;
            y[to + i] = Vector::cast_from(normal * gamma[i] + beta[i]);
        }
    }
}

/// Mean and 1 / √(variance + ε) of a row. All units of the cube must come here.
#[cube]
fn moments<F: Float, N: Size>(
    x: &Tensor<Vector<F, N>>,
    row: usize,
    epsilon: f32,
    #[comptime] lanes: usize,
    #[comptime] depth: usize,
) -> (Vector<f32, N>, Vector<f32, N>) {
    let size = N::value().comptime();
    let from = row * x.stride(0) / size;
    let vectors = x.shape(1) / size;
    let channels = f32::cast_from(x.shape(1));
    let mut sum = Vector::<f32, N>::new(0.0);
    for i in range_stepped(UNIT_POS_X as usize, vectors, lanes) {
        sum += Vector::<f32, N>::cast_from(x[from + i]);
    }
    let mean = Vector::<f32, N>::new(sum_across::<N>(sum, lanes, depth) / channels);
    let mut squares = Vector::<f32, N>::new(0.0);
    for i in range_stepped(UNIT_POS_X as usize, vectors, lanes) {
        let centred = Vector::<f32, N>::cast_from(x[from + i]) - mean;
        squares += centred * centred;
    }
    let variance = sum_across::<N>(squares, lanes, depth) / channels;
    let inverse = Vector::<f32, N>::new(1.0 / (variance + epsilon).sqrt());
    (mean, inverse)
}

/// dx = (γ dy − mean (γ dy) − x̂ mean (γ dy x̂)) / deviation
#[cube(launch, address_type = "dynamic")]
fn input_gradient<F: Float, N: Size>(
    x: &Tensor<Vector<F, N>>,
    gamma: &Tensor<Vector<f32, N>>,
    dy: &Tensor<Vector<F, N>>,
    dx: &mut Tensor<Vector<F, N>>,
    means: &mut Tensor<f32>,
    inverses: &mut Tensor<f32>,
    epsilon: f32,
    #[comptime] lanes: usize,
    #[comptime] depth: usize,
    #[define(F)] _element: ElemType,
) {
    let size = N::value().comptime();
    let vectors = x.shape(1) / size;
    let channels = f32::cast_from(x.shape(1));
    let row = CUBE_POS * depth + UNIT_POS_Y as usize;
    let inside = row < x.shape(0);
    let row = select(inside, row, 0);
    let (mean, inverse) = moments::<F, N>(x, row, epsilon, lanes, depth);
    let of_x = row * x.stride(0) / size;
    let of_dy = row * dy.stride(0) / size;
    let mut sum = Vector::<f32, N>::new(0.0);
    let mut along = Vector::<f32, N>::new(0.0);
    for i in range_stepped(UNIT_POS_X as usize, vectors, lanes) {
        let g = Vector::<f32, N>::cast_from(dy[of_dy + i]) * gamma[i];
        sum += g;
        along += g * (Vector::<f32, N>::cast_from(x[of_x + i]) - mean) * inverse;
    }
    let sum = sum_across::<N>(sum, lanes, depth) / channels;
    let along = sum_across::<N>(along, lanes, depth) / channels;
    let sum = Vector::<f32, N>::new(sum);
    let along = Vector::<f32, N>::new(along);
    if inside {
        let of_dx = row * dx.stride(0) / size;
        for i in range_stepped(UNIT_POS_X as usize, vectors, lanes) {
            let g = Vector::<f32, N>::cast_from(dy[of_dy + i]) * gamma[i];
            let normal = (Vector::<f32, N>::cast_from(x[of_x + i]) - mean) * inverse;
            dx[of_dx + i] = Vector::cast_from((g - sum - normal * along) * inverse);
        }
        if UNIT_POS_X == 0 {
            means[row] = mean.extract(0usize);
            inverses[row] = inverse.extract(0usize);
        }
    }
}

/// Sums of dy x̂ and of dy over chunks of rows.
#[cube(launch, address_type = "dynamic")]
fn parameter_gradients<F: Float, N: Size>(
    x: &Tensor<Vector<F, N>>,
    dy: &Tensor<Vector<F, N>>,
    means: &Tensor<f32>,
    inverses: &Tensor<f32>,
    by_gamma: &mut Tensor<Vector<f32, N>>,
    by_beta: &mut Tensor<Vector<f32, N>>,
    chunk: usize,
    #[comptime] lanes: usize,
    #[comptime] depth: usize,
    #[define(F)] _element: ElemType,
) {
    let size = N::value().comptime();
    let vectors = x.shape(1) / size;
    let column = CUBE_POS_Y as usize * lanes + UNIT_POS_X as usize;
    let start = CUBE_POS_X as usize * chunk;
    let end = (start + chunk).min(x.shape(0));
    let mut along = Vector::<f32, N>::new(0.0);
    let mut sum = Vector::<f32, N>::new(0.0);
    if column < vectors {
        for row in range_stepped(start + UNIT_POS_Y as usize, end, depth) {
            let dy = Vector::<f32, N>::cast_from(dy[row * dy.stride(0) / size + column]);
            let x = Vector::<f32, N>::cast_from(x[row * x.stride(0) / size + column]);
            along += dy * (x - Vector::new(means[row])) * Vector::new(inverses[row]);
            sum += dy;
        }
    }
    let along = sum_down::<N>(along, lanes, depth);
    let sum = sum_down::<N>(sum, lanes, depth);
    if column < vectors && UNIT_POS_Y == 0 {
        let at = CUBE_POS_X as usize * by_gamma.stride(0) / size + column;
        by_gamma[at] = along;
        let at = CUBE_POS_X as usize * by_beta.stride(0) / size + column;
        by_beta[at] = sum;
    }
}

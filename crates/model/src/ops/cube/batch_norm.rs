//! Batch normalisation in training: units walk down the channels of the cells.

use burn::backend::TensorMetadata;
use burn::backend::tensor::FloatTensor;
use burn_cubecl::CubeBackend;
use burn_cubecl::cubecl;
use burn_cubecl::cubecl::prelude::*;

use super::super::batch_norm::TrainingNorm;
use super::rows::{Walk, chunks, empty_f32, maps_of_rows, rows_of_maps, sum_chunks, sum_down};
use super::{address_type, element, empty_beside, vector_size};

impl TrainingNorm for CubeBackend {
    fn channel_moments(x: FloatTensor<Self>) -> (FloatTensor<Self>, FloatTensor<Self>) {
        let x = rows_of_maps(x);
        let [number, channels] = x.shape().dims();
        let client = x.client.clone();
        let mean = empty_f32(&x, [channels]);
        let variance = empty_f32(&x, [channels]);
        let vector = vector_size([&x, &mean]);
        let walk = Walk::over(&client, channels / vector, 32);
        let (chunk, chunks) = chunks(number, &walk);
        let [means, squares] = [(); 2].map(|()| empty_f32(&x, [chunks, channels]));
        moments_of_chunks::launch(
            &client,
            walk.cubes(chunks),
            walk.cube_dim(),
            address_type([&x]),
            vector,
            x.clone().into_tensor_arg(),
            means.clone().into_tensor_arg(),
            squares.clone().into_tensor_arg(),
            chunk,
            walk.lanes,
            walk.depth,
            element(&x),
        );
        let walk = Walk::over(&client, channels / vector, 8);
        moments_of_all::launch(
            &client,
            walk.cubes(1),
            walk.cube_dim(),
            address_type([&means]),
            vector,
            means.into_tensor_arg(),
            squares.into_tensor_arg(),
            mean.clone().into_tensor_arg(),
            variance.clone().into_tensor_arg(),
            number,
            chunk,
            walk.lanes,
            walk.depth,
        );
        (mean, variance)
    }

    fn normalise(
        x: FloatTensor<Self>,
        gamma: FloatTensor<Self>,
        beta: FloatTensor<Self>,
        mean: FloatTensor<Self>,
        variance: FloatTensor<Self>,
        epsilon: f64,
        with_relu: bool,
    ) -> FloatTensor<Self> {
        let shape = x.shape();
        let x = rows_of_maps(x);
        let [number, channels] = x.shape().dims();
        let y = empty_beside(&x, x.shape());
        let vector = vector_size([&x, &y, &gamma]);
        let walk = Walk::over(&x.client, channels / vector, 32);
        forward::launch(
            &x.client.clone(),
            walk.cubes_down(number),
            walk.cube_dim(),
            address_type([&x, &y]),
            vector,
            x.clone().into_tensor_arg(),
            gamma.into_tensor_arg(),
            beta.into_tensor_arg(),
            mean.into_tensor_arg(),
            variance.into_tensor_arg(),
            y.clone().into_tensor_arg(),
            epsilon as f32,
            with_relu,
            walk.lanes,
            walk.depth,
            element(&x),
        );
        maps_of_rows(y, &shape)
    }

    fn normalise_gradients(
        x: FloatTensor<Self>,
        gamma: FloatTensor<Self>,
        beta: FloatTensor<Self>,
        mean: FloatTensor<Self>,
        variance: FloatTensor<Self>,
        dy: FloatTensor<Self>,
        epsilon: f64,
        with_relu: bool,
    ) -> (FloatTensor<Self>, FloatTensor<Self>, FloatTensor<Self>) {
        let shape = x.shape();
        let (x, dy) = (rows_of_maps(x), rows_of_maps(dy));
        let [number, channels] = x.shape().dims();
        let client = x.client.clone();
        let dx = empty_beside(&x, x.shape());
        let vector = vector_size([&x, &dx, &dy, &gamma]);
        let walk = Walk::over(&client, channels / vector, 32);
        let (chunk, chunks) = chunks(number, &walk);
        let [by_gamma, by_beta] = [(); 2].map(|()| empty_f32(&x, [chunks, channels]));
        parameter_gradients::launch(
            &client,
            walk.cubes(chunks),
            walk.cube_dim(),
            address_type([&x, &dy]),
            vector,
            x.clone().into_tensor_arg(),
            gamma.clone().into_tensor_arg(),
            beta.clone().into_tensor_arg(),
            mean.clone().into_tensor_arg(),
            variance.clone().into_tensor_arg(),
            dy.clone().into_tensor_arg(),
            by_gamma.clone().into_tensor_arg(),
            by_beta.clone().into_tensor_arg(),
            epsilon as f32,
            chunk,
            with_relu,
            walk.lanes,
            walk.depth,
            element(&x),
        );
        let [dgamma, dbeta] = sum_chunks(by_gamma, by_beta, vector);
        input_gradient::launch(
            &client,
            walk.cubes_down(number),
            walk.cube_dim(),
            address_type([&x, &dx, &dy]),
            vector,
            x.clone().into_tensor_arg(),
            gamma.into_tensor_arg(),
            beta.into_tensor_arg(),
            mean.into_tensor_arg(),
            variance.into_tensor_arg(),
            dy.into_tensor_arg(),
            dgamma.clone().into_tensor_arg(),
            dbeta.clone().into_tensor_arg(),
            dx.clone().into_tensor_arg(),
            epsilon as f32,
            with_relu,
            walk.lanes,
            walk.depth,
            element(&x),
        );
        (maps_of_rows(dx, &shape), dgamma, dbeta)
    }
}

/// Mean, and sum of squared distances from it, of every channel in each chunk of rows (Chan et al. 1983, "Algorithms for computing the
/// sample variance"): of the rows of a unit, as distances from their first one, then of the units of a cube.
#[cube(launch, address_type = "dynamic")]
fn moments_of_chunks<F: Float, N: Size>(
    x: &Tensor<Vector<F, N>>,
    means: &mut Tensor<Vector<f32, N>>,
    squares: &mut Tensor<Vector<f32, N>>,
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
    let first = start + UNIT_POS_Y as usize;
    let mut count = 0.0f32;
    let mut mean = Vector::<f32, N>::new(0.0);
    let mut square = Vector::<f32, N>::new(0.0);
    if column < vectors && first < end {
        let shift = Vector::<f32, N>::cast_from(x[first * x.stride(0) / size + column]);
        for row in range_stepped(first, end, depth) {
            let distance =
                Vector::<f32, N>::cast_from(x[row * x.stride(0) / size + column]) - shift;
            mean += distance;
            square += distance * distance;
            count += 1.0;
        }
        mean /= Vector::new(count);
        square -= mean * mean * Vector::new(count);
        mean += shift;
    }
    let (mean, square) = combined::<N>(
        mean,
        square,
        count,
        f32::cast_from(end - start),
        lanes,
        depth,
    );
    if column < vectors && UNIT_POS_Y == 0 {
        let at = CUBE_POS_X as usize * means.stride(0) / size + column;
        means[at] = mean;
        let at = CUBE_POS_X as usize * squares.stride(0) / size + column;
        squares[at] = square;
    }
}

/// Mean and sum of squared distances from it of the numbers of the units one below another, given those of each, the count of each and
/// that of all. All units of the cube must come here.
#[cube]
fn combined<N: Size>(
    mean: Vector<f32, N>,
    square: Vector<f32, N>,
    count: f32,
    all: f32,
    #[comptime] lanes: usize,
    #[comptime] depth: usize,
) -> (Vector<f32, N>, Vector<f32, N>) {
    let count = Vector::<f32, N>::new(count);
    let of_all = sum_down::<N>(mean * count, lanes, depth) / Vector::new(all);
    let distance = mean - of_all;
    let square = sum_down::<N>(square + count * distance * distance, lanes, depth);
    (of_all, square)
}

/// Mean and variance of every channel from those of the chunks.
#[cube(launch, address_type = "dynamic")]
fn moments_of_all<N: Size>(
    means: &Tensor<Vector<f32, N>>,
    squares: &Tensor<Vector<f32, N>>,
    mean: &mut Tensor<Vector<f32, N>>,
    variance: &mut Tensor<Vector<f32, N>>,
    rows: usize,
    chunk: usize,
    #[comptime] lanes: usize,
    #[comptime] depth: usize,
) {
    let size = N::value().comptime();
    let vectors = means.shape(1) / size;
    let column = CUBE_POS_Y as usize * lanes + UNIT_POS_X as usize;
    // First those of the unit's chunks.
    let mut count = 0.0f32;
    let mut own = Vector::<f32, N>::new(0.0);
    let mut square = Vector::<f32, N>::new(0.0);
    if column < vectors {
        for i in range_stepped(UNIT_POS_Y as usize, means.shape(0), depth) {
            let number = f32::cast_from(chunk.min(rows - i * chunk));
            let distance = means[i * means.stride(0) / size + column] - own;
            let together = count + number;
            own += distance * Vector::new(number / together);
            square += squares[i * squares.stride(0) / size + column]
                + distance * distance * Vector::new(count * number / together);
            count = together;
        }
    }
    let rows = f32::cast_from(rows);
    let (of_all, square) = combined::<N>(own, square, count, rows, lanes, depth);
    if column < vectors && UNIT_POS_Y == 0 {
        mean[column] = of_all;
        variance[column] = square / Vector::new(rows);
    }
}

#[cube(launch, address_type = "dynamic")]
fn forward<F: Float, N: Size>(
    x: &Tensor<Vector<F, N>>,
    gamma: &Tensor<Vector<f32, N>>,
    beta: &Tensor<Vector<f32, N>>,
    mean: &Tensor<Vector<f32, N>>,
    variance: &Tensor<Vector<f32, N>>,
    y: &mut Tensor<Vector<F, N>>,
    epsilon: f32,
    #[comptime] with_relu: bool,
    #[comptime] lanes: usize,
    #[comptime] depth: usize,
    #[define(F)] _element: ElemType,
) {
    let size = N::value().comptime();
    let column = CUBE_POS_Y as usize * lanes + UNIT_POS_X as usize;
    if column < x.shape(1) / size {
        let mean = mean[column];
        let scale = gamma[column] * inverse_deviation::<N>(variance[column], epsilon);
        let beta = beta[column];
        let first = CUBE_POS_X as usize * depth + UNIT_POS_Y as usize;
        for row in range_stepped(first, x.shape(0), CUBE_COUNT_X as usize * depth) {
            let x = Vector::<f32, N>::cast_from(x[row * x.stride(0) / size + column]);
            let value = (x - mean) * scale + beta;
            let value = if comptime!(with_relu) {
                // NaN is kept, as by burn's ReLU.
                let zero = Vector::<f32, N>::new(0.0);
                select_many(value.less_than(&zero), zero, value)
            } else {
                value
            };
            let at = row * y.stride(0) / size + column;
            y[at] = Vector::cast_from(value);
        }
    }
}

/// 1 / √(variance + ε)
#[cube]
fn inverse_deviation<N: Size>(variance: Vector<f32, N>, epsilon: f32) -> Vector<f32, N> {
    Vector::<f32, N>::new(1.0) / (variance + Vector::new(epsilon)).sqrt()
}

/// The gradient before the ReLU: that of cells whose output is above 0.
#[cube]
fn masked<N: Size>(
    dy: Vector<f32, N>,
    before: Vector<f32, N>,
    #[comptime] with_relu: bool,
) -> Vector<f32, N> {
    if comptime!(with_relu) {
        let zero = Vector::<f32, N>::new(0.0);
        select_many(before.greater_than(&zero), dy, zero)
    } else {
        dy
    }
}

/// Sums of dy x̂ and of dy over chunks of rows.
#[cube(launch, address_type = "dynamic")]
fn parameter_gradients<F: Float, N: Size>(
    x: &Tensor<Vector<F, N>>,
    gamma: &Tensor<Vector<f32, N>>,
    beta: &Tensor<Vector<f32, N>>,
    mean: &Tensor<Vector<f32, N>>,
    variance: &Tensor<Vector<f32, N>>,
    dy: &Tensor<Vector<F, N>>,
    by_gamma: &mut Tensor<Vector<f32, N>>,
    by_beta: &mut Tensor<Vector<f32, N>>,
    epsilon: f32,
    chunk: usize,
    #[comptime] with_relu: bool,
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
        let mean = mean[column];
        let inverse = inverse_deviation::<N>(variance[column], epsilon);
        let scale = gamma[column] * inverse;
        let beta = beta[column];
        for row in range_stepped(start + UNIT_POS_Y as usize, end, depth) {
            let centred = Vector::<f32, N>::cast_from(x[row * x.stride(0) / size + column]) - mean;
            let dy = Vector::<f32, N>::cast_from(dy[row * dy.stride(0) / size + column]);
            let dy = masked::<N>(dy, centred * scale + beta, with_relu);
            along += dy * (centred * inverse);
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

/// dx = γ / deviation · (dy − mean dy − x̂ · mean (x̂ dy))
#[cube(launch, address_type = "dynamic")]
fn input_gradient<F: Float, N: Size>(
    x: &Tensor<Vector<F, N>>,
    gamma: &Tensor<Vector<f32, N>>,
    beta: &Tensor<Vector<f32, N>>,
    mean: &Tensor<Vector<f32, N>>,
    variance: &Tensor<Vector<f32, N>>,
    dy: &Tensor<Vector<F, N>>,
    dgamma: &Tensor<Vector<f32, N>>,
    dbeta: &Tensor<Vector<f32, N>>,
    dx: &mut Tensor<Vector<F, N>>,
    epsilon: f32,
    #[comptime] with_relu: bool,
    #[comptime] lanes: usize,
    #[comptime] depth: usize,
    #[define(F)] _element: ElemType,
) {
    let size = N::value().comptime();
    let column = CUBE_POS_Y as usize * lanes + UNIT_POS_X as usize;
    if column < x.shape(1) / size {
        let rows = Vector::<f32, N>::new(f32::cast_from(x.shape(0)));
        let mean = mean[column];
        let inverse = inverse_deviation::<N>(variance[column], epsilon);
        let scale = gamma[column] * inverse;
        let beta = beta[column];
        let mean_dy = dbeta[column] / rows;
        let slope = dgamma[column] / rows * inverse;
        let first = CUBE_POS_X as usize * depth + UNIT_POS_Y as usize;
        for row in range_stepped(first, x.shape(0), CUBE_COUNT_X as usize * depth) {
            let centred = Vector::<f32, N>::cast_from(x[row * x.stride(0) / size + column]) - mean;
            let dy = Vector::<f32, N>::cast_from(dy[row * dy.stride(0) / size + column]);
            let dy = masked::<N>(dy, centred * scale + beta, with_relu);
            let value = scale * (dy - mean_dy - centred * slope);
            let at = row * dx.stride(0) / size + column;
            dx[at] = Vector::cast_from(value);
        }
    }
}

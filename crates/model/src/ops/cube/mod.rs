//! Kernels for CUDA, Vulkan and WebGPU, in CubeCL: one source, compiled for its device at run time. They compute in f32 whatever the
//! tensors' type.
//!
//! A map that burn shows as `[batch, channel, row, column]` mostly lies in memory as `[batch, row, column, channel]`, rows of channels
//! filled up to what the device reads best. Kernels read tensors by their strides and keep such orders, so that nothing is copied.

mod batch_norm;
mod bilinear;
mod depthwise;
mod gelu;
mod layer_norm;
mod rows;

use burn::backend::cubecl::dtype_to_storage_type;
use burn::backend::{DispatchDevice, TensorMetadata};
use burn::tensor::{DType, Shape, Tensor};
use burn_cubecl::cubecl::ir::{AddressType, ElemType};
use burn_cubecl::cubecl::prelude::VectorSize;
use burn_cubecl::cubecl::tensor_vector_size_parallel;
use burn_cubecl::kernel::into_contiguous_aligned;
use burn_cubecl::ops::numeric::empty_device_dtype;
use burn_cubecl::ops::{permute, permute_nchw_to_nhwc};
use burn_cubecl::tensor::CubeTensor;

/// Whether this is a tensor for these kernels, with autodiff or without: on their devices, and of a type that f32 does not narrow.
pub(super) fn is_float<const D: usize>(tensor: &Tensor<D>) -> bool {
    let device = tensor.device();
    let on_cube = match device.as_dispatch() {
        DispatchDevice::Autodiff(device) => matches!(**device, DispatchDevice::Cube(_)),
        device => matches!(device, DispatchDevice::Cube(_)),
    };
    on_cube && matches!(tensor.dtype(), DType::F32 | DType::F16 | DType::BF16)
}

/// The type of a tensor's numbers, as kernels take it.
fn element(tensor: &CubeTensor) -> ElemType {
    dtype_to_storage_type(tensor.dtype)
}

/// A new tensor of another shape beside this one, its numbers not set.
fn empty_beside(tensor: &CubeTensor, shape: Shape) -> CubeTensor {
    empty_of(tensor, shape, tensor.dtype)
}

/// A new tensor of another shape and type beside this one, its numbers not set.
fn empty_of(tensor: &CubeTensor, shape: Shape, dtype: DType) -> CubeTensor {
    empty_device_dtype(tensor.client.clone(), tensor.device.clone(), shape, dtype)
}

/// The numbers of an index that reaches every number of these tensors.
fn address_type<const N: usize>(tensors: [&CubeTensor; N]) -> AddressType {
    let types = tensors.map(|tensor| tensor.required_address_type());
    types.into_iter().max().unwrap_or_default()
}

/// Neighbours along the last axis that one instruction moves, in each of these tensors.
fn vector_size<const N: usize>(tensors: [&CubeTensor; N]) -> VectorSize {
    let sizes = tensors.map(|tensor| {
        tensor_vector_size_parallel(
            tensor.client.io_optimized_vector_sizes(tensor.dtype.size()),
            tensor.meta.shape(),
            tensor.meta.strides(),
            tensor.meta.num_dims() - 1,
        )
    });
    sizes.into_iter().min().unwrap_or(1)
}

/// Maps `[batch, channel, row, column]` as `[batch, row, column, channel]`, copied only if channels are not neighbours in memory.
fn channels_last(maps: CubeTensor) -> CubeTensor {
    let maps = permute_nchw_to_nhwc(maps);
    match maps.meta.shape()[3] == 1 || maps.meta.strides()[3] == 1 {
        true => maps,
        false => into_contiguous_aligned(maps),
    }
}

/// What `run` makes, number by number, of tensors of one shape, whose axes it is given in the order of the first one's memory.
fn in_memory_order<const N: usize>(
    tensors: [CubeTensor; N],
    run: impl FnOnce([CubeTensor; N]) -> CubeTensor,
) -> CubeTensor {
    let strides = tensors[0].meta.strides();
    let shape = tensors[0].shape();
    let mut axes: Vec<usize> = (0..shape.num_dims()).collect();
    // Axes of one number go first: their strides say nothing.
    axes.sort_by_key(|axis| match shape[*axis] {
        1 => (0, 0),
        _ => (1, usize::MAX - strides[*axis]),
    });
    let mut back = vec![0; axes.len()];
    for (place, axis) in axes.iter().enumerate() {
        back[*axis] = place;
    }
    permute(run(tensors.map(|tensor| permute(tensor, &axes))), &back)
}

/// The first device of the GPU backend that the tests were built for.
#[cfg(test)]
pub(crate) fn test_device() -> burn::tensor::Device {
    use burn::tensor::{Device, DeviceType};
    #[cfg(feature = "cuda")]
    let kind = DeviceType::Cuda;
    #[cfg(all(feature = "vulkan", not(feature = "cuda")))]
    let kind = DeviceType::Vulkan;
    #[cfg(not(any(feature = "cuda", feature = "vulkan")))]
    let kind = DeviceType::Wgpu;
    let devices = Device::enumerate(kind);
    devices.iter().next().expect("a GPU").clone()
}

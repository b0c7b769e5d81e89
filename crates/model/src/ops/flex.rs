//! Between burn's tensors on the flex backend and slices.

use burn::backend::tensor::FloatTensor;
use burn::backend::{DispatchDevice, Flex};
use burn::tensor::{DType, Tensor, TensorData};

/// Whether this is a tensor on the flex backend, with autodiff or without.
pub(super) fn is_on_flex<const D: usize>(tensor: &Tensor<D>) -> bool {
    let device = tensor.device();
    match device.as_dispatch() {
        DispatchDevice::Autodiff(device) => matches!(**device, DispatchDevice::Flex(_)),
        device => matches!(device, DispatchDevice::Flex(_)),
    }
}

/// Whether this is an f32 tensor on the flex backend, with autodiff or without.
pub(super) fn is_f32<const D: usize>(tensor: &Tensor<D>) -> bool {
    is_on_flex(tensor) && tensor.dtype() == DType::F32
}

/// The tensor in its own order in memory.
pub(super) fn contiguous(tensor: FloatTensor<Flex>) -> FloatTensor<Flex> {
    tensor.to_contiguous()
}

/// The numbers of a contiguous f32 tensor.
pub(super) fn slice(tensor: &FloatTensor<Flex>) -> &[f32] {
    tensor
        .as_slice()
        .expect("contiguous f32, as checked before")
}

/// A tensor of these numbers.
pub(super) fn tensor(numbers: Vec<f32>, shape: Vec<usize>) -> FloatTensor<Flex> {
    FloatTensor::<Flex>::from_data(TensorData::new(numbers, shape))
}

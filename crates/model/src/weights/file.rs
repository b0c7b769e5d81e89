//! Reading `.pth` and `.safetensors` files.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use burn::tensor::{DType, TensorData};
use burn_store::pytorch_reader::{self, PytorchReader};
use safetensors::{Dtype, SafeTensors};

use super::WeightsError;

/// The tensors of a file by name; their values are read when they are used.
#[derive(Debug)]
pub struct WeightsFile {
    path: PathBuf,
    pub(super) tensors: BTreeMap<String, StoredTensor>,
}

/// A tensor in a file.
#[derive(Debug)]
pub struct StoredTensor {
    /// Shape in PyTorch's layout.
    pub shape: Vec<usize>,
    /// Name of the element type, such as `F32`.
    pub dtype: String,
    /// The element type, where it is one of floats.
    float: Option<DType>,
    source: Source,
}

#[derive(Debug)]
enum Source {
    /// Bytes from one position to another of a safetensors file.
    Safetensors(Arc<Vec<u8>>, [usize; 2]),
    Pytorch(pytorch_reader::Tensor),
}

impl WeightsFile {
    /// Opens a safetensors file or a checkpoint of PyTorch, whichever it is by its content.
    ///
    /// # Errors
    /// [`WeightsError::Read`] where it is neither, or damaged.
    pub fn open(path: &Path) -> Result<Self, WeightsError> {
        let error = |reason: String| WeightsError::Read {
            path: path.to_owned(),
            reason,
        };
        let start = first_bytes(path).map_err(|e| error(format!("cannot read: {e}")))?;
        // A safetensors file begins with the length of its header, a JSON object.
        let tensors = if start.get(8) == Some(&b'{') {
            safetensors(path).map_err(|e| error(format!("damaged safetensors file: {e}")))?
        } else if start.is_empty() {
            return Err(error("empty".into()));
        } else {
            pytorch(path).map_err(|e| {
                let reason = e.to_string().replace('\n', " ");
                error(format!(
                    "neither a safetensors file nor a whole checkpoint of PyTorch ({reason})"
                ))
            })?
        };
        if tensors.is_empty() {
            return Err(error("holds no tensors".into()));
        }
        Ok(Self {
            path: path.to_owned(),
            tensors,
        })
    }

    /// Where the file is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The tensors by name.
    pub fn tensors(&self) -> &BTreeMap<String, StoredTensor> {
        &self.tensors
    }

    /// The values of a tensor as f32.
    pub(super) fn values(
        &self,
        name: &str,
        tensor: &StoredTensor,
    ) -> Result<Vec<f32>, WeightsError> {
        tensor.values().map_err(|reason| WeightsError::Read {
            path: self.path.clone(),
            reason: format!("tensor {name}: {reason}"),
        })
    }
}

impl StoredTensor {
    fn values(&self) -> Result<Vec<f32>, String> {
        let float = self
            .float
            .ok_or_else(|| format!("{} is no element type for weights", self.dtype))?;
        let bytes = match &self.source {
            Source::Safetensors(file, [start, end]) => file[*start..*end].to_vec(),
            Source::Pytorch(tensor) => tensor.read().map_err(|e| e.to_string())?,
        };
        let data = TensorData::try_from_bytes_vec(bytes, self.shape.clone(), float);
        let values = data.and_then(|data| data.try_into_vec_as::<f32>());
        let values = values.map_err(|e| format!("{e:?}"))?;
        match values.iter().all(|value| value.is_finite()) {
            true => Ok(values),
            false => Err("holds values that are not finite".into()),
        }
    }
}

fn first_bytes(path: &Path) -> std::io::Result<Vec<u8>> {
    use std::io::Read;
    let mut bytes = Vec::new();
    std::fs::File::open(path)?.take(9).read_to_end(&mut bytes)?;
    Ok(bytes)
}

type Tensors = BTreeMap<String, StoredTensor>;

fn safetensors(path: &Path) -> Result<Tensors, Box<dyn std::error::Error>> {
    let bytes = Arc::new(std::fs::read(path)?);
    let tensors = SafeTensors::deserialize(&bytes)?;
    let tensors = tensors.iter().map(|(name, view)| {
        let start = view.data().as_ptr() as usize - bytes.as_ptr() as usize;
        let float = match view.dtype() {
            Dtype::F64 => Some(DType::F64),
            Dtype::F32 => Some(DType::F32),
            Dtype::F16 => Some(DType::F16),
            Dtype::BF16 => Some(DType::BF16),
            _ => None,
        };
        let tensor = StoredTensor {
            shape: view.shape().to_vec(),
            dtype: view.dtype().to_string(),
            float,
            source: Source::Safetensors(Arc::clone(&bytes), [start, start + view.data().len()]),
        };
        (name.to_owned(), tensor)
    });
    Ok(tensors.collect())
}

fn pytorch(path: &Path) -> Result<Tensors, pytorch_reader::PytorchError> {
    let tensors = PytorchReader::new(path)?.into_tensors().into_iter();
    let tensors = tensors.map(|(name, tensor)| {
        let float = match tensor.dtype() {
            pytorch_reader::DType::F64 => Some(DType::F64),
            pytorch_reader::DType::F32 => Some(DType::F32),
            pytorch_reader::DType::F16 => Some(DType::F16),
            pytorch_reader::DType::BF16 => Some(DType::BF16),
            _ => None,
        };
        let stored = StoredTensor {
            shape: tensor.shape().to_vec(),
            dtype: format!("{:?}", tensor.dtype()),
            float,
            source: Source::Pytorch(tensor),
        };
        (name, stored)
    });
    Ok(tensors.collect())
}

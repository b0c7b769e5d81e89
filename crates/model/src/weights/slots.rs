//! The values of a network by their paths.

use burn::module::{Module, ModuleVisitor, Param, ParamId};
use burn::tensor::{Tensor, TensorData};

/// One parameter or running statistic.
pub(super) struct Slot {
    pub id: ParamId,
    /// Names of the fields on the way to it, `gamma` and `beta` of a normalisation as PyTorch's `weight` and `bias`.
    pub path: Vec<String>,
    /// Shape in PyTorch's layout.
    pub shape: Vec<usize>,
    /// Weight of a linear layer: stored as `[in, out]` here, as `[out, in]` there.
    pub transposed: bool,
    /// Values in PyTorch's layout; empty unless asked for.
    pub values: Vec<f32>,
}

impl Slot {
    /// The path with dots.
    pub fn name(&self) -> String {
        self.path.join(".")
    }

    /// The path as the tables of names want it.
    pub fn segments(&self) -> Vec<&str> {
        self.path.iter().map(String::as_str).collect()
    }
}

/// All of them, in the order of the fields, with values if `read`.
pub(super) fn slots<M: Module>(model: &M, read: bool) -> Vec<Slot> {
    let mut collector = Collector {
        read,
        path: Vec::new(),
        slots: Vec::new(),
    };
    model.visit(&mut collector);
    collector.slots
}

/// A matrix of `shape` with its axes exchanged.
pub(super) fn transposed(values: &[f32], [rows, columns]: [usize; 2]) -> Vec<f32> {
    let columns_first = (0..columns).flat_map(|c| (0..rows).map(move |r| r * columns + c));
    columns_first.map(|i| values[i]).collect()
}

struct Collector {
    read: bool,
    /// Fields on the way, each with the type that holds it.
    path: Vec<(String, String)>,
    slots: Vec<Slot>,
}

impl ModuleVisitor for Collector {
    fn enter_module(&mut self, name: &str, container_type: &str) {
        self.path.push((name.to_owned(), container_type.to_owned()));
    }

    fn exit_module(&mut self, _name: &str, _container_type: &str) {
        self.path.pop();
    }

    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        let container = self.path.last().map(|(_, container)| container.as_str());
        let mut path: Vec<String> = self.path.iter().map(|(name, _)| name.clone()).collect();
        if let (Some("Struct:BatchNorm" | "Struct:LayerNorm"), Some(field)) =
            (container, path.last_mut())
        {
            match field.as_str() {
                "gamma" => *field = "weight".into(),
                "beta" => *field = "bias".into(),
                _ => {}
            }
        }
        let mut shape = param.lazy_shape().to_vec();
        let transposed = container == Some("Struct:Linear") && D == 2;
        let mut values = Vec::new();
        if self.read {
            let data: TensorData = param.val().into_data();
            values = data
                .try_into_vec_as()
                .expect("a float parameter holds floats");
            if transposed {
                values = self::transposed(&values, [shape[0], shape[1]]);
            }
        }
        if transposed {
            shape.reverse();
        }
        self.slots.push(Slot {
            id: param.id,
            path,
            shape,
            transposed,
            values,
        });
    }
}

//! From a file into a network.

use std::collections::{BTreeSet, HashMap};
use std::fmt;
use std::path::PathBuf;

use burn::module::{Module, ModuleMapper, Param, ParamId};
use burn::tensor::{Tensor, TensorData};

use super::names::{Family, Modules, Name, encoder_path};
use super::slots::{Slot, slots, transposed};
use super::{WeightsError, WeightsFile};

/// What became of the tensors of a file. [`fmt::Display`] prints it in a few lines.
#[derive(Debug, Clone, PartialEq)]
pub struct Report {
    /// The file.
    pub path: PathBuf,
    /// Whose names its tensors have.
    pub family: Family,
    /// Tensors of the network that were replaced, and the values in them.
    pub applied: [usize; 2],
    /// The input's channels in the file and in the network, where they differ.
    pub adapted: Option<[usize; 2]>,
    /// Tensors of the network that the file does not have; they stay as they were.
    pub missing: Vec<String>,
    /// Tensors of another shape outside of the encoder; they stay as they were.
    pub mismatched: Vec<Mismatch>,
    /// Tensors of the file that the network does not have.
    pub skipped: Vec<String>,
}

/// A tensor whose shape is another in the file.
#[derive(Debug, Clone, PartialEq)]
pub struct Mismatch {
    /// The network's tensor.
    pub parameter: String,
    /// Its shape in PyTorch's layout.
    pub ours: Vec<usize>,
    /// Shape in the file.
    pub theirs: Vec<usize>,
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        let [tensors, values] = self.applied;
        write!(
            f,
            "{}: names of {}; applied {tensors} tensors, {:.2} M values",
            self.path.display(),
            self.family,
            values as f64 / 1e6
        )?;
        if let Some([theirs, ours]) = self.adapted {
            write!(
                f,
                "\n  first convolution: from {theirs} to {ours} input channels"
            )?;
        }
        let list = |f: &mut fmt::Formatter, what: &str, names: &[String]| match names {
            [] => Ok(()),
            [first, .., last] if names.len() > 4 => {
                write!(f, "\n  {what}: {} tensors, {first} to {last}", names.len())
            }
            _ => write!(f, "\n  {what}: {}", names.join(", ")),
        };
        list(f, "missing in the file, left as they were", &self.missing)?;
        for Mismatch {
            parameter,
            ours,
            theirs,
        } in &self.mismatched
        {
            write!(
                f,
                "\n  left as it was: {parameter} is {ours:?}, in the file {theirs:?}"
            )?;
        }
        list(f, "skipped, the network has no such tensor", &self.skipped)
    }
}

/// Buffers that PyTorch keeps in its state and that follow from the network.
const BUFFERS: [&str; 3] = [
    "num_batches_tracked",
    "relative_position_index",
    "attn_mask",
];

impl WeightsFile {
    /// Puts the tensors of the file into `model`, by the names of the family that knows most of them. The first convolution is
    /// adapted to the network's input channels as timm does it: their sum for one channel, else repeated over the channels
    /// and scaled by 3 / n.
    ///
    /// # Errors
    /// See [`WeightsError`]; the model is lost then, but no clone of it is changed.
    pub fn load_into<M: Module>(&self, model: M) -> Result<(M, Report), WeightsError> {
        let slots = slots(&model, false);
        let modules = Modules::of(&slots);
        let (family, prefix) = self.recognise(&slots, &modules)?;
        let mut report = Report {
            path: self.path().to_owned(),
            family,
            applied: [0, 0],
            adapted: None,
            missing: Vec::new(),
            mismatched: Vec::new(),
            skipped: Vec::new(),
        };
        let stem = slots
            .iter()
            .position(|s| encoder_path(&s.segments()).is_some());
        let mut used = BTreeSet::new();
        let mut values = HashMap::new();
        for (i, slot) in slots.iter().enumerate() {
            let name = family.name(&slot.segments(), &slot.shape, &modules);
            let name = name.map(|name| format!("{prefix}{}", name.text));
            let found = name.and_then(|name| self.tensors.get_key_value(&name));
            let Some((name, tensor)) = found else {
                report.missing.push(slot.name());
                continue;
            };
            used.insert(name.as_str());
            let (ours, theirs) = (&slot.shape, &tensor.shape);
            let adapted = Some(i) == stem && adaptable(ours, theirs);
            if !adapted && !same_but_ones(ours, theirs) {
                if encoder_path(&slot.segments()).is_some() {
                    return Err(WeightsError::OtherNetwork {
                        path: self.path().to_owned(),
                        name: name.clone(),
                        theirs: theirs.clone(),
                        ours: ours.clone(),
                    });
                }
                report.mismatched.push(Mismatch {
                    parameter: slot.name(),
                    ours: ours.clone(),
                    theirs: theirs.clone(),
                });
                continue;
            }
            let mut read = self.values(name, tensor)?;
            if adapted {
                report.adapted = Some([theirs[1], ours[1]]);
                read = adapt_input_channels(&read, theirs, ours[1]);
            }
            if slot.transposed {
                read = transposed(&read, [ours[0], ours[1]]);
            }
            report.applied[0] += 1;
            report.applied[1] += read.len();
            values.insert(slot.id, read);
        }
        let unused = self.tensors.keys().filter(|name| {
            let buffer = BUFFERS.iter().any(|buffer| name.ends_with(buffer));
            !used.contains(name.as_str()) && !buffer
        });
        report.skipped = unused.cloned().collect();
        Ok((model.map(&mut Loader { values }), report))
    }

    /// The family that names most of the network's tensors in this file, and what its names stand behind there.
    fn recognise(
        &self,
        slots: &[Slot],
        modules: &Modules,
    ) -> Result<(Family, String), WeightsError> {
        let mut best: Option<(usize, Family, String)> = None;
        for family in Family::ALL {
            let names = slots
                .iter()
                .map(|s| family.name(&s.segments(), &s.shape, modules));
            let names: Vec<Name> = names.flatten().collect();
            let Some(first) = names.first() else {
                continue;
            };
            // Training scripts put their networks behind such as `state_dict.` and `module.`.
            let prefixes = self.tensors.keys().filter_map(|name| {
                let prefix = name.strip_suffix(&first.text)?;
                (prefix.is_empty() || prefix.ends_with('.')).then_some(prefix)
            });
            for prefix in prefixes {
                let found = names
                    .iter()
                    .filter(|name| self.tensors.contains_key(&format!("{prefix}{}", name.text)))
                    .count();
                if best.as_ref().is_none_or(|(most, ..)| found > *most) {
                    best = Some((found, family, prefix.to_owned()));
                }
            }
        }
        let (_, family, prefix) = best.ok_or_else(|| {
            let first: Vec<&str> = self.tensors.keys().take(3).map(String::as_str).collect();
            WeightsError::UnknownNames {
                path: self.path().to_owned(),
                first: first.join(", "),
            }
        })?;
        Ok((family, prefix))
    }
}

/// Equal but for axes of length 1.
fn same_but_ones(a: &[usize], b: &[usize]) -> bool {
    let longer =
        |shape: &[usize]| -> Vec<usize> { shape.iter().copied().filter(|n| *n != 1).collect() };
    longer(a) == longer(b)
}

/// Whether these are weights of one convolution on another number of channels than the 3 of a picture.
fn adaptable(ours: &[usize], theirs: &[usize]) -> bool {
    match (ours, theirs) {
        ([n, c, rest @ ..], [m, 3, their_rest @ ..]) => *c != 3 && n == m && rest == their_rest,
        _ => false,
    }
}

/// timm's `adapt_input_conv`.
fn adapt_input_channels(values: &[f32], shape: &[usize], channels: usize) -> Vec<f32> {
    let taps: usize = shape[2..].iter().product();
    let filters = values.chunks(shape[1] * taps);
    let adapted = filters.flat_map(|filter| {
        let channel = |c: usize| &filter[c * taps..(c + 1) * taps];
        let of_channel = move |c: usize| -> Vec<f32> {
            match channels {
                1 => (0..taps)
                    .map(|t| (0..3).map(|i| channel(i)[t]).sum())
                    .collect(),
                _ => {
                    let scale = 3.0 / channels as f32;
                    channel(c % 3).iter().map(|v| v * scale).collect()
                }
            }
        };
        (0..channels).flat_map(of_channel)
    });
    adapted.collect()
}

/// Puts values in PyTorch's or burn's layout, as burn has it, in place of those of a network.
struct Loader {
    values: HashMap<ParamId, Vec<f32>>,
}

impl ModuleMapper for Loader {
    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        let Some(values) = self.values.remove(&param.id) else {
            return param;
        };
        let (id, device) = (param.id, param.lazy_device());
        let data = TensorData::new(values, param.lazy_shape());
        param.transform_for_load(Tensor::from_data(data, &device), id)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn input_channels_as_timm() {
        // Two filters of 3 channels with one tap of two: timm.models._manipulate.adapt_input_conv's results.
        let values: Vec<f32> = (1..=12).map(|v| v as f32).collect();
        let shape = [2, 3, 1, 2];
        assert_eq!(
            adapt_input_channels(&values, &shape, 1),
            [9.0, 12.0, 27.0, 30.0]
        );
        let four = adapt_input_channels(&values, &shape, 4);
        assert_eq!(four[..8], [0.75, 1.5, 2.25, 3.0, 3.75, 4.5, 0.75, 1.5]);
        let two = adapt_input_channels(&values, &shape, 2);
        assert_eq!(two[..4], [1.5, 3.0, 4.5, 6.0]);
    }
}

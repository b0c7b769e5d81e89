//! Recording of a forward pass.
//!
//! The layers of this crate call [`layer`] around their arithmetic and [`scope`] where their forward pass begins. Both do nothing of
//! their own unless a recording runs on the thread. Then each output is replaced by a constant of the layer's own, its tag, and so the
//! next layer's input says where it comes from: crops, permutations and copies hand tags on, and arithmetic that nobody recorded
//! makes a number that is no tag, which ends the recording with an error. A summary therefore shows what the network does, or none.

use std::cell::RefCell;
use std::collections::HashMap;

use burn::module::{Module, ModuleVisitor, Param, ParamId};
use burn::tensor::Tensor;

use super::SummaryError;

/// What a layer is.
pub(crate) struct Kind {
    /// Keras' name of the type, such as `Conv2D`.
    pub name: &'static str,
    /// Its parameters and running statistics.
    pub params: Vec<ParamId>,
    /// Multiply-adds for each value of the output.
    pub per_output: usize,
    /// Multiply-adds for each value of the inputs.
    pub per_input: usize,
}

impl Kind {
    /// A layer without parameters or multiply-adds worth counting.
    pub fn plain(name: &'static str) -> Self {
        Self {
            name,
            params: Vec::new(),
            per_output: 0,
            per_input: 0,
        }
    }

    /// The same with the parameters of this module.
    pub fn of<M: Module>(mut self, module: &M) -> Self {
        let mut params = Params::default();
        module.visit(&mut params);
        self.params = params.found.iter().map(|found| found.id).collect();
        self
    }
}

/// `run(inputs)`, as a layer of the recording if one is running. What `run` itself consists of is not recorded.
pub(crate) fn layer<const D: usize, const E: usize>(
    kind: impl FnOnce() -> Kind,
    inputs: Vec<Tensor<D>>,
    run: impl FnOnce(Vec<Tensor<D>>) -> Tensor<E>,
) -> Tensor<E> {
    let Some(mut recorder) = RECORDER.take() else {
        return run(inputs);
    };
    let kind = kind();
    let input_values: usize = inputs.iter().map(|x| x.shape().num_elements()).sum();
    let sources: Vec<Tags> = inputs.iter().map(Tags::of).collect();
    let y = run(inputs);
    let shape = y.shape();
    let macs = kind.per_output * shape.num_elements() + kind.per_input * input_values;
    let tag = recorder.add(kind, sources, shape.to_vec(), macs);
    RECORDER.set(Some(recorder));
    Tensor::full(shape, tag, &y.device())
}

/// [`layer`] of one input.
pub(crate) fn unary<const D: usize, const E: usize>(
    kind: impl FnOnce() -> Kind,
    x: Tensor<D>,
    run: impl FnOnce(Tensor<D>) -> Tensor<E>,
) -> Tensor<E> {
    layer(kind, vec![x], |mut inputs| run(inputs.remove(0)))
}

/// Layers without parameters belong to `module` as long as what this returns lives.
#[must_use]
pub(crate) fn scope<M: Module>(module: &M) -> Scope {
    let open = RECORDER.with_borrow_mut(|recorder| {
        let Some(recorder) = recorder else {
            return false;
        };
        let mut params = Params::default();
        module.visit(&mut params);
        let path = recorder.place(params.found.iter().map(|found| &found.id));
        recorder.scopes.push(path);
        true
    });
    Scope { open }
}

/// See [`scope`].
pub(crate) struct Scope {
    open: bool,
}

impl Drop for Scope {
    fn drop(&mut self) {
        if self.open {
            RECORDER.with_borrow_mut(|recorder| {
                recorder.as_mut().map(|recorder| recorder.scopes.pop());
            });
        }
    }
}

thread_local! {
    static RECORDER: RefCell<Option<Recorder>> = const { RefCell::new(None) };
}

/// A layer as it was recorded.
pub(super) struct Recorded {
    /// Modules on the way to it, outermost first, and its own name.
    pub path: Vec<String>,
    pub kind: &'static str,
    pub shape: Vec<usize>,
    pub trainable: usize,
    pub running: usize,
    pub macs: usize,
    /// Layers whose outputs it takes, by their places in the recording.
    pub inputs: Vec<usize>,
}

/// Records `run` on inputs of the given shapes.
pub(super) fn record<M: Module>(
    model: &M,
    inputs: &[[usize; 4]],
    run: impl FnOnce(Vec<Tensor<4>>),
) -> Result<Vec<Recorded>, SummaryError> {
    let mut params = Params::default();
    model.visit(&mut params);
    let device = model.devices().first().cloned().unwrap_or_default();
    let mut recorder = Recorder {
        params: params
            .found
            .into_iter()
            .map(|found| (found.id, found))
            .collect(),
        layers: Vec::new(),
        scopes: Vec::new(),
        problem: None,
    };
    let inputs = inputs.iter().map(|shape| {
        let tag = recorder.add(Kind::plain("InputLayer"), Vec::new(), shape.to_vec(), 0);
        Tensor::full(*shape, tag, &device)
    });
    let inputs = inputs.collect();
    // Ends the recording also where `run` panics.
    struct End;
    impl Drop for End {
        fn drop(&mut self) {
            RECORDER.take();
        }
    }
    RECORDER.set(Some(recorder));
    let end = End;
    run(inputs);
    let recorder = RECORDER.take();
    drop(end);
    let recorder = recorder.unwrap_or_else(|| unreachable!("each layer puts the recorder back"));
    if let Some(problem) = recorder.problem {
        return Err(problem);
    }
    let unused = recorder.params.values().filter(|param| !param.counted);
    match unused.map(|param| param.path.join(".")).min() {
        Some(parameter) => Err(SummaryError::Unused { parameter }),
        None => Ok(recorder.layers),
    }
}

struct Recorder {
    params: HashMap<ParamId, FoundParam>,
    layers: Vec<Recorded>,
    scopes: Vec<Vec<String>>,
    problem: Option<SummaryError>,
}

impl Recorder {
    /// Notes a layer and gives its tag.
    fn add(&mut self, kind: Kind, sources: Vec<Tags>, shape: Vec<usize>, macs: usize) -> f32 {
        let mut path = self.place(kind.params.iter());
        if kind.params.is_empty() {
            path = self.scopes.last().cloned().unwrap_or_default();
            path.push(self.free_name(&path, &snake_case(kind.name)));
        } else if self.layers.iter().any(|layer| layer.path == path) {
            // A layer that is used twice.
            let name = path.pop().unwrap_or_default();
            path.push(self.free_name(&path, &name));
        }
        let [mut trainable, mut running] = [0, 0];
        for id in &kind.params {
            if let Some(param) = self.params.get_mut(id).filter(|param| !param.counted) {
                param.counted = true;
                let count = if param.running {
                    &mut running
                } else {
                    &mut trainable
                };
                *count += param.values;
            }
        }
        let mut inputs: Vec<usize> = Vec::new();
        for Tags(tags) in sources {
            let known = tags.iter().map(|tag| self.index(*tag));
            match known.collect::<Option<Vec<usize>>>() {
                Some(known) if !known.is_empty() => inputs.extend(known),
                _ if self.problem.is_none() => {
                    self.problem = Some(SummaryError::Unrecorded {
                        layer: path.join("."),
                    });
                }
                _ => {}
            }
        }
        self.layers.push(Recorded {
            path,
            kind: kind.name,
            shape,
            trainable,
            running,
            macs,
            inputs,
        });
        tag(self.layers.len() - 1)
    }

    /// The layer with this tag.
    fn index(&self, value: f32) -> Option<usize> {
        let candidates = 0..self.layers.len();
        candidates.rev().find(|index| tag(*index) == value)
    }

    /// The innermost module that holds all these parameters.
    fn place<'a>(&self, mut params: impl Iterator<Item = &'a ParamId>) -> Vec<String> {
        let module = |id: &ParamId| {
            let path = &self.params.get(id)?.path;
            Some(&path[..path.len() - 1])
        };
        let first = params.next().and_then(module).unwrap_or_default();
        let common = params.filter_map(module).fold(first, |common, path| {
            let pairs = common.iter().zip(path);
            &common[..pairs.take_while(|(a, b)| a == b).count()]
        });
        common.to_vec()
    }

    /// `name`, numbered if the module already has a layer of that name.
    fn free_name(&self, module: &[String], name: &str) -> String {
        let taken = |name: &str| {
            self.layers.iter().any(|layer| {
                layer
                    .path
                    .split_last()
                    .is_some_and(|(last, rest)| last == name && rest == module)
            })
        };
        let numbered = (1..).map(|i| format!("{name}_{i}"));
        let mut names = std::iter::once(name.to_owned()).chain(numbered);
        names.find(|name| !taken(name)).unwrap_or_default()
    }
}

/// The constant that stands for layer `index`: one of 2²³ numbers in [1, 2), far from those of its neighbours.
fn tag(index: usize) -> f32 {
    let scattered = (index as u32 + 1).wrapping_mul(0x9E37_79B1) >> 9;
    f32::from_bits(0x3F80_0000 | scattered)
}

/// The different values of a tensor but zero, which pads.
struct Tags(Vec<f32>);

impl Tags {
    fn of<const D: usize>(x: &Tensor<D>) -> Self {
        let values = x.to_data().try_into_vec_as::<f32>();
        let mut tags: Vec<f32> = Vec::new();
        for value in values.unwrap_or_default() {
            // More than a few different ones are no tags.
            if value != 0.0 && tags.last() != Some(&value) && !tags.contains(&value) {
                tags.push(value);
                if tags.len() > 64 {
                    break;
                }
            }
        }
        Self(tags)
    }
}

/// `GlobalAveragePooling2D` → `global_average_pooling2d`.
fn snake_case(name: &str) -> String {
    let mut snake = String::new();
    let mut after_lower = false;
    for c in name.chars() {
        if c.is_ascii_uppercase() && after_lower {
            snake.push('_');
        }
        after_lower = c.is_ascii_lowercase();
        snake.push(c.to_ascii_lowercase());
    }
    snake
}

struct FoundParam {
    id: ParamId,
    /// Fields on the way to it; elements of a list are one with it, as `blocks.2`, and variants of an enum are left out.
    path: Vec<String>,
    values: usize,
    running: bool,
    counted: bool,
}

#[derive(Default)]
struct Params {
    path: Vec<String>,
    found: Vec<FoundParam>,
}

impl ModuleVisitor for Params {
    fn enter_module(&mut self, name: &str, container_type: &str) {
        match (container_type, self.path.last_mut()) {
            ("Vec" | "Array" | "Tuple", Some(list)) => *list = format!("{list}.{name}"),
            _ => self.path.push(name.to_owned()),
        }
        if container_type.starts_with("Enum:") {
            self.path.pop();
        }
    }

    fn exit_module(&mut self, _name: &str, container_type: &str) {
        match (container_type, self.path.last_mut()) {
            ("Vec" | "Array" | "Tuple", Some(list)) => {
                list.truncate(list.rfind('.').unwrap_or(list.len()));
            }
            _ if container_type.starts_with("Enum:") => {}
            _ => {
                self.path.pop();
            }
        }
    }

    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        let field = self.path.last().map(String::as_str);
        self.found.push(FoundParam {
            id: param.id,
            running: matches!(field, Some("running_mean" | "running_var")),
            path: self.path.clone(),
            values: param.lazy_shape().num_elements(),
            counted: false,
        });
    }
}

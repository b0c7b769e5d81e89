//! Where the tensors live: `--device auto|cuda[:i]|vulkan[:i]|wgpu[:i]|cpu`.

use std::fmt;
use std::str::FromStr;

use burn::tensor::Device;
#[cfg(any(feature = "vulkan", feature = "wgpu"))]
use burn::tensor::DeviceKind;
#[cfg(any(feature = "cuda", feature = "vulkan", feature = "wgpu"))]
use burn::tensor::DeviceType;
use serde::{Deserialize, Serialize};

/// What the user asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub enum DeviceChoice {
    /// The best that is present: CUDA, then a Vulkan GPU, then one of wgpu, then the CPU.
    #[default]
    Auto,
    /// The i-th CUDA device.
    Cuda(usize),
    /// The i-th Vulkan device.
    Vulkan(usize),
    /// The i-th device that wgpu offers.
    Wgpu(usize),
    /// The pure Rust CPU backend.
    Cpu,
}

/// Why no device could be given.
#[derive(Debug, thiserror::Error)]
pub enum DeviceError {
    /// The word is not a device.
    #[error("`{0}` is no device: choose auto, cuda[:i], vulkan[:i], wgpu[:i] or cpu")]
    Unknown(String),
    /// The backend was left out of this build.
    #[error(
        "device `{choice}` asked for, but this program was built without it; build with `cargo run --release --features {feature} --bin train`"
    )]
    NotCompiled {
        /// What was asked for.
        choice: DeviceChoice,
        /// The Cargo feature that has it.
        feature: &'static str,
    },
    /// The backend is there, the device is not.
    #[error(
        "device `{choice}` asked for, but {found} such device(s) are present (is its driver installed?)"
    )]
    Absent {
        /// What was asked for.
        choice: DeviceChoice,
        /// How many devices the backend sees.
        found: usize,
    },
    /// No backend at all, or GPU backends alone and no GPU.
    #[error(
        "no device is present that this program was built for; build it with `--features flex` (CPU), `cuda`, `vulkan` or `wgpu`"
    )]
    NoBackend,
}

impl FromStr for DeviceChoice {
    type Err = DeviceError;

    fn from_str(text: &str) -> Result<Self, DeviceError> {
        let unknown = || DeviceError::Unknown(text.to_string());
        let (name, index) = match text.split_once(':') {
            Some((name, index)) => (name, index.parse().map_err(|_| unknown())?),
            None => (text, 0),
        };
        match (name, text.contains(':')) {
            ("auto", false) => Ok(Self::Auto),
            ("cpu", false) => Ok(Self::Cpu),
            ("cuda", _) => Ok(Self::Cuda(index)),
            ("vulkan", _) => Ok(Self::Vulkan(index)),
            ("wgpu", _) => Ok(Self::Wgpu(index)),
            _ => Err(unknown()),
        }
    }
}

impl fmt::Display for DeviceChoice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Auto => write!(f, "auto"),
            Self::Cpu => write!(f, "cpu"),
            Self::Cuda(i) => write!(f, "cuda:{i}"),
            Self::Vulkan(i) => write!(f, "vulkan:{i}"),
            Self::Wgpu(i) => write!(f, "wgpu:{i}"),
        }
    }
}

impl From<DeviceChoice> for String {
    fn from(choice: DeviceChoice) -> Self {
        choice.to_string()
    }
}

impl TryFrom<String> for DeviceChoice {
    type Error = DeviceError;

    fn try_from(text: String) -> Result<Self, DeviceError> {
        text.parse()
    }
}

/// A device that is present, and how it came to be chosen.
#[derive(Debug, Clone)]
pub struct Chosen {
    /// The device, without autodiff.
    pub device: Device,
    /// What it is: `cuda:0`, `cpu`, never `auto`.
    pub choice: DeviceChoice,
    /// One line for the log: which device and why.
    pub reason: String,
}

/// The devices that a backend sees, or `None` where the backend is not compiled in.
///
/// burn enumerates without a driver, but some driver stacks panic on the way: that counts as "none present".
fn present(choice: DeviceChoice) -> Option<Vec<Device>> {
    #[cfg(any(feature = "cuda", feature = "vulkan", feature = "wgpu"))]
    fn list(kind: DeviceType) -> Option<Vec<Device>> {
        let hook = std::panic::take_hook();
        std::panic::set_hook(Box::new(|_| {}));
        let found = std::panic::catch_unwind(|| Device::enumerate(kind).iter().cloned().collect());
        std::panic::set_hook(hook);
        Some(found.unwrap_or_default())
    }
    match choice {
        #[cfg(feature = "cuda")]
        DeviceChoice::Cuda(_) => list(DeviceType::Cuda),
        #[cfg(feature = "vulkan")]
        DeviceChoice::Vulkan(_) => list(DeviceType::Vulkan),
        #[cfg(feature = "wgpu")]
        DeviceChoice::Wgpu(_) => list(DeviceType::Wgpu),
        #[cfg(feature = "flex")]
        DeviceChoice::Cpu => Some(vec![Device::flex()]),
        _ => None,
    }
}

impl DeviceChoice {
    /// The Cargo feature that compiles this device in.
    fn feature(self) -> &'static str {
        match self {
            Self::Auto | Self::Cpu => "flex",
            Self::Cuda(_) => "cuda",
            Self::Vulkan(_) => "vulkan",
            Self::Wgpu(_) => "wgpu",
        }
    }

    fn index(self) -> usize {
        match self {
            Self::Cuda(i) | Self::Vulkan(i) | Self::Wgpu(i) => i,
            Self::Auto | Self::Cpu => 0,
        }
    }

    /// The device that this choice means on this machine.
    ///
    /// # Errors
    /// The backend is not compiled in, or it sees no such device.
    pub fn resolve(self) -> Result<Chosen, DeviceError> {
        if self == Self::Auto {
            return best_present();
        }
        let Some(devices) = present(self) else {
            return Err(DeviceError::NotCompiled {
                choice: self,
                feature: self.feature(),
            });
        };
        match devices.get(self.index()) {
            Some(device) => Ok(Chosen {
                device: device.clone(),
                choice: self,
                reason: format!("{self}, as asked for"),
            }),
            None => Err(DeviceError::Absent {
                choice: self,
                found: devices.len(),
            }),
        }
    }
}

/// The best device that is present, and a reason that tells a GPU owner what is missing.
fn best_present() -> Result<Chosen, DeviceError> {
    let mut passed_over = Vec::new();
    for choice in [
        DeviceChoice::Cuda(0),
        DeviceChoice::Vulkan(0),
        DeviceChoice::Wgpu(0),
        DeviceChoice::Cpu,
    ] {
        // A device made of software (llvmpipe, SwiftShader) runs only when asked for by name: the CPU backend is faster.
        let devices = present(choice).map(|mut devices| {
            devices.retain(|device| !is_software(choice, device));
            devices
        });
        match devices.as_deref() {
            Some([device, ..]) => {
                let why = if choice == DeviceChoice::Cpu && passed_over.is_empty() {
                    without_gpu_backend(gpu_nodes())
                } else if passed_over.is_empty() {
                    "the best device present".to_string()
                } else {
                    format!("no {} device present", passed_over.join(" or "))
                };
                return Ok(Chosen {
                    device: device.clone(),
                    choice,
                    reason: format!("{choice} ({why})"),
                });
            }
            Some([]) => passed_over.push(choice.feature()),
            None => {}
        }
    }
    Err(DeviceError::NoBackend)
}

/// True for a Vulkan or wgpu device that a library plays on the CPU.
#[cfg_attr(
    not(any(feature = "vulkan", feature = "wgpu")),
    allow(unused_variables)
)]
fn is_software(choice: DeviceChoice, device: &Device) -> bool {
    match choice {
        #[cfg(feature = "vulkan")]
        DeviceChoice::Vulkan(_) => *device == Device::vulkan(DeviceKind::Cpu),
        #[cfg(feature = "wgpu")]
        DeviceChoice::Wgpu(_) => *device == Device::wgpu(DeviceKind::Cpu),
        _ => false,
    }
}

/// What to say when only the CPU backend is compiled in.
fn without_gpu_backend(gpu: Option<&'static str>) -> String {
    match gpu {
        Some(feature) => format!(
            "a GPU is present, but this program was built for the CPU only: `cargo run --release --features {feature} --bin train` uses it"
        ),
        None => "the only backend in this build, and no GPU was seen".to_string(),
    }
}

/// The feature that would use a GPU of this machine, judged by the driver's device nodes.
fn gpu_nodes() -> Option<&'static str> {
    if std::path::Path::new("/dev/nvidia0").exists() {
        Some("cuda")
    } else if std::path::Path::new("/dev/dri/renderD128").exists() {
        Some("vulkan")
    } else {
        None
    }
}

/// Whether the device is this processor: an operation is done when its call returns, so that reading a result costs nothing.
pub fn is_host(device: &Device) -> bool {
    #[cfg(feature = "flex")]
    return device.clone().inner() == Device::flex();
    #[cfg(not(feature = "flex"))]
    {
        let _ = device;
        false
    }
}

/// Tells burn which backend its few uses of a default device should take: without this a build with CUDA would touch
/// CUDA (and panic without a driver) while it loads an optimizer's state on the CPU.
///
/// Call it first in `main`, before any thread exists.
pub fn set_default_backend(choice: DeviceChoice) {
    let name = match choice {
        DeviceChoice::Auto => return,
        DeviceChoice::Cpu => "flex",
        DeviceChoice::Cuda(_) => "cuda",
        DeviceChoice::Vulkan(_) => "vulkan",
        DeviceChoice::Wgpu(_) => "wgpu",
    };
    // SAFETY: the callers are the first lines of `main`, before this program starts a thread. Looking for GPUs may have
    // started threads of a driver; none of burn's reads the environment at that time.
    #[allow(unsafe_code)]
    unsafe {
        std::env::set_var("BURN_DEVICE", name);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_round_trip() {
        for name in ["auto", "cpu", "cuda:0", "cuda:3", "vulkan:1", "wgpu:0"] {
            assert_eq!(name.parse::<DeviceChoice>().unwrap().to_string(), name);
        }
        assert_eq!(
            "cuda".parse::<DeviceChoice>().unwrap(),
            DeviceChoice::Cuda(0)
        );
        for bad in ["gpu", "cuda:x", "cpu:1", "auto:0", ""] {
            assert!(bad.parse::<DeviceChoice>().is_err(), "{bad}");
        }
    }

    #[test]
    #[cfg(not(any(feature = "cuda", feature = "vulkan", feature = "wgpu")))]
    fn a_cpu_build_says_what_it_lacks() {
        let error = DeviceChoice::Cuda(0).resolve().unwrap_err().to_string();
        assert!(error.contains("--features cuda"), "{error}");
        let chosen = DeviceChoice::Auto.resolve().unwrap();
        assert_eq!(chosen.choice, DeviceChoice::Cpu);
        assert!(without_gpu_backend(Some("vulkan")).contains("--features vulkan"));
    }

    #[test]
    #[cfg(feature = "wgpu")]
    fn software_is_told_from_a_gpu() {
        let choice = DeviceChoice::Wgpu(0);
        assert!(is_software(choice, &Device::wgpu(DeviceKind::Cpu)));
        let gpu = Device::wgpu(DeviceKind::DiscreteGpu(0));
        assert!(!is_software(choice, &gpu));
    }
}

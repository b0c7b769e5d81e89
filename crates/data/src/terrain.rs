//! Terrain: synthetic relief, resampling of real rasters, and how water flows over it.

pub mod flow;
pub mod ponds;
pub mod synthetic;

pub use flow::FlowTree;
pub use synthetic::TerrainConfig;

//! Every sample of a dataset, shard by shard in parallel, in constant memory.

use rayon::prelude::*;

use crate::dataset::Dataset;
use crate::error::{DataError, Result};
use crate::record::ShardReader;

/// Told the size in bytes of every shard that is done, from any thread.
pub type Tick<'a> = dyn Fn(u64) + Sync + 'a;

/// What `read` makes of each of the `shards` (indices into [`Dataset::shards`]), in their order.
///
/// # Errors
/// When a shard cannot be opened, and those of `read`.
pub fn scan_shards<T: Send>(
    dataset: &Dataset,
    shards: &[usize],
    tick: &Tick,
    read: impl Fn(usize, ShardReader) -> Result<T> + Sync,
) -> Result<Vec<T>> {
    shards
        .par_iter()
        .map(|&shard| {
            let path = &dataset.shards[shard].path;
            let size = std::fs::metadata(path)
                .map_err(|e| DataError::io("read", path, e))?
                .len();
            let result = read(shard, ShardReader::open(path, &dataset.metadata)?)?;
            tick(size);
            Ok(result)
        })
        .collect()
}

/// Size in bytes of the `shards` together: what the ticks of [`scan_shards`] add up to.
///
/// # Errors
/// When a shard is not there.
pub fn bytes(dataset: &Dataset, shards: &[usize]) -> Result<u64> {
    let size = |&shard: &usize| {
        let path = &dataset.shards[shard].path;
        Ok(std::fs::metadata(path)
            .map_err(|e| DataError::io("read", path, e))?
            .len())
    };
    shards.iter().map(size).sum()
}

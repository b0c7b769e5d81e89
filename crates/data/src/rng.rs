//! Named random streams from one seed.

use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use sha2::{Digest, Sha256};

/// The random stream `name` of `seed`: independent of every other name, the same on every machine.
pub fn stream(seed: u64, name: &str) -> ChaCha8Rng {
    let mut hash = Sha256::new();
    hash.update(seed.to_le_bytes());
    hash.update(name.as_bytes());
    ChaCha8Rng::from_seed(hash.finalize().into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::Rng;

    #[test]
    fn streams_differ_by_seed_and_name_only() {
        let first = |seed, name| stream(seed, name).next_u64();
        assert_eq!(first(1, "rain"), first(1, "rain"));
        assert_ne!(first(1, "rain"), first(1, "terrain"));
        assert_ne!(first(1, "rain"), first(2, "rain"));
    }
}

//! What the benchmarks share.

/// The largest amount of memory that this process has held so far, in bytes; `None` where the system does not say.
pub fn peak_memory_bytes() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find(|line| line.starts_with("VmHWM:"))?;
    let kib: u64 = line.split_whitespace().nth(1)?.parse().ok()?;
    Some(kib * 1024)
}

/// Name of this machine's processor, `CPU` where the system does not say.
pub fn processor_name() -> String {
    let text = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let line = text.lines().find(|line| line.starts_with("model name"));
    let name = line.and_then(|line| line.split_once(':'));
    name.map_or("CPU", |(_, name)| name.trim()).to_owned()
}

/// Versions of this workspace and of burn, as they were built.
pub fn versions() -> String {
    const LOCK: &str = include_str!("../../Cargo.lock");
    let burn = LOCK.split_once("name = \"burn\"\nversion = \"");
    let burn = burn.and_then(|(_, rest)| rest.split('"').next());
    format!(
        "pluvial {} burn {}",
        env!("CARGO_PKG_VERSION"),
        burn.unwrap_or("?")
    )
}

#[cfg(test)]
mod tests {
    #[test]
    fn burn_has_a_version() {
        let versions = super::versions();
        let (_, burn) = versions.split_once(" burn ").unwrap();
        assert!(burn.starts_with("0."), "{versions}");
    }
}

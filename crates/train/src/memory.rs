//! What a program that makes and frees large tensors all the time asks of the system's allocator.

/// Keeps freed memory in the process instead of handing it back to the system.
///
/// A training step frees most of what it allocates, and the next one allocates the same again. glibc gives large blocks back at once, so that
/// every page is mapped, faulted in and cleared anew in each step: a third of a step's time for a ResNet-50 on two cores of a virtual
/// machine. Call it before the first tensor; elsewhere than on glibc it does nothing.
pub fn keep_freed_memory() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    // SAFETY: mallopt only sets parameters of the allocator, under its own lock. A value that a version of glibc refuses changes nothing.
    #[allow(unsafe_code)]
    unsafe {
        libc::mallopt(libc::M_MMAP_THRESHOLD, i32::MAX);
        libc::mallopt(libc::M_TRIM_THRESHOLD, i32::MAX);
    }
}

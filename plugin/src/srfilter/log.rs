//! The debug category, and locking.

use std::sync::{LazyLock, Mutex, MutexGuard, PoisonError};

/// The debug category of the element.
pub(super) static CAT: LazyLock<gst::DebugCategory> = LazyLock::new(|| {
    gst::DebugCategory::new(
        "srfilter",
        gst::DebugColorFlags::empty(),
        Some("Neural super-resolution"),
    )
});

/// Locks a mutex whose data stays valid if a thread panics: the panic becomes
/// an element error, not a second panic.
pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

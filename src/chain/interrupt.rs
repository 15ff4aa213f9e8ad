//! Requests to stop a computation.

use crate::{Error, Result};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// A request to stop the computation of a frame, shared between the thread that
/// computes and one that cannot wait for it. Copies are the same request.
#[derive(Debug, Clone, Default)]
pub struct Interrupt(Arc<AtomicBool>);

impl Interrupt {
    /// Stops the current computation and all later ones, until
    /// [`Interrupt::withdraw`].
    pub fn request(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    /// Lets later computations run.
    pub fn withdraw(&self) {
        self.0.store(false, Ordering::Relaxed);
    }

    /// Whether computations are to stop.
    pub fn is_requested(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }

    /// Fails if computations are to stop.
    pub(crate) fn check(&self) -> Result<()> {
        match self.is_requested() {
            true => Err(Error::Interrupted),
            false => Ok(()),
        }
    }

    /// Whether both are the same request.
    pub(crate) fn is(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

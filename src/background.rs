//! Work that gives way to the computation of frames.
//!
//! Schedulers do not see that the threads of a frame wait for each other: one that
//! shares a core with other work, be its priority ever so low, doubles the frame's
//! time until they are balanced anew, which Linux does after some 30 ms.

use std::cell::Cell;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// How long work waits for frames in all: it also ends where they leave no pause.
const PATIENCE: Duration = Duration::from_secs(1);

/// Frames that are being computed in this process.
static FRAMES: Mutex<usize> = Mutex::new(0);
static NO_FRAME: Condvar = Condvar::new();

thread_local! {
    static IN_BACKGROUND: Cell<bool> = const { Cell::new(false) };
    /// How long the work of this thread may still wait.
    static PATIENCE_LEFT: Cell<Duration> = const { Cell::new(Duration::ZERO) };
}

fn frames() -> MutexGuard<'static, usize> {
    FRAMES.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A frame that is being computed.
pub(crate) struct RunningFrame(());

impl RunningFrame {
    pub(crate) fn begin() -> Self {
        *frames() += 1;
        Self(())
    }
}

impl Drop for RunningFrame {
    fn drop(&mut self) {
        let mut frames = frames();
        *frames -= 1;
        if *frames == 0 {
            NO_FRAME.notify_all();
        }
    }
}

/// Does work that takes pauses while frames are computed, for a second at most in all:
/// loading a [`Model`](crate::Model), building an [`Upscaler`](crate::Upscaler) and warming
/// it up while another one is busy. The work must run on the calling thread alone.
pub fn in_background<T>(work: impl FnOnce() -> T) -> T {
    struct Restore(bool, Duration);
    impl Drop for Restore {
        fn drop(&mut self) {
            IN_BACKGROUND.set(self.0);
            PATIENCE_LEFT.set(self.1);
        }
    }
    let _restore = Restore(IN_BACKGROUND.replace(true), PATIENCE_LEFT.replace(PATIENCE));
    work()
}

/// Whether the calling thread works in the background.
pub(crate) fn is_in_background() -> bool {
    IN_BACKGROUND.get()
}

/// Waits while frames are computed, if the calling thread works in the background. To be
/// called every few milliseconds of work that takes longer.
pub(crate) fn give_way() {
    let left = PATIENCE_LEFT.get();
    if left.is_zero() {
        return;
    }
    let start = Instant::now();
    let waited = NO_FRAME.wait_timeout_while(frames(), left, |frames| *frames > 0);
    drop(waited);
    PATIENCE_LEFT.set(left.saturating_sub(start.elapsed()));
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::thread::{scope, sleep};

    const PAUSE: Duration = Duration::from_millis(200);

    fn time(work: impl FnOnce()) -> Duration {
        let start = Instant::now();
        work();
        start.elapsed()
    }

    // One test: the frames are the process's.
    #[test]
    fn background_work_waits_for_frames_for_a_limited_time() {
        let frame = RunningFrame::begin();
        assert!(time(give_way) < PAUSE, "only work in the background waits");
        scope(|threads| {
            let worker = threads.spawn(|| time(|| in_background(give_way)));
            sleep(PAUSE);
            let second = RunningFrame::begin();
            drop(frame);
            sleep(PAUSE);
            drop(second);
            let waited = worker.join().unwrap();
            assert!(waited >= 2 * PAUSE && waited < PATIENCE, "{waited:?}");
        });
        let _frame = RunningFrame::begin();
        let patience = time(|| in_background(|| (0..3).for_each(|_| give_way())));
        assert!(
            patience >= PATIENCE && patience < 2 * PATIENCE,
            "{patience:?}"
        );
        assert!(time(give_way) < PAUSE, "the work is done");
    }
}

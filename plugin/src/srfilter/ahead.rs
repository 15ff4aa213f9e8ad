//! Frames in flight on the CPU: upscalers that share their weights compute frames at the
//! same time, so that the tasks of one fill the cores that another leaves idle.

use srfilter::engine::Upscaler;
use std::collections::VecDeque;
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

/// The frames in flight, and upscalers for more.
#[derive(Default)]
pub(super) struct FramesAhead {
    /// Idle upscalers besides the state's.
    spares: Vec<Upscaler>,
    /// The results of the frames in flight, oldest first. Nothing comes if it panicked.
    pending: VecDeque<Receiver<Done>>,
}

/// A frame that was computed, or failed.
pub(super) struct Done {
    pub(super) upscaler: Upscaler,
    pub(super) output: srfilter::Result<gst::Buffer>,
    pub(super) took: Duration,
}

impl FramesAhead {
    pub(super) fn len(&self) -> usize {
        self.pending.len()
    }

    /// An idle upscaler: a spare, up to `depth` of which are built on demand, else `main`,
    /// which is idle if no more than `depth` frames are in flight.
    ///
    /// # Errors
    ///
    /// Too little memory for one more.
    pub(super) fn lend(
        &mut self,
        main: &mut Option<Upscaler>,
        depth: usize,
    ) -> srfilter::Result<Option<Upscaler>> {
        if let Some(spare) = self.spares.pop() {
            return Ok(Some(spare));
        }
        match main {
            Some(upscaler) if self.pending.len() < depth => {
                upscaler.warm_up();
                let mut spare = upscaler.try_clone(self.pending.len() + 2)?;
                spare.warm_up();
                Ok(Some(spare))
            }
            _ => Ok(main.take()),
        }
    }

    /// Starts a frame with an idle upscaler.
    ///
    /// # Errors
    ///
    /// As [`Upscaler::spawn`].
    pub(super) fn start(
        &mut self,
        upscaler: Upscaler,
        work: impl FnOnce(&mut Upscaler) -> srfilter::Result<gst::Buffer> + Send + 'static,
    ) -> srfilter::Result<()> {
        let (sender, receiver) = channel();
        upscaler.spawn(move |mut upscaler| {
            let started = Instant::now();
            let output = work(&mut upscaler);
            // Fails if nobody waits for it any more.
            let _ = sender.send(Done {
                upscaler,
                output,
                took: started.elapsed(),
            });
        })?;
        self.pending.push_back(receiver);
        Ok(())
    }

    /// The oldest frame in flight.
    pub(super) fn pop(&mut self) -> Option<Receiver<Done>> {
        self.pending.pop_front()
    }

    /// Takes back an upscaler that is idle again.
    pub(super) fn give_back(&mut self, main: &mut Option<Upscaler>, upscaler: Upscaler) {
        match main {
            None => *main = Some(upscaler),
            Some(_) => self.spares.push(upscaler),
        }
    }

    /// Frames go through other upscalers from now on; none is in flight.
    pub(super) fn forget_upscalers(&mut self) {
        self.spares.clear();
    }
}

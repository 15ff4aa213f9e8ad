//! Frames that go out one later, so that a GPU is at work with one while the
//! next is taken to it and the one before is fetched.

use super::{CAT, Infos, SrFilter, lock, video};
use gst::prelude::*;
use gst_base::prelude::*;
use gst_base::subclass::base_transform::{
    GenerateOutputSuccess, InputBuffer, PrepareOutputBufferSuccess,
};
use gst_base::subclass::prelude::*;
use gst_video::VideoFrameRef;
use std::collections::VecDeque;

/// The frames at work.
#[derive(Debug, Default)]
pub(super) struct Waiting {
    /// Whether frames go out one later now.
    active: bool,
    /// What came in and did not go out yet, the oldest first.
    frames: VecDeque<gst::Buffer>,
}

/// Frames at work before the first goes out.
const AT_WORK: usize = 2;

impl SrFilter {
    /// Decides, for what was negotiated.
    pub(super) fn decide_overlap(&self, possible: bool) {
        let active = possible && lock(&self.settings).overlap;
        let mut waiting = lock(&self.waiting);
        let changes = waiting.active != active;
        waiting.active = active;
        drop(waiting);
        lock(&self.stats).overlap = active;
        if changes {
            let message = gst::message::Latency::builder().src(&*self.obj());
            // Without a bus there is nobody to tell.
            let _ = self.obj().post_message(message.build());
        }
    }

    /// Asks upstream's pool for the buffers that are kept at work.
    pub(super) fn ask_for_more(&self, query: &mut gst::query::Allocation) {
        let wanted = lock(&self.settings).overlap;
        let offered = query.allocation_pools().next().filter(|_| wanted);
        if let Some((pool, size, least, most)) = offered {
            let least = least + AT_WORK as u32;
            query.set_nth_allocation_pool(0, pool.as_ref(), size, least, most);
        }
    }

    /// The time by which frames go out later.
    pub(super) fn delay(&self) -> Option<gst::ClockTime> {
        let active = lock(&self.waiting).active;
        let (from, _) = lock(&self.infos).clone().filter(|_| active)?;
        let (frames, seconds) = (from.fps().numer(), from.fps().denom());
        // A rate that varies is 0/1.
        let frames = u64::try_from(frames).ok().filter(|&frames| frames > 0)?;
        gst::ClockTime::SECOND.mul_div_floor(seconds.try_into().ok()?, frames)
    }

    /// The output of the frame before the one that was submitted, or of that
    /// one where frames do not overlap.
    pub(super) fn next_output(&self) -> Result<GenerateOutputSuccess, gst::FlowError> {
        if !lock(&self.waiting).active {
            // Those that a GPU had begun before it was lost.
            self.push_waiting()?;
            return self.parent_generate_output();
        }
        let Some(inbuf) = self.take_queued_buffer() else {
            return Ok(GenerateOutputSuccess::NoOutput);
        };
        let (from, _) = self.negotiated()?;
        let begun = {
            let frame = readable(&inbuf, &from)?;
            self.enlarge(|upscaler| {
                let shape = upscaler.spec().input;
                upscaler.submit(&video::frame_ref(&frame, &shape)?)
            })?
        };
        if begun {
            let mut waiting = lock(&self.waiting);
            waiting.frames.push_back(inbuf);
            let full = waiting.frames.len() >= AT_WORK;
            drop(waiting);
            let made = full.then(|| self.finish_first()).transpose()?.flatten();
            return Ok(made.map_or(
                GenerateOutputSuccess::NoOutput,
                GenerateOutputSuccess::Buffer,
            ));
        }
        // The GPU is gone, or has no memory for two.
        self.push_waiting()?;
        self.decide_overlap(false);
        let mut outbuf = self.room(&inbuf)?;
        self.transform(&inbuf, outbuf.make_mut())?;
        Ok(GenerateOutputSuccess::Buffer(outbuf))
    }

    /// Sends all frames that are at work on their way: before anything that
    /// must not overtake them.
    pub(super) fn push_waiting(&self) -> Result<(), gst::FlowError> {
        while let Some(outbuf) = self.finish_first()? {
            self.obj().src_pad().push(outbuf)?;
        }
        Ok(())
    }

    /// As [`SrFilter::push_waiting`] where nobody takes an error: the next
    /// buffer will meet it again.
    pub(super) fn flush_waiting(&self) {
        if let Err(error) = self.push_waiting() {
            gst::debug!(CAT, imp = self, "frames at work went nowhere: {error}");
            self.drop_waiting();
        }
    }

    /// Forgets the frames that are at work.
    pub(super) fn drop_waiting(&self) {
        lock(&self.waiting).frames.clear();
        let mut state = lock(&self.state);
        if let Some(upscaler) = state.as_mut().and_then(|state| state.upscaler.as_mut()) {
            upscaler.cancel();
        }
    }

    /// What became of the frame that has been at work longest, if there is one.
    fn finish_first(&self) -> Result<Option<gst::Buffer>, gst::FlowError> {
        let Some(inbuf) = lock(&self.waiting).frames.pop_front() else {
            return Ok(None);
        };
        let made = self.finish(&inbuf);
        if made.is_err() {
            // What the upscaler has begun is not what waits any more.
            self.drop_waiting();
        }
        made.map(Some)
    }

    fn finish(&self, inbuf: &gst::Buffer) -> Result<gst::Buffer, gst::FlowError> {
        let (from, to) = self.negotiated()?;
        let mut outbuf = self.room(inbuf)?;
        {
            let frame = readable(inbuf, &from)?;
            let made = VideoFrameRef::from_buffer_ref_writable(outbuf.make_mut(), &to);
            let mut made = made.map_err(|_| gst::FlowError::Error)?;
            self.enlarge(|upscaler| {
                let shape = upscaler.spec().input;
                let input = video::frame_ref(&frame, &shape)?;
                upscaler.receive(&input, &mut video::frame_mut(&mut made, &shape)?)
            })?;
        }
        self.count();
        Ok(outbuf)
    }

    fn negotiated(&self) -> Result<Infos, gst::FlowError> {
        let infos = lock(&self.infos).clone();
        infos.ok_or(gst::FlowError::NotNegotiated)
    }

    /// A buffer to go out, with what belongs to the one that came in.
    fn room(&self, inbuf: &gst::Buffer) -> Result<gst::Buffer, gst::FlowError> {
        match self.parent_prepare_output_buffer(InputBuffer::Readable(inbuf))? {
            PrepareOutputBufferSuccess::Buffer(outbuf) => Ok(outbuf),
            PrepareOutputBufferSuccess::InputBuffer => Err(gst::FlowError::NotSupported),
        }
    }
}

fn readable<'a>(
    buffer: &'a gst::BufferRef,
    info: &'a gst_video::VideoInfo,
) -> Result<VideoFrameRef<&'a gst::BufferRef>, gst::FlowError> {
    VideoFrameRef::from_buffer_ref_readable(buffer, info).map_err(|_| gst::FlowError::Error)
}

//! Pipelining: the work on successive frames overlaps, and each output frame is pushed
//! when a later input frame arrives: the next one if a GPU computes them, and the
//! `async-depth`-th on the CPU.

use super::ahead::Done;
use super::imp::SrFilter;
use super::log::{CAT, lock};
use super::switching::Infos;
use super::{allocation, shape, video};
use gst::prelude::*;
use gst_base::prelude::*;
use gst_base::subclass::base_transform::{
    GenerateOutputSuccess, InputBuffer, PrepareOutputBufferSuccess,
};
use gst_base::subclass::prelude::*;
use gst_video::VideoFrameRef;
use srfilter::Error;
use srfilter::engine::Upscaler;

impl SrFilter {
    /// Sets the number of frames in flight: that of the property, or `most`.
    pub(super) fn set_async_depth(&self, most: u32) {
        let depth = lock(&self.settings).async_depth.min(most);
        let before = std::mem::replace(&mut lock(&self.shared).stats.async_depth, depth);
        if before != depth {
            let message = gst::message::Latency::builder().src(&*self.obj());
            // Fails only without a bus.
            let _ = self.obj().post_message(message.build());
        }
    }

    /// Requires the buffers in flight from upstream's pool.
    pub(super) fn require_in_flight_buffers(&self, query: &mut gst::query::Allocation) {
        let depth = lock(&self.settings).async_depth;
        if depth > 0 {
            allocation::require_more_buffers(query, depth + 1);
        }
    }

    /// Requires the output buffers of the frames in flight on the CPU.
    pub(super) fn require_output_buffers(&self, query: &mut gst::query::Allocation) {
        let depth = lock(&self.shared).stats.async_depth;
        if depth > 0 {
            allocation::require_more_buffers(query, depth);
            allocation::avoid_small_pool(query);
        }
    }

    /// The added latency: the duration of the frames in flight.
    pub(super) fn delay(&self) -> Option<gst::ClockTime> {
        let (Infos { input, .. }, depth) = {
            let shared = lock(&self.shared);
            (shared.infos.clone()?, shared.stats.async_depth)
        };
        if depth == 0 {
            return None;
        }
        let (frames, seconds) = (input.fps().numer(), input.fps().denom());
        // 0/1 is a variable frame rate.
        let frames = u64::try_from(frames).ok().filter(|&frames| frames > 0)?;
        let seconds = u64::from(depth) * u64::try_from(seconds).ok()?;
        gst::ClockTime::SECOND.mul_div_floor(seconds, frames)
    }

    /// The output of an earlier frame, or of the current one without pipelining.
    pub(super) fn next_output(&self) -> Result<GenerateOutputSuccess, gst::FlowError> {
        let depth = lock(&self.shared).stats.async_depth as usize;
        if depth == 0 || self.obj().is_passthrough() {
            // Frames submitted before the GPU failed.
            self.push_in_flight()?;
            return self.parent_generate_output();
        }
        let Some(inbuf) = self.take_queued_buffer() else {
            return Ok(GenerateOutputSuccess::NoOutput);
        };
        let infos = self.negotiated()?;
        let on_gpu = (lock(&self.state).as_ref())
            .and_then(|state| state.upscaler.as_ref())
            .is_some_and(Upscaler::supports_pipelining);
        let in_flight = match on_gpu {
            true => self.submit(&inbuf, &infos)?,
            false => self.start(&inbuf, infos, depth)?,
        };
        if let Some(in_flight) = in_flight {
            let full = in_flight > depth;
            let output = full.then(|| self.receive_first()).transpose()?.flatten();
            return Ok(output.map_or(
                GenerateOutputSuccess::NoOutput,
                GenerateOutputSuccess::Buffer,
            ));
        }
        // The GPU failed, or there is no memory for so many frames.
        self.push_in_flight()?;
        self.set_async_depth(0);
        let mut outbuf = self.output_buffer(&inbuf)?;
        self.transform(&inbuf, outbuf.make_mut())?;
        Ok(GenerateOutputSuccess::Buffer(outbuf))
    }

    /// Starts a frame on a GPU. Returns the number of frames in flight, or `None` if that is
    /// not possible any more.
    fn submit(&self, inbuf: &gst::Buffer, infos: &Infos) -> Result<Option<usize>, gst::FlowError> {
        let frame = readable(inbuf, &infos.input)?;
        let submitted = self.with_upscaler(|upscaler| {
            let shape = upscaler.spec().input;
            upscaler.submit(&video::frame_ref(&frame, &shape)?)
        })?;
        Ok(submitted.then(|| self.add_in_flight(inbuf.clone())))
    }

    /// Starts a frame on the CPU. Returns the number of frames in flight, or `None` if there
    /// is too little memory for so many.
    fn start(
        &self,
        inbuf: &gst::Buffer,
        infos: Infos,
        depth: usize,
    ) -> Result<Option<usize>, gst::FlowError> {
        let mut outbuf = self.output_buffer(inbuf)?;
        let inbuf = inbuf.clone();
        let lent = (lock(&self.state).as_mut())
            .map(|state| state.ahead.lend(&mut state.upscaler, depth))
            .ok_or(gst::FlowError::NotNegotiated)?;
        let mut upscaler = match lent {
            Ok(upscaler) => upscaler.ok_or(gst::FlowError::NotNegotiated)?,
            Err(error) => {
                gst::warning!(CAT, imp = self, "frames do not overlap: {error}");
                return Ok(None);
            }
        };
        self.set_interrupt(&mut upscaler);
        upscaler.set_view(lock(&self.settings).view.view());
        let work = move |upscaler: &mut Upscaler| {
            process(upscaler, &inbuf, &mut outbuf, &infos)?;
            Ok(outbuf)
        };
        let started = (lock(&self.state).as_mut()).map(|state| {
            state.ahead.start(upscaler, work)?;
            Ok(state.ahead.len())
        });
        let started = started.transpose();
        started.map_err(|error: Error| self.report_failure(&error))
    }

    /// Returns the number of frames in flight, including this one.
    fn add_in_flight(&self, inbuf: gst::Buffer) -> usize {
        let mut state = lock(&self.state);
        state.as_mut().map_or(0, |state| {
            state.in_flight.push_back(inbuf);
            state.in_flight.len()
        })
    }

    /// Pushes all frames in flight, ahead of serialized events and queries.
    pub(super) fn push_in_flight(&self) -> Result<(), gst::FlowError> {
        while let Some(outbuf) = self.receive_first()? {
            self.obj().src_pad().push(outbuf)?;
        }
        Ok(())
    }

    /// [`SrFilter::push_in_flight`] for callers that cannot return an error; the
    /// next buffer reports it.
    pub(super) fn flush_in_flight(&self) {
        if let Err(error) = self.push_in_flight() {
            gst::debug!(CAT, imp = self, "frames in flight were dropped: {error}");
            self.drop_in_flight();
        }
    }

    /// Discards the frames in flight.
    pub(super) fn drop_in_flight(&self) {
        while self.wait_for_first().is_some() {}
        if let Some(state) = lock(&self.state).as_mut() {
            state.in_flight.clear();
            if let Some(upscaler) = &mut state.upscaler {
                upscaler.cancel();
            }
        }
    }

    /// The oldest frame in flight on the CPU, when it is done.
    fn wait_for_first(&self) -> Option<srfilter::Result<gst::Buffer>> {
        let first = (lock(&self.state).as_mut()).and_then(|state| state.ahead.pop())?;
        // Unlocked: this may take as long as a frame.
        let panicked = || Error::Setting("computing a frame panicked; see the log".to_owned());
        let Ok(Done {
            upscaler,
            output,
            took,
        }) = first.recv()
        else {
            return Some(Err(panicked()));
        };
        if let Some(state) = lock(&self.state).as_mut() {
            state.ahead.give_back(&mut state.upscaler, upscaler);
        }
        lock(&self.shared).stats.spent = took;
        Some(output)
    }

    /// The output of the oldest frame in flight, if any.
    fn receive_first(&self) -> Result<Option<gst::Buffer>, gst::FlowError> {
        if let Some(output) = self.wait_for_first() {
            return match output {
                Ok(outbuf) => {
                    lock(&self.shared).stats.count_frame();
                    Ok(Some(outbuf))
                }
                Err(error) => {
                    self.drop_in_flight();
                    Err(self.report_failure(&error))
                }
            };
        }
        let first = (lock(&self.state).as_mut()).and_then(|state| state.in_flight.pop_front());
        let Some(inbuf) = first else {
            return Ok(None);
        };
        let output = self.receive(&inbuf);
        if output.is_err() {
            // The upscaler and the queue no longer hold the same frames.
            self.drop_in_flight();
        }
        output.map(Some)
    }

    fn receive(&self, inbuf: &gst::Buffer) -> Result<gst::Buffer, gst::FlowError> {
        let infos = self.negotiated()?;
        let mut outbuf = self.output_buffer(inbuf)?;
        {
            let frame = readable(inbuf, &infos.input)?;
            let output = VideoFrameRef::from_buffer_ref_writable(outbuf.make_mut(), &infos.output);
            let mut output = output.map_err(|_| gst::FlowError::Error)?;
            self.with_upscaler(|upscaler| {
                let shape = upscaler.spec().input;
                let input = video::frame_ref(&frame, &shape)?;
                let mut output = video::frame_mut(&mut output, &shape)?;
                let mut picture = shape::with_borders(&mut output, Some(infos.window))?;
                upscaler.receive(&input, &mut picture)
            })?;
        }
        lock(&self.shared).stats.count_frame();
        self.measure(inbuf, &outbuf);
        Ok(outbuf)
    }

    fn negotiated(&self) -> Result<Infos, gst::FlowError> {
        let infos = lock(&self.shared).infos.clone();
        infos.ok_or(gst::FlowError::NotNegotiated)
    }

    /// An output buffer with the timestamps and metadata of the input.
    fn output_buffer(&self, inbuf: &gst::Buffer) -> Result<gst::Buffer, gst::FlowError> {
        match self.parent_prepare_output_buffer(InputBuffer::Readable(inbuf))? {
            PrepareOutputBufferSuccess::Buffer(outbuf) => Ok(outbuf),
            PrepareOutputBufferSuccess::InputBuffer => Err(gst::FlowError::NotSupported),
        }
    }
}

/// Upscales one buffer to another.
fn process(
    upscaler: &mut Upscaler,
    inbuf: &gst::Buffer,
    outbuf: &mut gst::Buffer,
    infos: &Infos,
) -> srfilter::Result<()> {
    let unmapped = |which: &str| Error::Frame(format!("the {which} buffer cannot be mapped"));
    let frame = readable(inbuf, &infos.input).map_err(|_| unmapped("input"))?;
    let output = VideoFrameRef::from_buffer_ref_writable(outbuf.make_mut(), &infos.output);
    let mut output = output.map_err(|_| unmapped("output"))?;
    let shape = upscaler.spec().input;
    let input = video::frame_ref(&frame, &shape)?;
    let mut output = video::frame_mut(&mut output, &shape)?;
    let mut picture = shape::with_borders(&mut output, Some(infos.window))?;
    upscaler.process(&input, &mut picture)
}

fn readable<'a>(
    buffer: &'a gst::BufferRef,
    info: &'a gst_video::VideoInfo,
) -> Result<VideoFrameRef<&'a gst::BufferRef>, gst::FlowError> {
    VideoFrameRef::from_buffer_ref_readable(buffer, info).map_err(|_| gst::FlowError::Error)
}

//! Pipelining: upload, compute and download of successive frames overlap on a
//! GPU, and each output frame is pushed when the next input frame arrives.

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

/// Frames in flight when the first one is pushed.
const PIPELINE_DEPTH: usize = 2;

impl SrFilter {
    /// Enables pipelining if it is possible and the property is set.
    pub(super) fn set_pipelining(&self, possible: bool) {
        let pipelined = possible && lock(&self.settings).pipelined;
        let before = std::mem::replace(&mut lock(&self.shared).stats.pipelined, pipelined);
        if before != pipelined {
            let message = gst::message::Latency::builder().src(&*self.obj());
            // Fails only without a bus.
            let _ = self.obj().post_message(message.build());
        }
    }

    /// Requires the buffers in flight from upstream's pool.
    pub(super) fn require_in_flight_buffers(&self, query: &mut gst::query::Allocation) {
        let pipelined = lock(&self.settings).pipelined;
        if pipelined {
            allocation::require_more_buffers(query, PIPELINE_DEPTH);
        }
    }

    /// The added latency of pipelining: one frame.
    pub(super) fn delay(&self) -> Option<gst::ClockTime> {
        let Infos { input, .. } = {
            let shared = lock(&self.shared);
            shared.infos.clone().filter(|_| shared.stats.pipelined)?
        };
        let (frames, seconds) = (input.fps().numer(), input.fps().denom());
        // 0/1 is a variable frame rate.
        let frames = u64::try_from(frames).ok().filter(|&frames| frames > 0)?;
        gst::ClockTime::SECOND.mul_div_floor(seconds.try_into().ok()?, frames)
    }

    /// The output of the previous frame, or of the current one without
    /// pipelining.
    pub(super) fn next_output(&self) -> Result<GenerateOutputSuccess, gst::FlowError> {
        let pipelined = lock(&self.shared).stats.pipelined;
        if !pipelined {
            // Frames submitted before the GPU failed.
            self.push_in_flight()?;
            return self.parent_generate_output();
        }
        let Some(inbuf) = self.take_queued_buffer() else {
            return Ok(GenerateOutputSuccess::NoOutput);
        };
        let infos = self.negotiated()?;
        let submitted = {
            let frame = readable(&inbuf, &infos.input)?;
            self.with_upscaler(|upscaler| {
                let shape = upscaler.spec().input;
                upscaler.submit(&video::frame_ref(&frame, &shape)?)
            })?
        };
        if submitted {
            let full = self.add_in_flight(inbuf) >= PIPELINE_DEPTH;
            let output = full.then(|| self.receive_first()).transpose()?.flatten();
            return Ok(output.map_or(
                GenerateOutputSuccess::NoOutput,
                GenerateOutputSuccess::Buffer,
            ));
        }
        // The GPU failed, or lacks the memory for two frames.
        self.push_in_flight()?;
        self.set_pipelining(false);
        let mut outbuf = self.output_buffer(&inbuf)?;
        self.transform(&inbuf, outbuf.make_mut())?;
        Ok(GenerateOutputSuccess::Buffer(outbuf))
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
        if let Some(state) = lock(&self.state).as_mut() {
            state.in_flight.clear();
            if let Some(upscaler) = &mut state.upscaler {
                upscaler.cancel();
            }
        }
    }

    /// The output of the oldest frame in flight, if any.
    fn receive_first(&self) -> Result<Option<gst::Buffer>, gst::FlowError> {
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

fn readable<'a>(
    buffer: &'a gst::BufferRef,
    info: &'a gst_video::VideoInfo,
) -> Result<VideoFrameRef<&'a gst::BufferRef>, gst::FlowError> {
    VideoFrameRef::from_buffer_ref_readable(buffer, info).map_err(|_| gst::FlowError::Error)
}

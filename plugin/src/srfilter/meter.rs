//! The meter: what the output is worth, measured on each frame without an original.

use super::imp::SrFilter;
use super::log::{CAT, lock};
use super::stats;
use super::switching::Infos;
use super::video;
use gst::prelude::*;
use gst::subclass::prelude::*;
use gst_video::VideoFrameRef;
use srfilter::Error;
use srfilter::metrics::video::{Measure, Meter};

/// The name of the message about a frame.
const MESSAGE: &str = "srfilter-measure";

impl SrFilter {
    /// With the property `measure`, measures a frame that has been upscaled, and tells
    /// the bus.
    pub(super) fn measure(&self, inbuf: &gst::BufferRef, outbuf: &gst::BufferRef) {
        if !lock(&self.settings).measure {
            // Frees its frames.
            lock(&self.meter).reset();
            return;
        }
        let infos = lock(&self.shared).infos.clone();
        let Some(infos) = infos else { return };
        let measured = {
            let mut meter = lock(&self.meter);
            if inbuf.flags().contains(gst::BufferFlags::DISCONT) {
                meter.reset();
            }
            measure(&mut meter, &infos, inbuf, outbuf)
        };
        let measure = match measured {
            Ok(measure) => measure,
            Err(error) => {
                gst::warning!(CAT, imp = self, "a frame is not measured: {error}");
                return;
            }
        };
        let ms = {
            let stats = &mut lock(&self.shared).stats;
            stats.add_measure(measure);
            stats.last_duration().as_secs_f64() * 1e3
        };
        let mut structure = stats::of_measure(MESSAGE, &measure);
        structure.set("timestamp", inbuf.pts());
        structure.set("ms", ms);
        let message = gst::message::Element::builder(structure).src(&*self.obj());
        // Fails only without a bus.
        let _ = self.obj().post_message(message.build());
    }
}

fn measure(
    meter: &mut Meter,
    infos: &Infos,
    inbuf: &gst::BufferRef,
    outbuf: &gst::BufferRef,
) -> srfilter::Result<Measure> {
    let unreadable = |_| Error::Frame("its memory cannot be read".to_owned());
    let unsupported = || Error::Frame("its format is not supported".to_owned());
    let input = VideoFrameRef::from_buffer_ref_readable(inbuf, &infos.input);
    let output = VideoFrameRef::from_buffer_ref_readable(outbuf, &infos.output);
    let (input, output) = (input.map_err(unreadable)?, output.map_err(unreadable)?);
    let spec = video::spec(&infos.input).ok_or_else(unsupported)?;
    let picture = video::frame_ref(&output, &spec)?.window(infos.window)?;
    Ok(meter.measure(&video::frame_ref(&input, &spec)?, &picture))
}

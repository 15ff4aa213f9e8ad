//! The refusal of interlaced frames.

use super::imp::SrFilter;
use super::log::{CAT, lock};
use super::scan;
use gst::subclass::prelude::*;
use gst_base::prelude::*;
use gst_video::prelude::*;
use gst_video::{VideoBufferFlags, VideoInterlaceMode};

impl SrFilter {
    /// Refuses an interlaced frame.
    ///
    /// Decoders flag some progressive frames of film as interlaced (`avdec_h264` of
    /// GStreamer 1.22 two of the first four with 2:3 pulldown). In a stream with progressive
    /// frames, a frame is therefore interlaced only if it is flagged and combed.
    pub(super) fn check_scan(&self, buffer: &gst::BufferRef) -> Result<(), gst::FlowError> {
        if self.obj().is_passthrough() {
            return Ok(());
        }
        let (infos, seen) = {
            let shared = lock(&self.shared);
            (shared.infos.clone(), shared.progressive)
        };
        let Some(infos) = infos else { return Ok(()) };
        let flagged = match infos.input.interlace_mode() {
            VideoInterlaceMode::Progressive => false,
            VideoInterlaceMode::Mixed => {
                (buffer.video_flags()).contains(VideoBufferFlags::INTERLACED)
            }
            _ => true,
        };
        if !flagged {
            lock(&self.shared).progressive = true;
            return Ok(());
        }
        if seen && !scan::is_combed(buffer, &infos.input) {
            gst::debug!(
                CAT,
                imp = self,
                "flagged as interlaced, but not combed: {buffer:?}"
            );
            return Ok(());
        }
        self.refuse_interlaced();
        Err(gst::FlowError::Error)
    }

    /// Posts the error for interlaced video.
    pub(super) fn refuse_interlaced(&self) {
        gst::element_imp_error!(
            self,
            gst::StreamError::Format,
            ("Interlaced video cannot be upscaled: put a deinterlace element before srfilter")
        );
    }
}

//! Upscalers for a scale that is about to be set, built by the thread that sets it: the
//! streaming thread does not stop for them.

use super::caps::{self, TargetScale};
use super::imp::SrFilter;
use super::log::{CAT, lock};
use super::{background, video};
use gst::prelude::*;
use gst::subclass::prelude::*;
use gst_base::prelude::*;
use gst_video::VideoInfo;
use srfilter::engine::in_background;

impl SrFilter {
    /// Prepares the upscaler for a scale, before it becomes the value of the property.
    pub(super) fn prepare_scale(&self, scale: gst::Fraction) {
        let target = TargetScale::from_fraction(scale);
        let blueprint = lock(&self.shared).blueprint.clone();
        let Some(blueprint) = blueprint else { return };
        let input = (
            blueprint.infos.input.width(),
            blueprint.infos.input.height(),
        );
        if target == lock(&self.settings).target() || target.beyond_limit(input).is_some() {
            return;
        }
        let Some(output) = self.output_at(target) else {
            return;
        };
        // One thread: the others compute frames.
        let build = move || in_background(|| blueprint.build(output, target));
        let built = background::run("srfilter-scale", build);
        match built {
            Ok(prepared) => {
                let outdated = std::mem::replace(&mut lock(&self.shared).prepared, prepared);
                drop(outdated);
            }
            Err(error) => gst::debug!(CAT, imp = self, "scale {scale} is not prepared: {error}"),
        }
    }

    /// The output format that a scale will lead to, as the base class negotiates it.
    fn output_at(&self, target: TargetScale) -> Option<VideoInfo> {
        let (sink, src) = (gst::PadDirection::Sink, self.obj().src_pad().clone());
        let even = lock(&self.settings).sizing().1;
        let input = self.obj().sink_pad().current_caps()?;
        let mut possible = caps::transform(sink, &video::complete_color(&input), target, even);
        caps::keep_on_host(&mut possible);
        let accepted = src.peer_query_caps(Some(&possible));
        let outputs = possible.intersect_with_mode(&accepted, gst::CapsIntersectMode::First);
        if outputs.is_empty() {
            return None;
        }
        video::info(&self.fixate(sink, &input, outputs, (target, even)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::srfilter::imp::Element;
    use gst::glib;

    /// The output size of the upscaler that is prepared.
    fn prepared(element: &Element) -> Option<(usize, usize)> {
        let shared = lock(&element.imp().shared);
        (shared.prepared.as_ref()).map(|upscaler| upscaler.spec().output)
    }

    #[test]
    fn a_scale_is_prepared_by_the_thread_that_sets_it() {
        gst::init().unwrap();
        for (pinned, expected) in [(None, 96), (Some(64), 64)] {
            let element: Element = glib::Object::builder().property("model", "espcn").build();
            let mut h = gst_check::Harness::with_element(&element, Some("sink"), Some("src"));
            if let Some(width) = pinned {
                let sink = gst::Caps::builder("video/x-raw").field("width", width);
                h.set_sink_caps(sink.build());
            }
            let scale = |n: i32| element.set_property("scale", gst::Fraction::new(n, 1));
            scale(4);
            assert_eq!(prepared(&element), None, "nothing is negotiated yet");
            scale(2);
            h.set_src_caps_str("video/x-raw,format=GRAY8,width=32,height=18,framerate=25/1");
            let mut push = || {
                h.push_and_pull(gst::Buffer::with_size(32 * 18).unwrap())
                    .unwrap()
            };
            push();
            scale(3);
            let found = prepared(&element).unwrap();
            assert_eq!(found.0, expected);
            let out = push();
            assert_eq!(out.size(), found.0 * found.1);
            assert_eq!(prepared(&element), None);
            // The same again.
            scale(3);
            assert_eq!(prepared(&element), None);
        }
    }
}

//! Pipelines of GStreamer that end in an `appsink`.

use anyhow::{Context, Result, anyhow};
use gst::prelude::*;
use std::time::{Duration, Instant};

/// How long a frame may take: the machine may be busy.
const PATIENCE: Duration = Duration::from_secs(120);

/// How often a pipeline is asked for errors meanwhile.
const LOOK: gst::ClockTime = gst::ClockTime::from_mseconds(100);

/// A pipeline that stops when it is dropped.
pub(crate) struct Playing(gst::Pipeline);

impl Drop for Playing {
    fn drop(&mut self) {
        // Nothing depends on how it stops.
        let _ = self.0.set_state(gst::State::Null);
    }
}

impl Playing {
    /// The pipeline of a launch line, not started yet.
    pub(crate) fn launch(line: &str) -> Result<Self> {
        gst::init().context("cannot start GStreamer")?;
        let pipeline = gst::parse::launch(line)?.downcast::<gst::Pipeline>();
        Ok(Self(pipeline.map_err(|_| anyhow!("this is no pipeline"))?))
    }

    /// The element of that name.
    pub(crate) fn element<T: IsA<gst::Element>>(&self, name: &str) -> Result<T> {
        let element = self.0.by_name(name).context("an element is lost")?;
        element
            .downcast()
            .map_err(|e| anyhow!("{} is of another kind", e.name()))
    }

    /// Starts; gives the element `sink`.
    pub(crate) fn start(&self) -> Result<gst_app::AppSink> {
        let sink = self.element("sink")?;
        // What failed is on the bus.
        let started = self.0.set_state(gst::State::Playing);
        started.map_err(|error| anyhow!(self.error().unwrap_or_else(|| error.to_string())))?;
        Ok(sink)
    }

    /// The next sample; an error at the end of the stream, too.
    pub(crate) fn sample(&self, sink: &gst_app::AppSink) -> Result<gst::Sample> {
        self.next(sink)?.context("the stream ends too early")
    }

    /// The next sample; `None` at the end of the stream.
    pub(crate) fn next(&self, sink: &gst_app::AppSink) -> Result<Option<gst::Sample>> {
        let start = Instant::now();
        while start.elapsed() < PATIENCE {
            if let Some(sample) = sink.try_pull_sample(LOOK) {
                return Ok(Some(sample));
            }
            match self.error() {
                Some(error) => return Err(anyhow!(error)),
                // Elements that fail may end the stream as well.
                None if sink.is_eos() => return Ok(None),
                None => {}
            }
        }
        Err(anyhow!("no frame came out in time"))
    }

    /// The error of the pipeline.
    fn error(&self) -> Option<String> {
        let bus = self.0.bus()?;
        let message = bus.pop_filtered(&[gst::MessageType::Error])?;
        match message.view() {
            gst::MessageView::Error(error) => Some(error.error().to_string()),
            _ => None,
        }
    }
}

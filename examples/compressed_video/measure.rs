//! Clips downscaled by 2, encoded as H.264, decoded, and upscaled by the element.

use anyhow::{Context, Result, anyhow, ensure};
use gst::prelude::*;
use gst_video::prelude::*;
use srfilter::frame::resample::Resampler;
use srfilter::frame::to_u8;
use srfilter::metrics;
use std::path::Path;

/// Factor of the downscaling.
const SCALE: usize = 2;

/// The size of a clip is cropped to multiples of it, so that no low-resolution row has padding.
const EVEN: usize = 8 * SCALE;

/// Maximum frames of a clip that are encoded.
const LONGEST: usize = 300;

/// Interval at which a pipeline without output is checked for errors.
const POLL_INTERVAL: gst::ClockTime = gst::ClockTime::from_mseconds(200);

/// Frames of I420, rows without padding.
#[derive(Debug, Clone)]
pub(crate) struct Clip {
    size: (usize, usize),
    rate: gst::Fraction,
    frames: Vec<Vec<u8>>,
}

/// Means over the frames of a clip, on luma without the outermost pixels.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Quality {
    /// dB.
    pub(crate) psnr: f64,
    /// Structural similarity.
    pub(crate) ssim: f64,
}

/// The results of a clip.
#[derive(Debug, Clone)]
pub(crate) struct Measured {
    /// Of bicubic interpolation.
    pub(crate) bicubic: Quality,
    /// Of the model.
    pub(crate) model: Quality,
}

/// Whether H.264 can be encoded and decoded on this machine.
pub(crate) fn has_codec() -> bool {
    let has = |element| gst::ElementFactory::find(element).is_some();
    has("x264enc") && has("avdec_h264")
}

/// Encodes the clip at a constant rate factor, upscales some frames, evenly
/// spaced, and compares them with the clip's.
pub(crate) fn measure(clip: &Clip, crf: u32, element: &str, frames: usize) -> Result<Measured> {
    let codec = format!("x264enc threads=1 pass=qual quantizer={crf} ! avdec_h264");
    let streamed = clip.small().through(&codec)?;
    let count = clip.frames.len();
    ensure!(
        streamed.frames.len() == count,
        "{} of {count} frames came back from the encoder",
        streamed.frames.len()
    );
    let frames = frames.min(count);
    let chosen: Vec<usize> = (0..frames)
        .map(|i| (2 * i + 1) * count / (2 * frames))
        .collect();
    let (expected, streamed) = (clip.only(&chosen), streamed.only(&chosen));
    let upscaled = |element: &str| -> Result<Quality> {
        let other = streamed.through(&format!("srfilter qos=false scale={SCALE} {element}"))?;
        expected.quality(&other)
    };
    Ok(Measured {
        bicubic: upscaled("model=bicubic")?,
        model: upscaled(element)?,
    })
}

impl Clip {
    /// Decodes a file, and crops its size to multiples of 16.
    pub(crate) fn open(path: &Path) -> Result<Self> {
        let pipeline = Playing::launch(
            "filesrc name=file ! decodebin ! videoconvert ! video/x-raw,format=I420 ! \
             appsink name=sink sync=false",
        )?;
        let file: gst::Element = pipeline.element("file")?;
        file.set_property("location", path);
        let read = || -> Result<Self> {
            let clip = pipeline.collect(LONGEST)?;
            let (width, height) = clip.size;
            let size = (width / EVEN * EVEN, height / EVEN * EVEN);
            ensure!(size.0 > 0 && size.1 > 0, "{width}x{height} is too small");
            Ok(clip.cropped(size))
        };
        read().with_context(|| format!("cannot read {}", path.display()))
    }

    /// Width and height.
    pub(crate) fn size(&self) -> (usize, usize) {
        self.size
    }

    /// Some of the frames.
    fn only(&self, chosen: &[usize]) -> Self {
        let frames = chosen.iter().map(|&i| self.frames[i].clone()).collect();
        Self { frames, ..*self }
    }

    fn cropped(&self, size: (usize, usize)) -> Self {
        let crop = |frame: &Vec<u8>| -> Vec<u8> {
            let planes = planes(self.size).zip(planes(size));
            planes
                .flat_map(|((plane, (stride, _)), (_, (width, height)))| {
                    let rows = frame[plane..].chunks(stride).take(height);
                    rows.flat_map(move |row| &row[..width])
                })
                .copied()
                .collect()
        };
        let frames = self.frames.iter().map(crop).collect();
        Self {
            size,
            frames,
            ..*self
        }
    }

    /// Antialiased bicubic to half the size.
    fn small(&self) -> Self {
        let half = |side: (usize, usize)| (side.0 / SCALE, side.1 / SCALE);
        let shrink = |frame: &Vec<u8>| -> Vec<u8> {
            planes(self.size)
                .flat_map(|(plane, size)| {
                    let samples = frame[plane..][..size.0 * size.1].iter();
                    let samples: Vec<f32> = samples.map(|&v| f32::from(v)).collect();
                    Resampler::resize(size, half(size)).apply(&samples)
                })
                .map(to_u8)
                .collect()
        };
        Self {
            size: half(self.size),
            frames: self.frames.iter().map(shrink).collect(),
            ..*self
        }
    }

    /// The clip after some elements.
    fn through(&self, elements: &str) -> Result<Self> {
        let (width, height) = self.size;
        let pipeline = Playing::launch(&format!(
            "appsrc name=source format=time caps=video/x-raw,format=I420,width={width},\
             height={height},framerate={}/{} ! {elements} ! video/x-raw,format=I420 ! \
             appsink name=sink sync=false",
            self.rate.numer(),
            self.rate.denom()
        ))?;
        let source: gst_app::AppSrc = pipeline.element("source")?;
        // All frames are queued before any output is read.
        source.set_max_bytes(0);
        let run = || -> Result<Self> {
            pipeline.0.set_state(gst::State::Playing)?;
            for (i, frame) in (0..).zip(&self.frames) {
                let seconds = |i: u64| {
                    let [n, d] = [self.rate.numer(), self.rate.denom()].map(|v| v as u64);
                    gst::ClockTime::SECOND.mul_div_floor(i * d, n)
                };
                let mut buffer = gst::Buffer::from_slice(frame.clone());
                let unshared = buffer.get_mut().context("a shared buffer")?;
                unshared.set_pts(seconds(i));
                source.push_buffer(buffer)?;
            }
            source.end_of_stream()?;
            pipeline.collect(usize::MAX)
        };
        run().with_context(|| format!("in {elements}"))
    }

    /// PSNR and SSIM of another clip's frames.
    fn quality(&self, other: &Self) -> Result<Quality> {
        ensure!(
            self.size == other.size && self.frames.len() == other.frames.len(),
            "expected {2} frames of {3:?}, got {0} of {1:?}",
            other.frames.len(),
            other.size,
            self.frames.len(),
            self.size
        );
        let width = self.size.0;
        let luma = |frame: &Vec<u8>| {
            let samples = frame[..width * self.size.1].iter();
            let samples: Vec<f64> = samples.map(|&v| f64::from(v)).collect();
            metrics::shave(&samples, width, SCALE)
        };
        let mut sum = Quality::default();
        for (expected, other) in self.frames.iter().zip(&other.frames) {
            let ((expected, width), (other, _)) = (luma(expected), luma(other));
            sum.psnr += metrics::psnr(&expected, &other);
            sum.ssim +=
                metrics::ssim(&expected, &other, width).context("frames too small for SSIM")?;
        }
        let count = self.frames.len() as f64;
        Ok(Quality {
            psnr: sum.psnr / count,
            ssim: sum.ssim / count,
        })
    }
}

/// Offsets and sizes of the three planes of an I420 frame.
fn planes((width, height): (usize, usize)) -> impl Iterator<Item = (usize, (usize, usize))> {
    let half = (width.div_ceil(2), height.div_ceil(2));
    let (luma, chroma) = (width * height, half.0 * half.1);
    [(0, (width, height)), (luma, half), (luma + chroma, half)].into_iter()
}

/// A pipeline that stops when it is dropped.
struct Playing(gst::Pipeline);

impl Drop for Playing {
    fn drop(&mut self) {
        // Nothing depends on how it stops.
        let _ = self.0.set_state(gst::State::Null);
    }
}

impl Playing {
    fn launch(description: &str) -> Result<Self> {
        let pipeline = gst::parse::launch(description)?.downcast();
        Ok(Self(pipeline.map_err(|_| anyhow!("not a pipeline"))?))
    }

    fn element<T: IsA<gst::Element>>(&self, name: &str) -> Result<T> {
        let element = self.0.by_name(name).context("missing element")?;
        element
            .downcast()
            .map_err(|e| anyhow!("{} has another type", e.name()))
    }

    /// Returns the error of the pipeline, if any.
    fn check(&self) -> Result<()> {
        let bus = self.0.bus().context("the pipeline has no bus")?;
        match bus.pop_filtered(&[gst::MessageType::Error]) {
            Some(message) => match message.view() {
                gst::MessageView::Error(error) => Err(anyhow!("{}", error.error())),
                _ => Ok(()),
            },
            None => Ok(()),
        }
    }

    /// Plays to the end, and returns at most `count` frames.
    fn collect(&self, most: usize) -> Result<Clip> {
        let sink: gst_app::AppSink = self.element("sink")?;
        self.0.set_state(gst::State::Playing)?;
        let mut clip: Option<Clip> = None;
        while clip.as_ref().is_none_or(|clip| clip.frames.len() < most) {
            let Some(sample) = sink.try_pull_sample(POLL_INTERVAL) else {
                self.check()?;
                match sink.is_eos() {
                    true => break,
                    false => continue,
                }
            };
            let info = sample.caps().context("frame without caps")?;
            let info = gst_video::VideoInfo::from_caps(info)?;
            let buffer = sample.buffer().context("sample without buffer")?;
            let frame = gst_video::VideoFrameRef::from_buffer_ref_readable(buffer, &info)?;
            let clip = clip.get_or_insert_with(|| Clip {
                size: (info.width() as usize, info.height() as usize),
                rate: info.fps(),
                frames: Vec::new(),
            });
            clip.frames.push(dense(&frame, clip.size)?);
        }
        self.check()?;
        let clip = clip.context("no output frame")?;
        ensure!(clip.rate.numer() > 0, "it has no frame rate");
        Ok(clip)
    }
}

/// A frame without the padding of its rows.
fn dense(
    frame: &gst_video::VideoFrameRef<&gst::BufferRef>,
    size: (usize, usize),
) -> Result<Vec<u8>> {
    let mut samples = Vec::new();
    for (i, (_, (width, height))) in (0..).zip(planes(size)) {
        let stride = frame.plane_stride()[i as usize] as usize;
        let rows = frame.plane_data(i)?.chunks(stride).take(height);
        samples.extend(rows.flat_map(|row| &row[..width]));
    }
    Ok(samples)
}

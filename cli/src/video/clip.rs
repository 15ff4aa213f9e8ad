//! Clips in memory: downscaled, encoded as H.264, decoded, and upscaled by the element.

use super::player::{Pipeline, start};
use crate::quality::Flicker;
use anyhow::{Context, Result, anyhow, ensure};
use gst::prelude::*;
use gst_video::prelude::*;
use srfilter::frame::resample::Resampler;
use srfilter::frame::{Color, Image, YuvToRgb, to_u8};
use srfilter::metrics;
use std::path::Path;

/// Sizes are cropped to multiples of it and the scale, so that no low-resolution row has padding.
const EVEN: usize = 8;

/// The largest change of luma, of 255, from frame to frame, of a place that is still.
const STILL: f64 = 2.0;

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

/// Whether H.264 can be encoded and decoded on this machine.
pub(crate) fn has_codec() -> bool {
    let has = |element| gst::ElementFactory::find(element).is_some();
    has("x264enc") && has("avdec_h264")
}

impl Clip {
    /// Decodes a file, as far as it is not too long.
    pub(crate) fn open(path: &Path) -> Result<Self> {
        let pipeline = launch(
            "filesrc name=file ! decodebin ! videoconvert ! video/x-raw,format=I420 ! \
             appsink name=sink sync=false max-buffers=16",
        )?;
        let file: gst::Element = element(&pipeline, "file")?;
        file.set_property("location", path);
        collect(&pipeline, LONGEST)
    }

    /// The number of frames.
    pub(crate) fn len(&self) -> usize {
        self.frames.len()
    }

    /// The upper left part, of a size that can be downscaled by a factor.
    pub(crate) fn for_scale(&self, scale: usize) -> Result<Self> {
        let (whole, (width, height)) = (EVEN * scale, self.size);
        let size = (width / whole * whole, height / whole * whole);
        ensure!(size.0 > 0 && size.1 > 0, "{width}x{height} is too small");
        Ok(self.cropped(size))
    }

    /// The clip after x264 at a constant rate factor.
    pub(crate) fn encoded(&self, crf: u32) -> Result<Self> {
        let codec = format!("x264enc threads=1 pass=qual quantizer={crf} ! avdec_h264");
        let decoded = self.through(&codec)?;
        let (got, count) = (decoded.frames.len(), self.frames.len());
        ensure!(
            got == count,
            "{got} of {count} frames came back from the encoder"
        );
        Ok(decoded)
    }

    /// Some of the frames.
    pub(crate) fn only(&self, chosen: &[usize]) -> Self {
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

    /// Downscaled by a factor: bicubic, antialiased.
    pub(crate) fn small(&self, scale: usize) -> Self {
        let half = |side: (usize, usize)| (side.0 / scale, side.1 / scale);
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
    pub(crate) fn through(&self, elements: &str) -> Result<Self> {
        let (width, height) = self.size;
        let pipeline = launch(&format!(
            "appsrc name=source format=time caps=video/x-raw,format=I420,width={width},\
             height={height},framerate={}/{} ! {elements} ! video/x-raw,format=I420 ! \
             appsink name=sink sync=false",
            self.rate.numer(),
            self.rate.denom()
        ))?;
        let source: gst_app::AppSrc = element(&pipeline, "source")?;
        // All frames are queued before any output is read.
        source.set_max_bytes(0);
        let run = || -> Result<Self> {
            start(&pipeline.0);
            for (i, frame) in (0..).zip(&self.frames) {
                let seconds = |i: u64| {
                    let [n, d] = [self.rate.numer(), self.rate.denom()].map(|v| v as u64);
                    gst::ClockTime::SECOND.mul_div_floor(i * d, n)
                };
                let mut buffer = gst::Buffer::from_slice(frame.clone());
                let unshared = buffer.get_mut().context("a shared buffer")?;
                unshared.set_pts(seconds(i));
                if source.push_buffer(buffer).is_err() {
                    break;
                }
            }
            // An element that failed has told why on the bus.
            let _ = source.end_of_stream();
            collect(&pipeline, usize::MAX)
        };
        run().with_context(|| format!("in {elements}"))
    }

    /// Luma of a frame without its outermost `border` pixels, and the width of a row.
    fn luma(&self, frame: usize, border: usize) -> (Vec<f64>, usize) {
        let (width, height) = self.size;
        let samples = self.frames[frame][..width * height].iter();
        let samples: Vec<f64> = samples.map(|&v| f64::from(v)).collect();
        metrics::shave(&samples, width, border)
    }

    /// Mean PSNR in dB and SSIM of luma of another clip's frames, of those that are chosen.
    pub(crate) fn quality(
        &self,
        other: &Self,
        (chosen, border): (&[usize], usize),
    ) -> Result<(f64, f64)> {
        self.check_same(other)?;
        let mut sum = (0.0, 0.0);
        for &i in chosen {
            let ((expected, width), (other, _)) = (self.luma(i, border), other.luma(i, border));
            sum.0 += metrics::psnr(&expected, &other);
            sum.1 += metrics::ssim(&expected, &other, width).context("too small for SSIM")?;
        }
        let count = chosen.len() as f64;
        Ok((sum.0 / count, sum.1 / count))
    }

    /// How another clip's error changes from each chosen frame to the next.
    pub(crate) fn flicker(&self, other: &Self, chosen: &[usize], border: usize) -> Result<Flicker> {
        self.check_same(other)?;
        // Sum and number of samples, of places that are still and that move.
        let mut sums = [(0.0, 0u64); 2];
        for &i in chosen {
            let [before, after] =
                [i, i + 1].map(|i| (self.luma(i, border).0, other.luma(i, border).0));
            let samples = before
                .0
                .iter()
                .zip(&before.1)
                .zip(after.0.iter().zip(&after.1));
            for ((was, was_got), (is, is_got)) in samples {
                let sum = &mut sums[usize::from((is - was).abs() > STILL)];
                sum.0 += ((is_got - is) - (was_got - was)).abs();
                sum.1 += 1;
            }
        }
        let [still, moving] = sums.map(|(sum, count)| (count > 0).then(|| sum / count as f64));
        Ok(Flicker { still, moving })
    }

    fn check_same(&self, other: &Self) -> Result<()> {
        ensure!(
            self.size == other.size && self.frames.len() == other.frames.len(),
            "expected {2} frames of {3:?}, got {0} of {1:?}",
            other.frames.len(),
            other.size,
            self.frames.len(),
            self.size
        );
        Ok(())
    }

    /// A frame as RGB.
    pub(crate) fn image(&self, frame: usize) -> Image {
        let samples = &self.frames[frame];
        let size = self.size;
        let [y, u, v] = [0, 1, 2].map(|i| {
            let (start, of) = planes(size).nth(i).unwrap_or_default();
            let plane: Vec<f32> = samples[start..][..of.0 * of.1]
                .iter()
                .map(|&v| f32::from(v))
                .collect();
            match of == size {
                true => plane,
                false => Resampler::resize(of, size).apply(&plane),
            }
        });
        let conversion = YuvToRgb::new(Color::default());
        let mut image = Image::new(size.0, size.1, 3);
        let pixels = image.data.chunks_exact_mut(3).zip(y.iter().zip(&u).zip(&v));
        for (pixel, ((&y, &u), &v)) in pixels {
            pixel.copy_from_slice(&conversion.rgb([y, u, v]).map(to_u8));
        }
        image
    }
}

/// Offsets and sizes of the three planes of an I420 frame.
fn planes((width, height): (usize, usize)) -> impl Iterator<Item = (usize, (usize, usize))> {
    let half = (width.div_ceil(2), height.div_ceil(2));
    let (luma, chroma) = (width * height, half.0 * half.1);
    [(0, (width, height)), (luma, half), (luma + chroma, half)].into_iter()
}

fn launch(description: &str) -> Result<Pipeline> {
    let pipeline = gst::parse::launch(description)?.downcast();
    let pipeline: gst::Pipeline = pipeline.map_err(|_| anyhow!("not a pipeline"))?;
    Ok(pipeline.into())
}

fn element<T: IsA<gst::Element>>(pipeline: &Pipeline, name: &str) -> Result<T> {
    let element = pipeline.0.by_name(name).context("missing element")?;
    element
        .downcast()
        .map_err(|e| anyhow!("{} has another type", e.name()))
}

/// Returns the error of a pipeline, if any.
fn check(pipeline: &Pipeline) -> Result<()> {
    let bus = pipeline.0.bus().context("the pipeline has no bus")?;
    match bus.pop_filtered(&[gst::MessageType::Error]) {
        Some(message) => match message.view() {
            gst::MessageView::Error(error) => Err(anyhow!("{}", error.error())),
            _ => Ok(()),
        },
        None => Ok(()),
    }
}

/// Plays to the end, and returns at most `most` frames.
fn collect(pipeline: &Pipeline, most: usize) -> Result<Clip> {
    let sink: gst_app::AppSink = element(pipeline, "sink")?;
    start(&pipeline.0);
    let mut clip: Option<Clip> = None;
    while clip.as_ref().is_none_or(|clip| clip.frames.len() < most) {
        let Some(sample) = sink.try_pull_sample(POLL_INTERVAL) else {
            check(pipeline)?;
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
        let size = (info.width() as usize, info.height() as usize);
        ensure!(clip.size == size, "the size of its frames changes");
        clip.frames.push(dense(&frame, clip.size)?);
    }
    check(pipeline)?;
    let clip = clip.context("no output frame")?;
    ensure!(clip.rate.numer() > 0, "it has no frame rate");
    Ok(clip)
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

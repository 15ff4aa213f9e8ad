//! Degradation by video codecs: a short clip passes a real encoder and decoder
//! of GStreamer, and one of its frames is used. Still images move at a constant
//! velocity, clips as they do. The patches of a batch share a clip, side by side.
//!
//! That needs the feature `video` (on unless `--no-default-features`) and, at
//! run time, an encoder.

use super::raster::{Raster, bicubically};
use super::shot::Shot;
use crate::recipe::{Codec, Video};
use anyhow::{Context, Result, ensure};
use rand::Rng;
use rand_chacha::ChaCha8Rng;
use rayon::prelude::*;
use srfilter::frame::resample::Resampler;
use srfilter::frame::to_u8;
use srfilter::frame::{Color, YuvToRgb};

/// Largest 8-bit value.
const PEAK: f32 = 255.0;

/// Chroma of grey.
const NEUTRAL: u8 = 128;

/// Sides of the tiles of a frame are multiples of it, so that no block of a
/// codec covers two patches.
const BLOCK: usize = 64;

impl Codec {
    /// The names of encoder and decoder in GStreamer.
    pub const fn elements(self) -> [&'static str; 2] {
        match self {
            Self::H264 => ["x264enc", "avdec_h264"],
            Self::Vp8 => ["vp8enc", "vp8dec"],
            Self::Vp9 => ["vp9enc", "vp9dec"],
            Self::Mpeg4 => ["avenc_mpeg4", "avdec_mpeg4"],
        }
    }

    /// Quantiser or rate factor at strength 0, with hardly visible artefacts, and
    /// at strength 1, stronger than anyone would use.
    const fn quantizers(self) -> [f64; 2] {
        match self {
            Self::H264 => [18.0, 40.0],
            Self::Vp8 => [6.0, 54.0],
            Self::Vp9 => [14.0, 58.0],
            Self::Mpeg4 => [2.0, 16.0],
        }
    }

    /// Encoder and decoder as GStreamer's launch lines have them: one thread
    /// and one quantiser or rate factor, so that results repeat.
    fn launch(self, strength: f64, lookahead: bool) -> String {
        let [low, high] = self.quantizers();
        let q = (low + strength * (high - low)).round() as u32;
        let [encoder, decoder] = self.elements();
        let settings = match self {
            Self::H264 if lookahead => format!("pass=qual quantizer={q} threads=1"),
            Self::H264 => {
                format!("pass=quant quantizer={q} speed-preset=veryfast tune=zerolatency threads=1")
            }
            Self::Vp8 | Self::Vp9 => format!(
                "min-quantizer={q} max-quantizer={q} deadline=1 cpu-used=5 threads=1 \
                 lag-in-frames=0"
            ),
            Self::Mpeg4 => format!("qmin={q} qmax={q} max-bframes=0 threads=1"),
        };
        format!("{encoder} {settings} ! {decoder}")
    }
}

/// The codecs of a run.
#[derive(Debug, Clone, PartialEq)]
pub struct Codecs {
    codecs: Vec<Codec>,
    settings: Video,
}

/// A frame of I420: luma, and chroma halved in both directions.
#[derive(Debug, Clone, PartialEq)]
struct Frame {
    size: (usize, usize),
    planes: [Vec<u8>; 3],
}

impl Codecs {
    /// Finds the codecs: those that the recipe names or, where it names none,
    /// all that are installed.
    ///
    /// # Errors
    ///
    /// A named codec that is not installed, or no codec at all.
    pub fn new(settings: &Video) -> Result<Self> {
        pipeline::prepare()?;
        let expected = match settings.codecs.as_slice() {
            [] => Codec::ALL.to_vec(),
            named => named.to_vec(),
        };
        let missing = |codec: &Codec| {
            let elements = codec.elements().into_iter();
            elements
                .filter(|name| !pipeline::has(name))
                .collect::<Vec<_>>()
        };
        let codecs: Vec<Codec> = expected
            .iter()
            .copied()
            .filter(|codec| missing(codec).is_empty())
            .collect();
        let missing_elements: Vec<_> = expected.iter().flat_map(missing).collect();
        ensure!(
            !codecs.is_empty() && (settings.codecs.is_empty() || missing_elements.is_empty()),
            "GStreamer has no element {}: install its plugins (gst-plugins-good, -ugly, \
             gst-libav), or name other data.video.codecs",
            missing_elements.join(", ")
        );
        Ok(Self {
            codecs,
            settings: settings.clone(),
        })
    }

    /// The names of the encoders.
    pub fn description(&self) -> String {
        let names: Vec<_> = self.codecs.iter().map(|c| c.elements()[0]).collect();
        names.join(", ")
    }

    /// Downscales the images and passes them all through one codec.
    ///
    /// # Errors
    ///
    /// A codec that fails.
    pub fn downscaled(
        &self,
        shots: &[(&Shot, &(usize, usize))],
        rng: &mut ChaCha8Rng,
    ) -> Result<Vec<Raster>> {
        let codec = self.codecs[rng.random_range(0..self.codecs.len())];
        let [least, most] = self.settings.strength;
        let strength = least + (most - least) * rng.random::<f64>();
        // Nothing is drawn without `lookahead`: runs of earlier recipes stay the same.
        let lookahead = codec == Codec::H264
            && self.settings.lookahead > 0.0
            && rng.random::<f64>() < self.settings.lookahead;
        let velocities: Vec<[f64; 2]> = shots
            .iter()
            .map(|(shot, size)| {
                let factor = shot.image.size.0 as f64 / size.0 as f64;
                let fastest = self.settings.motion * factor;
                [0; 2].map(|_| fastest * (2.0 * rng.random::<f64>() - 1.0))
            })
            .collect();
        let before = self.reach() as isize;
        let after = if lookahead { before } else { 0 };
        let clip = (-before..=after).map(|distance| {
            let shrink = |((shot, size), velocity): (&(&Shot, &(usize, usize)), &[f64; 2])| {
                if let Some(frame) = shot.at(distance) {
                    return bicubically(frame, **size);
                }
                let [x, y] = velocity.map(|v| (v * -distance as f64).round() as isize);
                bicubically(&shot.image.moved(x, y), **size)
            };
            let tiles = shots.par_iter().zip(&velocities).map(shrink);
            Sheet::of(&tiles.collect::<Vec<_>>()).frame()
        });
        let clip: Vec<Frame> = clip.collect();
        let frame = pipeline::decoded(&codec.launch(strength, lookahead), &clip, before as usize);
        let frame = frame.with_context(|| {
            let elements = codec.elements().join(" and ");
            format!("cannot encode and decode by {elements}")
        })?;
        let sizes: Vec<_> = shots.iter().map(|(_, size)| **size).collect();
        let planes = shots.first().map_or(0, |(shot, _)| shot.image.planes.len());
        Sheet::from_frame(&frame, planes).cut(&sizes)
    }

    /// The frames before the one that is used.
    pub fn reach(&self) -> usize {
        self.settings.frames.saturating_sub(1)
    }
}

/// Images side by side, each in a place of the same size.
#[derive(Debug, Clone, PartialEq)]
struct Sheet(Raster);

/// The place of each image: how many there are in a row, and their size.
fn places(sizes: &[(usize, usize)]) -> (usize, (usize, usize)) {
    let columns = (1..).find(|n| n * n >= sizes.len()).unwrap_or(1);
    let side = |of: fn(&(usize, usize)) -> usize| {
        let largest = sizes.iter().map(of).max().unwrap_or(1);
        largest.next_multiple_of(BLOCK)
    };
    (columns, (side(|s| s.0), side(|s| s.1)))
}

impl Sheet {
    /// Arranges images side by side; their edges fill the gaps.
    fn of(images: &[Raster]) -> Self {
        let sizes: Vec<_> = images.iter().map(|p| p.size).collect();
        let (columns, place) = places(&sizes);
        let size = (columns * place.0, sizes.len().div_ceil(columns) * place.1);
        let planes = images.first().map_or(0, |p| p.planes.len());
        let sample = |plane: usize, x: usize, y: usize| {
            let number = y / place.1 * columns + x / place.0;
            let image = &images[number.min(images.len() - 1)];
            let (width, height) = image.size;
            let (x, y) = ((x % place.0).min(width - 1), (y % place.1).min(height - 1));
            image.planes[plane][y * width + x]
        };
        let plane = |plane: usize| {
            let rows = 0..size.1;
            rows.flat_map(|y| (0..size.0).map(move |x| (x, y)))
                .map(|(x, y)| sample(plane, x, y))
                .collect()
        };
        Self(Raster {
            size,
            planes: (0..planes).map(plane).collect(),
        })
    }

    /// The images of those sizes.
    fn cut(&self, sizes: &[(usize, usize)]) -> Result<Vec<Raster>> {
        let (columns, place) = places(sizes);
        let size = (columns * place.0, sizes.len().div_ceil(columns) * place.1);
        ensure!(
            self.0.size == size,
            "the decoder returned frames of {:?} pixels instead of {size:?}",
            self.0.size
        );
        let cut = |(i, size): (usize, &(usize, usize))| {
            let (left, top) = (i % columns * place.0, i / columns * place.1);
            self.0.crop(left, top, size.0, size.1)
        };
        Ok(sizes.iter().enumerate().map(cut).collect())
    }

    /// The sheet as a frame: a plane of luma is luma already.
    fn frame(&self) -> Frame {
        let (width, height) = self.0.size;
        let half = (width / 2, height / 2);
        let planes = match self.0.planes.as_slice() {
            [r, g, b] => {
                let matrix = YuvToRgb::new(Color::default());
                let samples = r.iter().zip(g).zip(b);
                let yuv: Vec<[f32; 3]> = samples
                    .map(|((r, g), b)| matrix.yuv([r * PEAK, g * PEAK, b * PEAK]))
                    .collect();
                let chroma = |i: usize| {
                    let at = |x: usize, y: usize| yuv[y * width + x][i];
                    let mean = |x, y| at(x, y) + at(x + 1, y) + at(x, y + 1) + at(x + 1, y + 1);
                    let rows = 0..half.1;
                    rows.flat_map(|y| (0..half.0).map(move |x| (2 * x, 2 * y)))
                        .map(|(x, y)| to_u8(mean(x, y) / 4.0))
                        .collect()
                };
                let luma = yuv.iter().map(|yuv| to_u8(yuv[0])).collect();
                [luma, chroma(1), chroma(2)]
            }
            planes => {
                let luma = planes.iter().take(1).flatten();
                let luma = luma.map(|v| to_u8(v * PEAK)).collect();
                let grey = || vec![NEUTRAL; half.0 * half.1];
                [luma, grey(), grey()]
            }
        };
        Frame {
            size: self.0.size,
            planes,
        }
    }

    /// The luma of a frame, or its red, green and blue.
    fn from_frame(frame: &Frame, planes: usize) -> Self {
        let (width, height) = frame.size;
        let floats = |plane: &Vec<u8>| plane.iter().map(|&v| f32::from(v)).collect::<Vec<_>>();
        let luma = floats(&frame.planes[0]);
        let mut raster = Raster {
            size: frame.size,
            planes: vec![luma.clone()],
        };
        if planes > 1 {
            let matrix = YuvToRgb::new(Color::default());
            let full = Resampler::resize((width / 2, height / 2), frame.size);
            let [u, v] = [1, 2].map(|i| full.apply(&floats(&frame.planes[i])));
            let samples = luma.iter().zip(&u).zip(&v);
            let rgb: Vec<_> = samples
                .map(|((y, u), v)| matrix.rgb([*y, *u, *v]))
                .collect();
            raster.planes = (0..3)
                .map(|i| rgb.iter().map(|rgb| rgb[i]).collect())
                .collect();
        }
        raster.map(|v| v / PEAK);
        raster.round();
        Self(raster)
    }
}

/// GStreamer's part.
#[cfg(feature = "video")]
mod pipeline {
    use super::Frame;
    use crate::playing::Playing;
    use anyhow::{Context, Result, ensure};

    /// Frames a second; no codec here minds.
    const RATE: u64 = 25;

    pub(super) fn prepare() -> Result<()> {
        gst::init().context("cannot start GStreamer")
    }

    pub(super) fn has(element: &str) -> bool {
        gst::ElementFactory::find(element).is_some()
    }

    /// Encodes and decodes a clip, and gives the frame of that number.
    pub(super) fn decoded(codec: &str, clip: &[Frame], number: usize) -> Result<Frame> {
        let (width, height) = clip.first().context("an empty clip")?.size;
        let playing = Playing::launch(&format!(
            "appsrc name=source format=time caps=video/x-raw,format=I420,width={width},\
             height={height},framerate={RATE}/1 ! {codec} ! video/x-raw,format=I420 ! \
             appsink name=sink sync=false"
        ))?;
        let source: gst_app::AppSrc = playing.element("source")?;
        let sink = playing.start()?;
        for (i, frame) in (0..).zip(clip) {
            source.push_buffer(buffer(frame, i)?)?;
        }
        source.end_of_stream()?;
        for _ in 0..number {
            playing.sample(&sink)?;
        }
        frame(&playing.sample(&sink)?, (width, height))
    }

    fn buffer(frame: &Frame, number: u64) -> Result<gst::Buffer> {
        let mut buffer = gst::Buffer::from_slice(frame.planes.concat());
        let unshared = buffer.get_mut().context("a shared buffer")?;
        unshared.set_pts(gst::ClockTime::from_mseconds(number * 1000 / RATE));
        unshared.set_duration(gst::ClockTime::from_mseconds(1000 / RATE));
        Ok(buffer)
    }

    /// The frame of a sample: sides are multiples of 64, so that rows are dense.
    fn frame(sample: &gst::Sample, size: (usize, usize)) -> Result<Frame> {
        let buffer = sample.buffer().context("a sample without a buffer")?;
        let map = buffer.map_readable()?;
        let (luma, chroma) = (size.0 * size.1, size.0 * size.1 / 4);
        ensure!(
            map.len() == luma + 2 * chroma,
            "frames of {} bytes came out, not of {}",
            map.len(),
            luma + 2 * chroma
        );
        let plane = |from: usize, count: usize| map[from..from + count].to_vec();
        Ok(Frame {
            size,
            planes: [
                plane(0, luma),
                plane(luma, chroma),
                plane(luma + chroma, chroma),
            ],
        })
    }
}

/// In place of GStreamer, where it was left out.
#[cfg(not(feature = "video"))]
mod pipeline {
    use super::Frame;
    use anyhow::{Result, bail};

    pub(super) fn prepare() -> Result<()> {
        bail!("this train was built without GStreamer: build it with the feature `video`")
    }

    pub(super) fn has(_: &str) -> bool {
        false
    }

    pub(super) fn decoded(_: &str, _: &[Frame], _: usize) -> Result<Frame> {
        prepare()?;
        bail!("without GStreamer there is no codec")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::TrainingImage;
    use crate::data::synthetic;
    use crate::degrade::raster::distance;
    use srfilter::models::Channels;

    fn drawing(number: usize, channels: Channels) -> Raster {
        let image = TrainingImage::new("d", &synthetic::image(1, number), channels, 1.0);
        image.window(0, 0, 0, image.size)
    }

    #[test]
    fn pictures_lie_side_by_side() {
        let images: Vec<Raster> = [(70, 40), (64, 64), (30, 9)]
            .iter()
            .enumerate()
            .map(|(i, &(w, h))| drawing(i, Channels::Rgb).crop(20, 30, w, h))
            .collect();
        let sheet = Sheet::of(&images);
        assert_eq!(sheet.0.size, (2 * 128, 2 * 64));
        let sizes: Vec<_> = images.iter().map(|p| p.size).collect();
        assert_eq!(sheet.cut(&sizes).unwrap(), images);
        assert!(sheet.cut(&sizes[..1]).is_err());
    }

    /// Without a codec only chroma between samples is lost.
    #[test]
    fn frames_show_what_they_were_made_of() {
        let soft =
            drawing(0, Channels::Rgb).resized((64, 64), crate::degrade::raster::Resize::Area);
        let smooth = bicubically(&soft, (128, 128));
        let sheet = Sheet::of(std::slice::from_ref(&smooth));
        let from_frame = Sheet::from_frame(&sheet.frame(), 3);
        assert!(distance(&from_frame.0, &smooth) < 0.02);
        let luma = drawing(0, Channels::Luma).crop(0, 0, 64, 64);
        let sheet = Sheet::of(std::slice::from_ref(&luma));
        assert_eq!(sheet.frame().planes[1], vec![NEUTRAL; 32 * 32]);
        assert!(distance(&Sheet::from_frame(&sheet.frame(), 1).0, &luma) < 1e-3);
    }

    /// By real codecs, where there are any.
    #[cfg(feature = "video")]
    mod coded {
        use super::*;
        use crate::data::TrainingImage;
        use crate::data::synthetic;
        use crate::degrade::raster::distance;
        use rand::SeedableRng;
        use srfilter::models::Channels;

        /// The codecs of this machine, one by one.
        fn present() -> Vec<Codec> {
            let codecs = Codec::ALL.into_iter().filter(|codec| {
                let elements = codec.elements().into_iter();
                elements.clone().all(pipeline::has)
            });
            pipeline::prepare().unwrap();
            let codecs: Vec<Codec> = codecs.collect();
            if codecs.is_empty() {
                println!("skipped: there is no encoder");
            }
            codecs
        }

        fn settings(codec: Codec, strength: f64) -> Video {
            Video {
                codecs: vec![codec],
                strength: [strength; 2],
                ..Video::default()
            }
        }

        fn downscaled(settings: &Video, seed: u64, channels: Channels) -> Vec<Raster> {
            let shots: Vec<Shot> = (0..3)
                .map(|number| Shot {
                    before: Vec::new(),
                    image: large(number, channels),
                    after: Vec::new(),
                })
                .collect();
            coded(settings, seed, &shots)
        }

        fn coded(settings: &Video, seed: u64, shots: &[Shot]) -> Vec<Raster> {
            let pairs: Vec<_> = shots.iter().map(|shot| (shot, &(80, 60))).collect();
            let mut rng = ChaCha8Rng::seed_from_u64(seed);
            let codecs = Codecs::new(settings).unwrap();
            codecs.downscaled(&pairs, &mut rng).unwrap()
        }

        fn large(number: usize, channels: Channels) -> Raster {
            let image = TrainingImage::new("d", &synthetic::image(1, number), channels, 1.0);
            image.window(0, 10, 20, (160, 120))
        }

        #[test]
        fn the_same_random_numbers_make_the_same_bits() {
            for codec in present() {
                let settings = settings(codec, 0.5);
                let first = downscaled(&settings, 1, Channels::Rgb);
                assert_eq!(first, downscaled(&settings, 1, Channels::Rgb), "{codec:?}");
                assert_ne!(first, downscaled(&settings, 2, Channels::Rgb), "{codec:?}");
            }
        }

        /// Every codec loses more at a higher strength, and shows the
        /// image still, at its place.
        #[test]
        fn codecs_take_away_what_they_are_told() {
            for codec in present() {
                for channels in [Channels::Luma, Channels::Rgb] {
                    let losses = [0.0, 0.5, 1.0].map(|strength| {
                        let small = downscaled(&settings(codec, strength), 1, channels);
                        assert_eq!(small.len(), 3);
                        let off = small.iter().enumerate().map(|(i, small)| {
                            let plain = bicubically(&large(i, channels), (80, 60));
                            let off = distance(small, &plain);
                            assert!(off < distance(small, &plain.moved(1, 1)), "{codec:?} {i}");
                            off
                        });
                        off.sum::<f32>() / 3.0
                    });
                    assert!(
                        losses[0] < losses[1] && losses[1] < losses[2],
                        "{codec:?} {losses:?}"
                    );
                    assert!(losses[0] > 1e-3 && losses[2] < 0.12, "{codec:?} {losses:?}");
                }
            }
        }

        /// A decoded frame depends on the frames before it.
        #[test]
        fn motion_leaves_its_traces() {
            for codec in present() {
                let still = Video {
                    motion: 0.0,
                    ..settings(codec, 0.6)
                };
                let [a, b] =
                    [&still, &settings(codec, 0.6)].map(|s| downscaled(s, 1, Channels::Luma));
                assert_ne!(a, b, "{codec:?}");
            }
        }

        #[test]
        fn a_codec_that_is_not_there_is_named() {
            let present = present();
            for codec in Codec::ALL.into_iter().filter(|c| !present.contains(c)) {
                let error = Codecs::new(&settings(codec, 0.5)).unwrap_err().to_string();
                assert!(error.contains(codec.elements()[0]), "{error}");
            }
        }

        /// Clips move as they do, and with lookahead the frames after count.
        #[test]
        fn clips_are_coded_with_their_own_frames() {
            if !present().contains(&Codec::H264) {
                return;
            }
            let frame = |x: isize| large(0, Channels::Luma).moved(x, 0);
            let other = || large(1, Channels::Luma);
            let live = Video {
                motion: 0.0,
                ..settings(Codec::H264, 0.6)
            };
            let file = Video {
                lookahead: 1.0,
                ..live.clone()
            };
            let shot = |before: &dyn Fn(isize) -> Raster, after: &dyn Fn(isize) -> Raster| Shot {
                before: (-4..0).map(before).collect(),
                image: frame(0),
                after: (1..=4).map(after).collect(),
            };
            let still = shot(&|_| frame(0), &|_| frame(0));
            let moving = shot(&|n| frame(3 * n), &|_| frame(0));
            let cut = shot(&|_| frame(0), &|_| other());
            let plain = bicubically(&frame(0), (80, 60));
            for (settings, counts) in [(live, false), (file, true)] {
                let of = |shot: &Shot| coded(&settings, 1, std::slice::from_ref(shot)).remove(0);
                let [still, moving, cut] = [&still, &moving, &cut].map(of);
                assert_ne!(still, moving);
                assert_eq!(still != cut, counts, "{settings:?}");
                for coded in [&still, &moving, &cut] {
                    // The frame of that number, not one near it.
                    assert!(distance(coded, &plain) < distance(coded, &plain.moved(1, 0)));
                }
                // A clip that stands still is an image that does.
                let image = Shot {
                    before: Vec::new(),
                    image: frame(0),
                    after: Vec::new(),
                };
                assert_eq!(of(&image), still);
            }
        }
    }
}

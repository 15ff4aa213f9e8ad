//! The encoders, and what they take.

use super::player::make;
use anyhow::{Context, Result, bail};
use clap::ValueEnum;
use gst::prelude::*;
use serde::{Deserialize, Serialize};

/// Threads of encoders whose bytes depend on their number: the same on every machine.
const THREADS: u32 = 4;

/// The video encoders.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Encoder {
    /// H.264
    X264,
    /// H.265
    X265,
    /// AV1
    Av1,
    /// VP9
    Vp9,
    /// FFV1, lossless
    Ffv1,
    /// Apple ProRes
    Prores,
}

/// HDR metadata, as caps spell it.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub(crate) struct Hdr {
    mastering_display: Option<String>,
    content_light_level: Option<String>,
}

impl Hdr {
    /// That of a stream.
    pub(crate) fn of(caps: &gst::CapsRef) -> Self {
        let text = |field| caps.structure(0)?.get::<String>(field).ok();
        Self {
            mastering_display: text("mastering-display-info"),
            content_light_level: text("content-light-level"),
        }
    }

    /// Whether there is none.
    pub(crate) fn is_empty(&self) -> bool {
        self.mastering_display.is_none() && self.content_light_level.is_none()
    }
}

/// The elements of a codec, and their settings.
struct Codec {
    element: &'static str,
    parser: Option<&'static str>,
    /// The package of Debian and Ubuntu.
    package: &'static str,
    /// Quality by default and at most, smaller is better; `None` where there is none to set.
    quality: Option<(u32, u32)>,
    /// Formats of 8 and of 10 bits.
    formats: [&'static [&'static str]; 2],
    /// What the container takes.
    caps: &'static str,
}

/// Options of libx264. The element (GStreamer 1.22, and the source of 1.29.2) does not pass on HDR
/// metadata by itself.
fn x264_options(hdr: &Hdr) -> Result<String> {
    let mut options = vec![x264_level().to_owned()];
    if let Some(display) = &hdr.mastering_display {
        // Red, green, blue, white, luminances, in libx264's units.
        let [rx, ry, gx, gy, bx, by, wx, wy, most, least] = numbers(display)?;
        options.push(format!(
            "mastering-display=G({gx},{gy})B({bx},{by})R({rx},{ry})WP({wx},{wy})L({most},{least})"
        ));
    }
    if let Some(light) = &hdr.content_light_level {
        let [most, average] = numbers(light)?;
        options.push(format!("cll={most},{average}"));
    }
    options.retain(|option| !option.is_empty());
    Ok(options.join(":"))
}

/// The numbers of a field of caps.
fn numbers<const N: usize>(field: &str) -> Result<[u32; N]> {
    let numbers = field.split(':').map(str::parse);
    let numbers = numbers.collect::<std::result::Result<Vec<u32>, _>>().ok();
    let numbers = numbers.and_then(|numbers| numbers.try_into().ok());
    numbers.with_context(|| format!("not HDR metadata: {field}"))
}

/// What keeps the bytes of libx264 the same: 0.164 (Debian 12) reads memory that it never
/// wrote, on processors with AVX-512 (findings/x264-avx512-bytes.sh).
fn x264_level() -> &'static str {
    #[cfg(target_arch = "x86_64")]
    if is_x86_feature_detected!("avx512f") {
        return "asm=avx2";
    }
    ""
}

impl Encoder {
    fn codec(self) -> Codec {
        match self {
            Self::X264 => Codec {
                element: "x264enc",
                parser: Some("h264parse"),
                package: "gstreamer1.0-plugins-ugly",
                quality: Some((18, 50)),
                formats: [
                    &["I420", "Y42B", "Y444"],
                    &["I420_10LE", "I422_10LE", "Y444_10LE"],
                ],
                caps: "video/x-h264, stream-format=avc, alignment=au",
            },
            Self::X265 => Codec {
                element: "x265enc",
                parser: Some("h265parse"),
                package: "gstreamer1.0-plugins-bad",
                quality: Some((20, 51)),
                formats: [&["I420", "Y444"], &["I420_10LE", "I422_10LE", "Y444_10LE"]],
                caps: "video/x-h265, stream-format=hvc1, alignment=au",
            },
            Self::Av1 => Codec {
                element: "av1enc",
                parser: Some("av1parse"),
                package: "gstreamer1.0-plugins-bad",
                quality: Some((24, 63)),
                formats: [
                    &["I420", "Y42B", "Y444"],
                    &["I420_10LE", "I422_10LE", "Y444_10LE"],
                ],
                caps: "video/x-av1, stream-format=obu-stream, alignment=tu",
            },
            Self::Vp9 => Codec {
                element: "vp9enc",
                parser: None,
                package: "gstreamer1.0-plugins-good",
                quality: Some((24, 63)),
                formats: [&["I420", "Y42B", "Y444"], &[]],
                caps: "video/x-vp9",
            },
            Self::Ffv1 => Codec {
                element: "avenc_ffv1",
                parser: None,
                package: "gstreamer1.0-libav",
                quality: None,
                formats: [
                    &["I420", "Y42B", "Y444"],
                    &["I420_10LE", "I422_10LE", "Y444_10LE"],
                ],
                caps: "video/x-ffv",
            },
            Self::Prores => Codec {
                element: "avenc_prores_ks",
                parser: None,
                package: "gstreamer1.0-libav",
                quality: None,
                formats: [&["I422_10LE", "Y444_10LE"], &["I422_10LE", "Y444_10LE"]],
                caps: "video/x-prores",
            },
        }
    }

    /// Whether its streams carry HDR metadata: else the container is to.
    pub(crate) fn writes_hdr(self) -> bool {
        matches!(self, Self::X264 | Self::X265)
    }

    /// The name on the command line.
    pub(crate) fn name(self) -> String {
        self.to_possible_value()
            .map_or(String::new(), |value| value.get_name().to_owned())
    }

    /// Quality by default.
    pub(crate) fn default_quality(self) -> Option<u32> {
        self.codec().quality.map(|(default, _)| default)
    }

    /// Checks that the encoder is installed, and does what it is to do.
    ///
    /// # Errors
    ///
    /// A plugin that is not installed, with its package; a depth that the encoder has not.
    pub(crate) fn check(self, bits: u32, quality: Option<u32>) -> Result<()> {
        let (codec, name) = (self.codec(), self.name());
        if gst::ElementFactory::find(codec.element).is_none() {
            bail!(
                "the encoder {name} is not installed: GStreamer has no {} ({} on Debian and Ubuntu)",
                codec.element,
                codec.package
            );
        }
        match (codec.quality, quality) {
            (None, Some(_)) => bail!("{name} has no quality to set"),
            (Some((_, most)), Some(quality)) if quality > most => {
                bail!("the quality of {name} is 0 to {most}")
            }
            _ => {}
        }
        if self.formats(bits)?.is_empty() {
            bail!("the encoder {name} has no formats of {bits} bits here");
        }
        Ok(())
    }

    /// The raw formats of a depth that the installed encoder takes.
    fn formats(self, bits: u32) -> Result<Vec<&'static str>> {
        let codec = self.codec();
        let element = make(codec.element)?;
        let template = element
            .pad_template("sink")
            .map(|template| template.caps().clone());
        let takes = |format: &&&str| {
            let caps = gst::Caps::builder("video/x-raw")
                .field("format", **format)
                .build();
            template
                .as_ref()
                .is_some_and(|template| template.can_intersect(&caps))
        };
        let formats = codec.formats[usize::from(bits > 8)];
        Ok(formats.iter().filter(takes).copied().collect())
    }

    /// The raw frames that it takes.
    ///
    /// # Errors
    ///
    /// A plugin that is not installed.
    pub(crate) fn input(self, bits: u32) -> Result<gst::Caps> {
        let formats = gst::List::new(self.formats(bits)?);
        Ok(gst::Caps::builder("video/x-raw")
            .field("format", formats)
            .build())
    }

    /// What the container takes of it.
    pub(crate) fn output(self) -> Result<gst::Caps> {
        Ok(self.codec().caps.parse()?)
    }

    /// The encoder and its parser. Every segment begins with a picture that needs no other.
    ///
    /// # Errors
    ///
    /// A plugin that is not installed, HDR metadata that cannot be read.
    pub(crate) fn elements(self, quality: Option<u32>, hdr: &Hdr) -> Result<Vec<gst::Element>> {
        let codec = self.codec();
        let encoder = make(codec.element)?;
        let quality = quality.or(self.default_quality()).unwrap_or(0);
        let set = |name: &str, value: &str| {
            // Versions of GStreamer differ in the properties that they have.
            if encoder.find_property(name).is_some() {
                encoder.set_property_from_str(name, value);
            }
        };
        let threads = THREADS.to_string();
        match self {
            Self::X264 => {
                set("pass", "qual");
                set("quantizer", &quality.to_string());
                set("speed-preset", "medium");
                set("bframes", "3");
                set("b-adapt", "true");
                set("ref", "3");
                set("key-int-max", "250");
                set("threads", &threads);
                // Else the element limits the rate by its property for it, and what comes
                // out depends on the threads.
                set("vbv-buf-capacity", "0");
                set("option-string", &x264_options(hdr)?);
            }
            Self::X265 => {
                set("speed-preset", "medium");
                set("key-int-max", "250");
                let options = format!("crf={quality}:open-gop=0:pools={threads}:frame-threads=1");
                set("option-string", &options);
                set("log-level", "error");
            }
            Self::Av1 => {
                set("end-usage", "q");
                set("cq-level", &quality.to_string());
                set("cpu-used", "6");
                set("threads", &threads);
                set("keyframe-max-dist", "250");
            }
            Self::Vp9 => {
                set("end-usage", "cq");
                set("cq-level", &quality.to_string());
                set("target-bitrate", "0");
                set("deadline", "1000000");
                set("cpu-used", "3");
                set("threads", &threads);
                set("keyframe-max-dist", "250");
            }
            Self::Ffv1 => {
                set("level", "3");
                set("gop-size", "1");
                set("slices", &threads);
            }
            Self::Prores => {}
        }
        let parser = codec.parser.map(make).transpose()?;
        Ok([encoder].into_iter().chain(parser).collect())
    }
}

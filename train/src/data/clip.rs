//! Reads clips for training.

use super::image::TrainingImage;
use anyhow::Result;
use srfilter::models::Channels;
use std::path::Path;

/// Extensions of the files that are read as clips.
pub(super) const EXTENSIONS: [&str; 9] = [
    "avi", "m4v", "mkv", "mov", "mp4", "ogv", "ts", "webm", "y4m",
];

/// Whether a file is read as a clip, by its name.
pub(super) fn is_clip(path: &Path) -> bool {
    let extension = path.extension().and_then(|extension| extension.to_str());
    extension.is_some_and(|extension| {
        let extension = extension.to_ascii_lowercase();
        EXTENSIONS.contains(&extension.as_str())
    })
}

/// Reads the frames of a clip as a network's planes: luma as the clip has it, in 8 bits.
///
/// # Errors
///
/// A file that cannot be decoded, or whose frames take too much memory.
#[cfg(feature = "video")]
pub(super) fn read(path: &Path, channels: Channels, repeat: f64) -> Result<TrainingImage> {
    frames::read(path, channels, repeat)
}

#[cfg(not(feature = "video"))]
pub(super) fn read(_: &Path, _: Channels, _: f64) -> Result<TrainingImage> {
    anyhow::bail!("this train was built without GStreamer: build it with the feature `video`")
}

#[cfg(feature = "video")]
mod frames {
    use super::TrainingImage;
    use crate::playing::Playing;
    use anyhow::{Context, Result, ensure};
    use gst::prelude::*;
    use gst_video::prelude::*;
    use srfilter::models::Channels;
    use std::path::Path;

    /// Bytes of a clip's frames at most: all clips stay in memory.
    const MOST: usize = 256 << 20;

    pub(super) fn read(path: &Path, channels: Channels, repeat: f64) -> Result<TrainingImage> {
        let format = match channels {
            Channels::Luma => "I420",
            Channels::Rgb => "RGB",
        };
        let playing = Playing::launch(&format!(
            "filesrc name=source ! decodebin ! videoconvert ! video/x-raw,format={format} ! \
             appsink name=sink sync=false max-buffers=4"
        ))?;
        let source: gst::Element = playing.element("source")?;
        source.set_property("location", path);
        let sink = playing.start()?;
        let mut clip = TrainingImage {
            name: path
                .file_name()
                .unwrap_or(path.as_os_str())
                .to_string_lossy()
                .into_owned(),
            size: (0, 0),
            planes: Vec::new(),
            frames: 0,
            repeat,
        };
        let mut bytes = 0;
        while let Some(sample) = playing.next(&sink)? {
            let (size, planes) = planes(&sample, channels)?;
            ensure!(
                clip.frames == 0 || size == clip.size,
                "its frames change their size from {:?} to {size:?}",
                clip.size
            );
            bytes += planes.iter().map(Vec::len).sum::<usize>();
            ensure!(
                bytes <= MOST,
                "its frames take more than {} MiB: cut it into shots",
                MOST >> 20
            );
            clip.size = size;
            clip.planes.extend(planes);
            clip.frames += 1;
        }
        ensure!(clip.frames > 0, "it has no frame");
        Ok(clip)
    }

    /// Width and height, and the planes.
    type Planes = ((usize, usize), Vec<Vec<u8>>);

    fn planes(sample: &gst::Sample, channels: Channels) -> Result<Planes> {
        let caps = sample.caps().context("a sample without caps")?;
        let info = gst_video::VideoInfo::from_caps(caps)?;
        let buffer = sample.buffer().context("a sample without a buffer")?;
        let frame = gst_video::VideoFrameRef::from_buffer_ref_readable(buffer, &info)?;
        let (width, height) = (info.width() as usize, info.height() as usize);
        let stride = frame.plane_stride()[0] as usize;
        let step = match channels {
            Channels::Luma => 1,
            Channels::Rgb => 3,
        };
        let rows = frame.plane_data(0)?.chunks(stride).take(height);
        let plane = |i: usize| {
            let rows = rows.clone();
            rows.flat_map(|row| row[..step * width].iter().skip(i).step_by(step).copied())
                .collect()
        };
        Ok(((width, height), (0..step).map(plane).collect()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clips_are_told_by_their_names() {
        assert!(is_clip(Path::new("a/b.MP4")) && is_clip(Path::new("b.webm")));
        assert!(!is_clip(Path::new("mp4")) && !is_clip(Path::new("b.png")));
    }

    /// Two frames of Y4M, whose second is brighter.
    #[cfg(feature = "video")]
    #[test]
    fn frames_are_read_in_their_order() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("clip.y4m");
        // The decoder of GStreamer 1.22 loses the last frame of 8x4 pixels.
        let mut file = b"YUV4MPEG2 W16 H8 F25:1 Ip A1:1 C420jpeg\n".to_vec();
        for value in [40, 90] {
            file.extend(b"FRAME\n");
            file.extend((0..128).map(|i| value + i));
            file.extend([128; 64]);
        }
        std::fs::write(&path, &file).unwrap();
        if gst::init().is_err() || gst::ElementFactory::find("y4mdec").is_none() {
            println!("skipped: there is no y4mdec");
            return;
        }
        let clip = read(&path, Channels::Luma, 2.0).unwrap();
        assert_eq!((clip.size, clip.frames, clip.repeat), ((16, 8), 2, 2.0));
        let luma = |from: u8| (from..from + 128).collect::<Vec<u8>>();
        assert_eq!(clip.planes, [luma(40), luma(90)]);
        let rgb = read(&path, Channels::Rgb, 1.0).unwrap();
        assert_eq!((rgb.planes.len(), rgb.frames), (6, 2));
        assert_eq!(rgb.planes[0], rgb.planes[2], "grey");
        std::fs::write(&path, b"no clip").unwrap();
        assert!(read(&path, Channels::Luma, 1.0).is_err());
    }
}

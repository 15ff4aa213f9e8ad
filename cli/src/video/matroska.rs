//! Mends the tags and the HDR metadata of Matroska files.

use anyhow::Result;
use gst::prelude::*;
use std::collections::HashMap;
use std::fs::File;
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::Path;

// Elements by their identifiers (RFC 9559).
const SEGMENT: u32 = 0x1853_8067;
const TRACKS: u32 = 0x1654_AE6B;
const TRACK_ENTRY: u32 = 0xAE;
const VIDEO: u32 = 0xE0;
const COLOUR: u32 = 0x55B0;
const MASTERING_METADATA: u32 = 0x55D0;
const LUMINANCE_MAX: u32 = 0x55D9;
const LUMINANCE_MIN: u32 = 0x55DA;
const TAGS: u32 = 0x1254_C367;
const TAG: u32 = 0x7373;
const SIMPLE_TAG: u32 = 0x67C8;
const TAG_STRING: u32 = 0x4487;

/// The largest string that is mended, in bytes.
const LONGEST: u64 = 1 << 16;

/// GStreamer's units of luminance in 1 cd/m2.
const LUMINANCE_UNITS: f64 = 1e4;

/// What `matroskamux` writes otherwise than it is.
#[derive(Default)]
pub(super) struct Corrections {
    /// Texts as GStreamer 1.22 writes them, and as they are: those with spaces are in quotes, with
    /// other letters than ASCII's as numbers (findings/matroska-times-and-titles.sh).
    texts: HashMap<Vec<u8>, Vec<u8>>,
    /// Maximum and minimum luminance of the mastering display in cd/m2, of which GStreamer
    /// (1.22, and the source of 1.29.2) writes a fifth (findings/hdr-of-muxers.sh).
    luminances: Option<[f64; 2]>,
}

impl Corrections {
    /// Adds the texts of tags.
    pub(super) fn add_texts(&mut self, tags: &gst::TagListRef) {
        for (_, value) in tags.iter() {
            if let (Ok(text), Ok(written)) = (value.get::<String>(), value.serialize())
                && written.as_str() != text
            {
                self.texts
                    .insert(written.as_bytes().to_vec(), text.into_bytes());
            }
        }
    }

    /// Sets the luminances that the caps of the video state.
    pub(super) fn set_luminances(&mut self, caps: &gst::CapsRef) {
        let display = gst_video::VideoMasteringDisplayInfo::from_caps(caps).ok();
        self.luminances = display.map(|display| {
            let [most, least] = [
                display.max_display_mastering_luminance(),
                display.min_display_mastering_luminance(),
            ];
            [most, least].map(|units| f64::from(units) / LUMINANCE_UNITS)
        });
    }

    /// Writes what is right into a file, in the same places.
    ///
    /// # Errors
    ///
    /// A file that cannot be read or written.
    pub(super) fn apply(&self, file: &Path) -> Result<()> {
        if self.texts.is_empty() && self.luminances.is_none() {
            return Ok(());
        }
        let mut file = File::options().read(true).write(true).open(file)?;
        let end = file.metadata()?.len();
        self.walk(&mut file, 0, end)
    }

    /// Mends what lies in a part of a file.
    fn walk(&self, file: &mut File, mut at: u64, end: u64) -> Result<()> {
        while at < end {
            file.seek(SeekFrom::Start(at))?;
            // One of unknown size ends at the end.
            let (Some(id), Some(size)) = (identifier(file)?, size(file)?) else {
                return Ok(());
            };
            let start = file.stream_position()?;
            let Some(next) = start.checked_add(size).filter(|next| *next <= end) else {
                return Ok(());
            };
            match id {
                SEGMENT | TAGS | TAG | SIMPLE_TAG | TRACKS | TRACK_ENTRY | VIDEO | COLOUR
                | MASTERING_METADATA => self.walk(file, start, next)?,
                LUMINANCE_MAX | LUMINANCE_MIN if size == 8 => {
                    if let Some([most, least]) = self.luminances {
                        let luminance = if id == LUMINANCE_MAX { most } else { least };
                        file.seek(SeekFrom::Start(start))?;
                        file.write_all(&luminance.to_be_bytes())?;
                    }
                }
                TAG_STRING if size <= LONGEST => {
                    let mut text = vec![0; size as usize];
                    file.read_exact(&mut text)?;
                    // A string ends with the first zero (RFC 8794, 7.5).
                    let written = text.split(|&byte| byte == 0).next().unwrap_or_default();
                    if let Some(known) = self.texts.get(written)
                        && known.len() <= text.len()
                    {
                        let mut known = known.clone();
                        known.resize(text.len(), 0);
                        file.seek(SeekFrom::Start(start))?;
                        file.write_all(&known)?;
                    }
                }
                _ => {}
            }
            at = next;
        }
        Ok(())
    }
}

/// The identifier of an element: its length is in the number of leading zeros.
fn identifier(file: &mut File) -> Result<Option<u32>> {
    let (first, rest) = number(file)?;
    let id = rest
        .iter()
        .fold(u64::from(first), |id, &byte| id << 8 | u64::from(byte));
    Ok(u32::try_from(id).ok())
}

/// The size of an element's data; `None` if it is unknown.
fn size(file: &mut File) -> Result<Option<u64>> {
    let (first, rest) = number(file)?;
    let mask = 0xff_u32 >> (rest.len() + 1);
    let first = u64::from(u32::from(first) & mask);
    let size = rest
        .iter()
        .fold(first, |size, &byte| size << 8 | u64::from(byte));
    let unknown = (1_u64 << (7 * (rest.len() + 1))) - 1;
    Ok((size != unknown).then_some(size))
}

/// The bytes of a number of variable length.
fn number(file: &mut File) -> Result<(u8, Vec<u8>)> {
    let mut first = [0];
    file.read_exact(&mut first)?;
    let mut rest = vec![0; (first[0].leading_zeros() as usize).min(7)];
    file.read_exact(&mut rest)?;
    Ok((first[0], rest))
}

//! The log as TensorBoard reads it: records of protocol buffers, each with
//! checksums, as described in TensorFlow's `record_writer` and `event.proto`.

use crate::log::Event;
use anyhow::{Context, Result};
use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Prefix of the names of event files, by which TensorBoard finds them.
pub const PREFIX: &str = "events.out.tfevents.";

/// The content of the first record of a file.
const VERSION: &str = "brain.Event:2";

/// CRC-32C's polynomial, bits reversed.
const CASTAGNOLI: u32 = 0x82f6_3b78;

/// Added to checksums, so that those of data that holds checksums are sound.
const MASK: u32 = 0xa282_ead8;

/// Numbers of the fields of `Event`, `SessionLog`, `Summary` and its `Value`.
mod field {
    pub(super) const WALL_TIME: u64 = 1;
    pub(super) const STEP: u64 = 2;
    pub(super) const FILE_VERSION: u64 = 3;
    pub(super) const SUMMARY: u64 = 5;
    pub(super) const SESSION_LOG: u64 = 7;
    pub(super) const STATUS: u64 = 1;
    pub(super) const VALUE: u64 = 1;
    pub(super) const TAG: u64 = 1;
    pub(super) const SIMPLE_VALUE: u64 = 2;
}

/// `SessionLog`'s status at the start of a session: later steps in earlier files
/// are void.
const START: u64 = 1;

/// Writes an event file.
#[derive(Debug)]
pub struct EventWriter {
    file: File,
    path: PathBuf,
}

impl EventWriter {
    /// Creates a file in the folder, for a run at `step`.
    ///
    /// # Errors
    ///
    /// A file that cannot be written.
    pub fn open(folder: &Path, step: u64) -> Result<Self> {
        let now = now();
        let (seconds, process) = (now.as_nanos(), std::process::id());
        let path = folder.join(format!("{PREFIX}{seconds}.{process}.srfilter"));
        let file = File::create(&path);
        let file = file.with_context(|| format!("cannot write {}", path.display()))?;
        let mut board = Self { file, path };
        board.write(&[
            double(field::WALL_TIME, now.as_secs_f64()),
            bytes(field::FILE_VERSION, VERSION.as_bytes()),
        ])?;
        board.write(&[
            double(field::WALL_TIME, now.as_secs_f64()),
            integer(field::STEP, step),
            bytes(field::SESSION_LOG, &integer(field::STATUS, START)),
        ])?;
        Ok(board)
    }

    /// Appends the numbers of a line of the log.
    ///
    /// # Errors
    ///
    /// A file that cannot be written.
    pub fn push(&mut self, event: &Event) -> Result<()> {
        let scalars = scalars(event);
        if scalars.is_empty() {
            return Ok(());
        }
        let value = |(tag, value): &(String, f64)| {
            let tag = bytes(field::TAG, tag.as_bytes());
            bytes(
                field::VALUE,
                &[tag, float(field::SIMPLE_VALUE, *value)].concat(),
            )
        };
        let values: Vec<Vec<u8>> = scalars.iter().map(value).collect();
        self.write(&[
            double(field::WALL_TIME, now().as_secs_f64()),
            integer(field::STEP, event.step()),
            bytes(field::SUMMARY, &values.concat()),
        ])
    }

    /// A record: length and data, each with its checksum.
    fn write(&mut self, fields: &[Vec<u8>]) -> Result<()> {
        let data = fields.concat();
        let length = (data.len() as u64).to_le_bytes();
        let mut record = length.to_vec();
        record.extend(checksum(&length).to_le_bytes());
        record.extend(&data);
        record.extend(checksum(&data).to_le_bytes());
        let written = self.file.write_all(&record);
        written.with_context(|| format!("cannot write {}", self.path.display()))
    }
}

/// Removes the event files of a folder.
///
/// # Errors
///
/// A file that cannot be removed.
pub fn clear(folder: &Path) -> Result<()> {
    let Ok(entries) = std::fs::read_dir(folder) else {
        return Ok(());
    };
    for entry in entries.flatten() {
        if entry.file_name().to_string_lossy().starts_with(PREFIX) {
            let path = entry.path();
            let removed = std::fs::remove_file(&path);
            removed.with_context(|| format!("cannot remove {}", path.display()))?;
        }
    }
    Ok(())
}

fn now() -> Duration {
    // A clock before 1970 is no reason to stop training.
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default()
}

/// Names and values of the scalars of an event.
fn scalars(event: &Event) -> Vec<(String, f64)> {
    match event {
        Event::Train {
            loss,
            discriminator_loss,
            lr,
            gradient_norm,
            steps_per_second,
            ..
        } => {
            let named = [
                ("loss", Some(*loss)),
                ("discriminator_loss", *discriminator_loss),
                ("learning_rate", Some(*lr)),
                ("gradient_norm", Some(*gradient_norm)),
                ("steps_per_second", Some(*steps_per_second)),
            ];
            let known = named.into_iter();
            known
                .filter_map(|(name, value)| Some((format!("train/{name}"), value?)))
                .collect()
        }
        Event::Validation { quality, gain, .. } => {
            let scales = quality.iter().flat_map(|q| {
                let name = |what: &str| format!("validation/{what} x{}", q.scale);
                [(name("psnr"), q.psnr), (name("gain"), q.gain())]
            });
            let mean = ("validation/gain".to_owned(), *gain);
            std::iter::once(mean).chain(scales).collect()
        }
        Event::Start { .. } | Event::End { .. } => Vec::new(),
    }
}

/// CRC-32C, rotated and shifted as TensorFlow's records have it.
fn checksum(data: &[u8]) -> u32 {
    let crc = !data.iter().fold(u32::MAX, |crc, byte| {
        (0..8).fold(crc ^ u32::from(*byte), |crc, _| {
            (crc >> 1) ^ (CASTAGNOLI * (crc & 1))
        })
    });
    crc.rotate_right(15).wrapping_add(MASK)
}

/// An integer, seven bits a byte.
fn varint(mut value: u64) -> Vec<u8> {
    let mut coded = Vec::new();
    while value >= 0x80 {
        coded.push(value as u8 | 0x80);
        value >>= 7;
    }
    coded.push(value as u8);
    coded
}

/// A field: its number, the kind of its coding, its content.
fn coded(number: u64, kind: u64, content: &[u8]) -> Vec<u8> {
    [&varint(number << 3 | kind), content].concat()
}

fn integer(number: u64, value: u64) -> Vec<u8> {
    coded(number, 0, &varint(value))
}

fn double(number: u64, value: f64) -> Vec<u8> {
    coded(number, 1, &value.to_le_bytes())
}

fn bytes(number: u64, value: &[u8]) -> Vec<u8> {
    coded(number, 2, &[&varint(value.len() as u64), value].concat())
}

fn float(number: u64, value: f64) -> Vec<u8> {
    coded(number, 5, &(value as f32).to_le_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::run::validation::Quality;
    use srfilter::Scale;

    /// What a field holds.
    #[derive(Debug, PartialEq)]
    enum Content {
        Number(u64),
        Bytes(Vec<u8>),
    }

    /// The fields of a message, as any reader of protocol buffers takes them.
    fn fields(mut data: &[u8]) -> Vec<(u64, Content)> {
        fn number(data: &mut &[u8]) -> u64 {
            let mut value = 0;
            for shift in (0..64).step_by(7) {
                let byte = data[0];
                *data = &data[1..];
                value |= u64::from(byte & 0x7f) << shift;
                if byte < 0x80 {
                    break;
                }
            }
            value
        }
        let mut found = Vec::new();
        while !data.is_empty() {
            let key = number(&mut data);
            let length = match key & 7 {
                0 => {
                    found.push((key >> 3, Content::Number(number(&mut data))));
                    continue;
                }
                1 => 8,
                2 => number(&mut data) as usize,
                5 => 4,
                kind => panic!("kind {kind}"),
            };
            found.push((key >> 3, Content::Bytes(data[..length].to_vec())));
            data = &data[length..];
        }
        found
    }

    /// The records of a file, their checksums checked.
    fn records(mut file: &[u8]) -> Vec<Vec<u8>> {
        let mut found = Vec::new();
        while !file.is_empty() {
            let length = u64::from_le_bytes(file[..8].try_into().unwrap()) as usize;
            let sum = |at: usize| u32::from_le_bytes(file[at..at + 4].try_into().unwrap());
            let data = &file[12..12 + length];
            assert_eq!(sum(8), checksum(&file[..8]));
            assert_eq!(sum(12 + length), checksum(data));
            found.push(data.to_vec());
            file = &file[16 + length..];
        }
        found
    }

    /// Tags and values of a summary.
    fn values(record: &[u8]) -> Vec<(String, f32)> {
        let summary = fields(record)
            .into_iter()
            .find(|(n, _)| *n == field::SUMMARY);
        let Some((_, Content::Bytes(summary))) = summary else {
            return Vec::new();
        };
        let value = |(number, content): (u64, Content)| {
            assert_eq!(number, field::VALUE);
            let Content::Bytes(value) = content else {
                panic!("a value is a message")
            };
            let mut parts = fields(&value).into_iter();
            let mut part = |expected: u64| match parts.next() {
                Some((number, Content::Bytes(bytes))) if number == expected => bytes,
                other => panic!("{other:?}"),
            };
            let tag = String::from_utf8(part(field::TAG)).unwrap();
            let value: [u8; 4] = part(field::SIMPLE_VALUE).try_into().unwrap();
            (tag, f32::from_le_bytes(value))
        };
        fields(&summary).into_iter().map(value).collect()
    }

    #[test]
    fn comes_back_when_parsed() {
        let dir = tempfile::tempdir().unwrap();
        let mut board = EventWriter::open(dir.path(), 300).unwrap();
        let train = Event::Train {
            step: 320,
            loss: 0.5,
            discriminator_loss: None,
            lr: 1e-3,
            gradient_norm: 2.0,
            steps_per_second: 4.0,
        };
        let validation = Event::Validation {
            step: 400,
            quality: vec![Quality {
                scale: Scale::whole(2),
                psnr: 33.5,
                bicubic: 32.0,
            }],
            gain: 1.5,
        };
        board.push(&train).unwrap();
        board.push(&validation).unwrap();
        let path = std::fs::read_dir(dir.path())
            .unwrap()
            .next()
            .unwrap()
            .unwrap()
            .path();
        assert!(
            path.file_name()
                .unwrap()
                .to_string_lossy()
                .starts_with(PREFIX)
        );
        let records = records(&std::fs::read(path).unwrap());
        assert_eq!(records.len(), 4);
        let version = Content::Bytes(VERSION.as_bytes().to_vec());
        assert!(fields(&records[0]).contains(&(field::FILE_VERSION, version)));
        let steps = [1, 2, 3].map(|i| {
            let mut fields = fields(&records[i]).into_iter();
            fields.find(|(number, _)| *number == field::STEP).unwrap().1
        });
        assert_eq!(steps, [300, 320, 400].map(Content::Number));
        let started = Content::Bytes(vec![8, 1]);
        assert!(fields(&records[1]).contains(&(field::SESSION_LOG, started)));
        let named = |pairs: &[(&str, f32)]| -> Vec<(String, f32)> {
            pairs.iter().map(|(n, v)| ((*n).to_owned(), *v)).collect()
        };
        let expected = [
            ("train/loss", 0.5),
            ("train/learning_rate", 1e-3),
            ("train/gradient_norm", 2.0),
            ("train/steps_per_second", 4.0),
        ];
        assert_eq!(values(&records[2]), named(&expected));
        let expected = [
            ("validation/gain", 1.5),
            ("validation/psnr x2", 33.5),
            ("validation/gain x2", 1.5),
        ];
        assert_eq!(values(&records[3]), named(&expected));
        clear(dir.path()).unwrap();
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
    }

    /// RFC 3720, appendix B.4, and the mask undone.
    #[test]
    fn the_checksum_is_castagnolis() {
        let plain = |data: &[u8]| checksum(data).wrapping_sub(MASK).rotate_left(15);
        assert_eq!(plain(&[0; 32]), 0x8a91_36aa);
        assert_eq!(plain(&[0xff; 32]), 0x62a8_ab43);
        let ascending: Vec<u8> = (0..32).collect();
        assert_eq!(plain(&ascending), 0x46dd_794e);
        assert_eq!(plain(b"123456789"), 0xe306_9283);
    }
}

use super::*;
use crate::{Error, Image};
use std::num::NonZeroU32;
use std::path::{Path, PathBuf};

/// A folder for a test's files.
struct Desk(tempfile::TempDir);

impl Desk {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn put(&self, name: &str, bytes: &[u8]) -> PathBuf {
        let path = self.path(name);
        std::fs::write(&path, bytes).unwrap();
        path
    }

    /// The bytes of a file that the library writes.
    fn saved(&self, name: &str, image: &Image) -> Vec<u8> {
        let path = self.path(name);
        image.save(&path).unwrap();
        std::fs::read(path).unwrap()
    }
}

fn drawn(width: usize, height: usize, channels: usize) -> Image {
    let mut image = Image::new(width, height, channels);
    let values = image.data.iter_mut().enumerate();
    values.for_each(|(i, v)| *v = (i * 7 % 251) as u8);
    image
}

fn problem(path: &Path) -> String {
    Image::open(path).unwrap_err().to_string()
}

#[test]
fn saves_and_opens() {
    let desk = Desk::new();
    for extension in ["png", "bmp", "webp", "tif", "TIFF"] {
        for channels in [1, 3, 4] {
            let picture = drawn(5, 3, channels);
            let path = desk.path(&format!("{channels}.{extension}"));
            picture.save(&path).unwrap();
            let opened = Image::open(&path).unwrap();
            // WebP and BMP of this library's encoders have no grey.
            match (channels, extension) {
                (1, "webp" | "bmp") => assert_eq!(opened.to_rgb(), picture.to_rgb()),
                _ => assert_eq!(opened, picture, "{extension}"),
            }
        }
    }
}

/// GIF has 256 colours a frame, and no alpha but none.
#[test]
fn a_gif_of_few_colours_stays_as_it_is() {
    let desk = Desk::new();
    let mut picture = Image::new(6, 4, 3);
    picture.data[7] = 255;
    desk.saved("a.gif", &picture);
    assert_eq!(Image::open(desk.path("a.gif")).unwrap(), picture);
}

#[test]
fn names_the_file_it_cannot_read() {
    let desk = Desk::new();
    let error = problem(&desk.path("missing.png"));
    assert!(error.contains("missing.png"), "{error}");
    for (name, bytes, word) in [
        ("broken.png", &b"\x89PNG\r\n\x1a\nxx"[..], "not a usable"),
        (
            "text.png",
            b"hello, I am text",
            "its content is none of png",
        ),
        (
            "a.png",
            b"\0\0\0\x1cftypavif\0\0\0\0",
            "AVIF is not read: convert",
        ),
    ] {
        let error = problem(&desk.put(name, bytes));
        assert!(error.contains(name) && error.contains(word), "{error}");
    }
}

/// A thumbnail in the header of a JPEG file, with an end mark of its own.
fn with_thumbnail(jpeg: &[u8]) -> Vec<u8> {
    let mut thumbnail = b"Exif\0\0MM\0\x2A\0\0\0\x08\0\0\0\0\0\0".to_vec();
    thumbnail.extend_from_slice(jpeg);
    let mut file = jpeg[..2].to_vec();
    file.extend_from_slice(&[0xFF, 0xE1]);
    file.extend_from_slice(&(thumbnail.len() as u16 + 2).to_be_bytes());
    file.extend_from_slice(&thumbnail);
    file.extend_from_slice(&jpeg[2..]);
    file
}

#[test]
fn a_jpeg_that_is_cut_short_is_refused() {
    let desk = Desk::new();
    for (size, channels) in [((64, 64), 3), ((61, 70), 1), ((16, 200), 3)] {
        let jpeg = desk.saved("whole.jpg", &drawn(size.0, size.1, channels));
        let whole = Image::open(desk.path("whole.jpg")).unwrap();
        let photo = with_thumbnail(&jpeg);
        let open = |bytes: &[u8]| Image::open(desk.put("photo.jpg", bytes));
        assert_eq!(open(&photo).unwrap(), whole);
        // Without its end mark, or with half of it, all rows are there.
        assert_eq!(open(&photo[..photo.len() - 2]).unwrap(), whole);
        assert_eq!(open(&photo[..photo.len() - 1]).unwrap(), whole);
        for missing in [8, 100, jpeg.len() / 2] {
            let cut = &photo[..photo.len() - missing];
            let ended = [cut, &[0xFF, 0xD9]].concat();
            for bytes in [cut, &ended] {
                let error = open(bytes).unwrap_err().to_string();
                assert!(
                    error.contains("photo.jpg") && error.contains("cut short"),
                    "{missing} bytes are missing: {error}"
                );
            }
        }
    }
}

/// Rows of one colour need few bits: the decoder has read them ahead.
#[test]
fn an_even_jpeg_is_whole() {
    let desk = Desk::new();
    for size in [(1, 1), (8, 8), (16, 300), (300, 16)] {
        let picture = Image::new(size.0, size.1, 3);
        let bytes = desk.saved("even.jpg", &picture);
        assert_eq!(Image::open(desk.path("even.jpg")).unwrap(), picture);
        let path = desk.put("even.jpg", &bytes[..bytes.len() - 2]);
        assert_eq!(Image::open(path).unwrap(), picture);
    }
}

/// A grey progressive JPEG of 32x8 pixels: the mean of each block, 4 above the last
/// one's, in one scan and no details in another.
fn progressive() -> Vec<u8> {
    let mut file = b"\xFF\xD8\xFF\xDB\0\x43\0".to_vec();
    file.extend([8; 64]);
    file.extend(b"\xFF\xC2\0\x0B\x08\0\x08\0\x20\x01\x01\x11\0");
    // Codes of one bit: a difference of 3 bits, and the end of a block.
    for (table, symbol) in [(0x00, 3), (0x10, 0)] {
        file.extend([0xFF, 0xC4, 0, 20, table, 1]);
        file.extend([0; 15]);
        file.push(symbol);
    }
    file.extend(b"\xFF\xDA\0\x08\x01\x01\0\0\0\0\x44\x44");
    file.extend(b"\xFF\xDA\0\x08\x01\x01\0\x01\x3F\0\x0F\xFF\xD9");
    file
}

#[test]
fn a_progressive_jpeg_is_whole_with_or_without_its_end_mark() {
    let desk = Desk::new();
    let file = progressive();
    let open = |bytes: &[u8]| Image::open(desk.put("p.jpg", bytes));
    let whole = open(&file).unwrap();
    let blocks: Vec<u8> = (0..4).map(|i| whole.data[8 * i]).collect();
    assert_eq!(blocks, [132, 136, 140, 144]);
    assert_eq!(open(&file[..file.len() - 2]).unwrap(), whole);
    // In the second scan, and in the first.
    for missing in [3, 14] {
        let cut = &file[..file.len() - missing];
        for bytes in [cut, &[cut, &[0xFF, 0xD9]].concat()] {
            let error = open(bytes).unwrap_err().to_string();
            assert!(error.contains("cut short"), "{missing}: {error}");
        }
    }
}

#[test]
fn other_files_that_are_cut_short_are_refused() {
    let desk = Desk::new();
    for name in ["a.png", "a.bmp", "a.webp", "a.tif", "a.gif"] {
        let bytes = desk.saved(name, &drawn(40, 40, 3));
        assert!(Image::open(desk.path(name)).is_ok());
        let path = desk.put(name, &bytes[..bytes.len() / 2]);
        let error = problem(&path);
        assert!(error.contains(name), "{error}");
    }
}

/// Orientation 6 of EXIF: the camera was held upright, turn right to view.
const TURNED: &[u8] = b"MM\0\x2A\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0\x06\0\0\0\0\0\0";

/// The same for an image that is upright.
const UPRIGHT: &[u8] = b"MM\0\x2A\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0\x01\0\0\0\0\0\0";

/// As much of a profile as tells what it describes.
fn profile(space: &[u8; 4]) -> Vec<u8> {
    let mut profile = vec![0; 128];
    profile[16..20].copy_from_slice(space);
    profile
}

fn density(x: u32, y: u32, unit: DensityUnit) -> Option<Density> {
    Some(Density { x, y, unit })
}

#[test]
fn pictures_are_turned_as_their_camera_noted() {
    let desk = Desk::new();
    let metadata = Metadata {
        exif: Some(TURNED.to_vec()),
        density: density(300, 200, DensityUnit::Inch),
        ..Metadata::default()
    };
    for name in ["upright.jpg", "upright.png", "upright.webp"] {
        let path = desk.path(name);
        write(&path, &drawn(16, 8, 3), &metadata).unwrap();
        let file = ImageFile::open(&path).unwrap();
        assert_eq!(file.size(), (8, 16), "before any pixel is decoded: {name}");
        let picture = file.decode().unwrap();
        assert_eq!((picture.width, picture.height), (8, 16));
        // The result would else be turned twice.
        assert_eq!(file.metadata().exif.as_deref(), Some(UPRIGHT), "{name}");
        let turned = file.metadata().density;
        match name {
            "upright.jpg" => assert_eq!(turned, density(200, 300, DensityUnit::Inch)),
            "upright.png" => assert_eq!(turned, density(7874, 11811, DensityUnit::Meter)),
            _ => assert_eq!(turned, None),
        }
    }
}

#[test]
fn metadata_goes_from_format_to_format() {
    let desk = Desk::new();
    let metadata = Metadata {
        icc_profile: Some(profile(b"RGB ")),
        exif: Some(UPRIGHT.to_vec()),
        density: density(11811, 11811, DensityUnit::Meter),
        ..Metadata::default()
    };
    for (name, lost, per_length) in [
        ("a.png", &[][..], metadata.density),
        ("a.jpg", &[], density(300, 300, DensityUnit::Inch)),
        ("a.webp", &["density"], None),
        ("a.tif", &["colour profile", "EXIF", "density"], None),
        ("a.bmp", &["colour profile", "EXIF", "density"], None),
        ("a.gif", &["colour profile", "EXIF", "density"], None),
    ] {
        let path = desk.path(name);
        let left_out = check_output(&path, (9, 9), 3, 1, &metadata).unwrap();
        assert_eq!(left_out, lost, "{name}");
        write(&path, &drawn(9, 9, 3), &metadata).unwrap();
        let file = ImageFile::open(&path).unwrap();
        let kept = |part: &str| !lost.contains(&part);
        let profile = metadata.icc_profile.clone();
        assert_eq!(
            file.metadata().icc_profile,
            profile.filter(|_| kept("colour profile")),
            "{name}"
        );
        assert_eq!(
            file.metadata().exif,
            metadata.exif.clone().filter(|_| kept("EXIF")),
            "{name}"
        );
        assert_eq!(file.metadata().density, per_length, "{name}");
    }
}

/// Else a viewer takes RGB for inks.
#[test]
fn a_profile_of_other_channels_is_left_out_and_named() {
    let desk = Desk::new();
    for (space, channels, suits) in [
        (b"RGB ", 3, true),
        (b"RGB ", 4, true),
        (b"GRAY", 1, true),
        (b"GRAY", 3, false),
        (b"RGB ", 1, false),
        (b"CMYK", 3, false),
    ] {
        let metadata = Metadata {
            icc_profile: Some(profile(space)),
            ..Metadata::default()
        };
        let path = desk.path("a.png");
        let lost = check_output(&path, (9, 9), channels, 1, &metadata).unwrap();
        assert_eq!(lost.is_empty(), suits, "{space:?}");
        write(&path, &drawn(9, 9, channels), &metadata).unwrap();
        let file = ImageFile::open(&path).unwrap();
        assert_eq!(file.metadata().icc_profile.is_some(), suits);
    }
}

/// A PNG file of that size and colour without any pixel.
fn empty_png(side: u32, color: png::ColorType, density: Option<png::PixelDimensions>) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut encoder = png::Encoder::new(&mut bytes, side, side);
    encoder.set_color(color);
    encoder.set_depth(png::BitDepth::Sixteen);
    encoder.set_pixel_dims(density);
    encoder.set_source_gamma(png::ScaledFloat::from_scaled(100_000));
    let mut writer = encoder.write_header().unwrap();
    writer
        .write_chunk(png::chunk::cICP, &[9, 16, 0, 1])
        .unwrap();
    writer.write_chunk(png::chunk::IDAT, &[]).unwrap();
    drop(writer);
    bytes
}

/// HDR and linear PNG files have no profile, but chunks.
#[test]
fn the_colour_space_of_a_png_file_is_kept() {
    let desk = Desk::new();
    let path = desk.put("hdr.png", &empty_png(4, png::ColorType::Rgb, None));
    let file = ImageFile::open(path).unwrap();
    let again = desk.path("again.png");
    write(&again, &drawn(4, 4, 3), file.metadata()).unwrap();
    let again = ImageFile::open(&again).unwrap();
    assert_eq!(again.metadata(), file.metadata());
    assert!(again.metadata().png_color.gamma.is_some());
    assert!(again.metadata().png_color.code_points.is_some());
}

/// The file has no pixels: were any decoded, the error would be another one.
#[test]
fn a_size_is_judged_by_the_header() {
    let desk = Desk::new();
    let path = desk.put("huge.png", &empty_png(200_000, png::ColorType::Rgba, None));
    assert_eq!(ImageFile::open(&path).unwrap().size(), (200_000, 200_000));
    let error = problem(&path);
    // 8 bytes a pixel, twice.
    assert!(
        error.contains("huge.png: 200000x200000 pixels need 610351 MiB to read"),
        "{error}"
    );
    let error = problem(&desk.put("small.png", &empty_png(2, png::ColorType::Rgba, None)));
    assert!(error.contains("not a usable picture"), "{error}");
}

#[test]
fn what_a_format_cannot_hold_is_refused_before_it_is_computed() {
    let none = Metadata::default();
    let check = |name: &str, size, channels, frames| {
        check_output(Path::new(name), size, channels, frames, &none).map_err(|e| e.to_string())
    };
    for (name, most) in [("a.webp", 16_383), ("a.jfif", 65_535), ("a.gif", 65_535)] {
        assert!(check(name, (most, most), 3, 1).is_ok());
        for size in [(most + 1, 9), (9, most + 1)] {
            let error = check(name, size, 3, 1).unwrap_err();
            let figures = format!("at most {most} pixels a side, not {}x{}", size.0, size.1);
            assert!(error.contains(name) && error.contains(&figures), "{error}");
        }
    }
    assert!(check("a.png", (1 << 20, 1 << 20), 3, 1).is_ok());
    let error = check("a.jpg", (9, 9), 4, 1).unwrap_err();
    assert!(
        error.contains("transparency") && error.contains(".png"),
        "{error}"
    );
    assert!(check("a.png", (9, 9), 4, 2).is_ok());
    let error = check("a.webp", (9, 9), 4, 2).unwrap_err();
    assert!(error.contains("APNG") && error.contains(".gif"), "{error}");
    let error = check("a.xyz", (9, 9), 3, 1).unwrap_err();
    assert!(error.contains("a.xyz") && error.contains("jfif"), "{error}");
}

#[test]
fn sixteen_bits_go_through() {
    let desk = Desk::new();
    for channels in [1, 3, 4] {
        let mut picture = DeepImage::new(5, 3, channels);
        let samples = picture.data.chunks_exact_mut(2).enumerate();
        for (i, sample) in samples {
            let value = match channels == 3 && i % 4 == 3 {
                true => u16::MAX,
                false => (i * 4_099 % 65_521) as u16,
            };
            sample.copy_from_slice(&value.to_le_bytes());
        }
        for name in ["deep.png", "deep.tif"] {
            let path = desk.path(name);
            let bytes = encode_deep(&path, &picture, &Metadata::default()).unwrap();
            let file = ImageFile::open(desk.put(name, &bytes)).unwrap();
            assert!(file.is_deep());
            assert_eq!(file.decode_deep().unwrap(), picture, "{name}");
            let rounded = file.decode().unwrap();
            assert_eq!(rounded.channels, channels);
            // 4099 of 65535 is 16 of 255.
            let second = if channels == 1 { 1 } else { channels };
            let value = if channels == 1 { 16 } else { 64 };
            assert_eq!(rounded.data[second], value, "{name}");
        }
        let error = encode_deep(
            Path::new("a.jfif"),
            &DeepImage::new(2, 2, 3),
            &Metadata::default(),
        );
        let error = error.unwrap_err().to_string();
        assert!(
            error.contains("a.jfif") && error.contains(".tif"),
            "{error}"
        );
    }
    desk.saved("flat.png", &drawn(3, 3, 3));
    assert!(!ImageFile::open(desk.path("flat.png")).unwrap().is_deep());
}

#[test]
fn further_pages_are_said() {
    let desk = Desk::new();
    let mut bytes = std::io::Cursor::new(Vec::new());
    let mut encoder = tiff::encoder::TiffEncoder::new(&mut bytes).unwrap();
    for value in [10, 20] {
        encoder
            .write_image::<tiff::encoder::colortype::Gray8>(1, 1, &[value])
            .unwrap();
    }
    let file = ImageFile::open(desk.put("pages.tif", bytes.get_ref())).unwrap();
    assert!(file.has_further_pages());
    assert_eq!(file.decode().unwrap().data, [10]);
}

/// Frames of one colour each, opaque or not.
fn frames(size: (usize, usize)) -> Vec<AnimationFrame> {
    let colors = [[255, 0, 0, 255], [0, 0, 255, 255], [0, 255, 0, 255]];
    let frame = |(i, color): (usize, &[u8; 4])| AnimationFrame {
        image: Image {
            width: size.0,
            height: size.1,
            channels: 4,
            data: color.repeat(size.0 * size.1),
        },
        delay: Delay {
            numerator: 40 * (i as u32 + 1),
            denominator: 1,
        },
    };
    colors.iter().enumerate().map(frame).collect()
}

#[test]
fn animations_are_read_and_written_frame_by_frame() {
    let desk = Desk::new();
    let animation = Animation {
        size: (7, 5),
        frames: 3,
        plays: NonZeroU32::new(4),
    };
    for name in ["a.png", "a.gif"] {
        let path = desk.path(name);
        let metadata = Metadata::default();
        let drawn = frames((7, 5)).into_iter().map(Ok);
        let bytes = encode_animation(&path, &animation, &metadata, drawn).unwrap();
        desk.put(name, &bytes);
        let file = ImageFile::open(&path).unwrap();
        assert_eq!(file.frame_count(), 3, "{name}");
        let (read, images) = file.frames().unwrap();
        assert_eq!(read, animation, "{name}");
        let images: Vec<_> = images.collect::<crate::Result<_>>().unwrap();
        for (image, expected) in images.iter().zip(frames((7, 5))) {
            assert_eq!(image.image, expected.image, "{name}");
            assert_eq!(
                image.delay.milliseconds(),
                expected.delay.milliseconds(),
                "{name}"
            );
        }
        // Never its first frame in silence.
        let error = file.decode().unwrap_err().to_string();
        assert!(error.contains("an animation of 3 frames"), "{error}");
    }
}

#[test]
fn an_animation_that_is_cut_short_is_no_file() {
    let animation = Animation {
        size: (7, 5),
        frames: 3,
        plays: None,
    };
    let metadata = Metadata::default();
    let problem = |name: &str, frames: Vec<crate::Result<AnimationFrame>>| {
        let frames = frames.into_iter();
        let result = encode_animation(Path::new(name), &animation, &metadata, frames);
        result.unwrap_err().to_string()
    };
    let drawn = |size| frames(size).into_iter().map(Ok);
    for name in ["a.png", "a.gif"] {
        let error = problem(name, drawn((7, 5)).take(2).collect());
        assert!(error.contains("2 of 3 frames"), "{error}");
        let error = problem(name, drawn((7, 5)).chain(drawn((7, 5))).collect());
        assert!(error.contains("frame 4"), "{error}");
        let error = problem(name, drawn((7, 4)).collect());
        assert!(error.contains("frame 1 is 7x4"), "{error}");
        let error = problem(name, vec![Err(Error::Frame("broken frame".to_owned()))]);
        assert_eq!(error, "broken frame");
    }
}

/// A part of a frame lies on what was there before.
#[test]
fn frames_of_a_gif_are_whole() {
    let desk = Desk::new();
    let mut bytes = Vec::new();
    let palette = [255, 0, 0, 0, 0, 255];
    let mut encoder = gif::Encoder::new(&mut bytes, 4, 4, &palette).unwrap();
    for (side, at, color) in [(4, 0, 0), (2, 1, 1)] {
        let pixels = vec![color; usize::from(side) * usize::from(side)];
        let mut frame = gif::Frame::from_indexed_pixels(side, side, pixels, None);
        (frame.left, frame.top) = (at, at);
        encoder.write_frame(&frame).unwrap();
    }
    drop(encoder);
    let file = ImageFile::open(desk.put("part.gif", &bytes)).unwrap();
    let frames: Vec<_> = file
        .frames()
        .unwrap()
        .1
        .collect::<crate::Result<_>>()
        .unwrap();
    assert_eq!(frames.len(), 2);
    let second = &frames[1].image;
    assert_eq!((second.width, second.height), (4, 4));
    assert_eq!(second.data[..4], [255, 0, 0, 255]);
    assert_eq!(second.data[(4 + 1) * 4..][..4], [0, 0, 255, 255]);
}

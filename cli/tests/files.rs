//! What `sr upscale` does with files: metadata, animations, sizes, folders.

#![allow(clippy::unwrap_used)] // Helpers of tests may fail like tests.

mod common;

use common::{Desk, Run, sr};
use srfilter::folder_lock::FolderLock;
use srfilter::frame::Image;
use srfilter::image_files::{
    Animation, AnimationFrame, DeepImage, Delay, Density, DensityUnit, ImageFile, Metadata,
    encode_animation, encode_deep, write,
};
use std::path::Path;

/// `sr upscale` by bicubic interpolation, which is quick.
fn upscale(input: &str, output: &str, flags: &[&str]) -> Run {
    let args = ["upscale", input, output, "-m", "bicubic"];
    sr(args.into_iter().chain(flags.iter().copied()))
}

fn names(folder: &str) -> Vec<String> {
    let entries = std::fs::read_dir(folder).unwrap();
    let mut names: Vec<_> = entries
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

#[test]
fn keeps_profile_density_and_exif() {
    let desk = Desk::new();
    let mut profile = vec![0; 128];
    profile[16..20].copy_from_slice(b"RGB ");
    // The camera was held upright: the output is turned, and says so.
    let exif = b"MM\0\x2A\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0\x06\0\0\0\0\0\0".to_vec();
    let mut metadata = Metadata::default();
    metadata.icc_profile = Some(profile.clone());
    metadata.exif = Some(exif.clone());
    metadata.density = Some(Density {
        x: 300,
        y: 300,
        unit: DensityUnit::Inch,
    });
    let mut upright = exif;
    upright[19] = 1;
    for input in ["in.jpg", "in.png", "in.webp"] {
        let input = desk.path(input);
        write(Path::new(&input), &Image::new(20, 10, 3), &metadata).unwrap();
        for output in ["out.jpg", "out.png", "out.webp"] {
            let output = desk.path(output);
            upscale(&input, &output, &["--force"]).ok();
            let file = ImageFile::open(&output).unwrap();
            assert_eq!(file.size(), (20, 40));
            let read = file.metadata();
            assert_eq!(read.icc_profile.as_ref(), Some(&profile), "{output}");
            assert_eq!(read.exif.as_ref(), Some(&upright), "{output}");
            let dpi = match (&input, &output) {
                (input, output) if format!("{input}{output}").contains("webp") => None,
                (_, output) if output.ends_with("jpg") => Some((300, DensityUnit::Inch)),
                _ => Some((11_811, DensityUnit::Meter)),
            };
            assert_eq!(read.density.map(|d| (d.x, d.unit)), dpi, "{input} {output}");
        }
    }
    let run = upscale(&desk.path("in.jpg"), &desk.path("out.bmp"), &[]).ok();
    let said = "out.bmp: this file cannot hold the input's colour profile, EXIF, density";
    assert!(run.stderr.contains(said), "{}", run.stderr);
}

/// A ramp of fewer steps than 8 bits have between two values.
#[test]
fn sixteen_bits_stay_sixteen() {
    let desk = Desk::new();
    let value = |x: usize| 30_000 + 16 * x as u16;
    for channels in [1, 3, 4] {
        let mut ramp = DeepImage::new(64, 8, channels);
        let held = if channels == 1 { 1 } else { 4 };
        for (i, sample) in ramp.data.chunks_exact_mut(2).enumerate() {
            let value = match held == 4 && i % 4 == 3 {
                true => u16::MAX,
                false => value(i / held % 64),
            };
            sample.copy_from_slice(&value.to_le_bytes());
        }
        let input = desk.path("in.png");
        let bytes = encode_deep(Path::new(&input), &ramp, &Metadata::default()).unwrap();
        std::fs::write(&input, bytes).unwrap();
        for output in ["out.png", "out.tif"] {
            let output = desk.path(output);
            let run = upscale(&input, &output, &["--force"]).ok();
            assert_eq!(run.stderr, "");
            let file = ImageFile::open(&output).unwrap();
            assert!(file.is_deep() && file.channels() == channels);
            let result = file.decode_deep().unwrap();
            // Bicubic interpolation of a ramp is the ramp, a quarter of a step aside.
            for x in 8..120 {
                let at = 2 * held * (128 * 7 + x);
                let read = u16::from_le_bytes([result.data[at], result.data[at + 1]]);
                let expected = 30_000.0 + 16.0 * (x as f64 / 2.0 - 0.25);
                let off = f64::from(read) - expected;
                assert!(off.abs() < 2.0, "{output} {channels}: {x} is off by {off}");
            }
        }
        let run = upscale(&input, &desk.path("out.bmp"), &["--force"]).ok();
        assert!(
            run.stderr.contains("in.png: rounded to 8 bit"),
            "{}",
            run.stderr
        );
    }
}

/// Three frames of one colour each, of 10x8 pixels.
fn animation(desk: &Desk, name: &str) -> String {
    let frame = |color: [u8; 4]| {
        let mut image = Image::new(10, 8, 4);
        image.data = color.repeat(80);
        let delay = Delay {
            numerator: 70,
            denominator: 1,
        };
        Ok(AnimationFrame { image, delay })
    };
    let frames = [[255, 0, 0, 255], [0, 255, 0, 255], [0, 0, 255, 255]];
    let about = Animation {
        size: (10, 8),
        frames: 3,
        plays: None,
    };
    let path = desk.path(name);
    let frames = frames.map(frame).into_iter();
    let bytes = encode_animation(Path::new(&path), &about, &Metadata::default(), frames);
    std::fs::write(&path, bytes.unwrap()).unwrap();
    path
}

#[test]
fn animations_are_upscaled_frame_by_frame() {
    let desk = Desk::new();
    for input in ["in.gif", "in.png"] {
        let input = animation(&desk, input);
        for output in ["out.gif", "out.png"] {
            let output = desk.path(output);
            let run = upscale(&input, &output, &["--force"]).ok();
            assert!(run.stdout.contains("20x16, 3 frames"), "{}", run.stdout);
            let file = ImageFile::open(&output).unwrap();
            let (about, frames) = file.frames().unwrap();
            assert_eq!((about.size, about.frames, about.plays), ((20, 16), 3, None));
            let frames: Vec<_> = frames.map(Result::unwrap).collect();
            for (i, frame) in frames.iter().enumerate() {
                assert_eq!(frame.delay.milliseconds(), 70);
                let mut color = [0, 0, 0, 255];
                color[i] = 255;
                assert_eq!(frame.image.data, color.repeat(320), "{output} {i}");
            }
        }
        let run = upscale(&input, &desk.path("out.webp"), &[]);
        run.fails(
            1,
            &["out.webp", "animations are written as PNG (APNG) or GIF"],
        );
        // Measured they would be by their first frame, in silence.
        let folder = desk.path("");
        sr(["evaluate", "--scale", "2", "--data", &folder]).fails(1, &["an animation of 3"]);
    }
}

/// The first chunks of a PNG file of that size, without pixels: were any decoded,
/// the error would be another one.
fn header(side: u32) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut encoder = image::codecs::png::PngEncoder::new(&mut bytes);
    image::ImageEncoder::set_exif_metadata(&mut encoder, vec![0; 8]).unwrap();
    let pixel = image::ExtendedColorType::L8;
    image::ImageEncoder::write_image(encoder, &[0], 1, 1, pixel).unwrap();
    let mut chunk = b"IHDR".to_vec();
    chunk.extend(side.to_be_bytes());
    chunk.extend(side.to_be_bytes());
    chunk.extend([8, 0, 0, 0, 0]);
    // Length, name and data, checksum.
    bytes[12..29].copy_from_slice(&chunk);
    bytes[29..33].copy_from_slice(&crc(&chunk).to_be_bytes());
    let data = bytes.windows(4).position(|name| name == b"IDAT").unwrap();
    bytes.truncate(data + 5);
    bytes
}

/// The checksum of PNG's chunks.
fn crc(bytes: &[u8]) -> u32 {
    let step = |crc: u32, byte: &u8| {
        (0..8).fold(crc ^ u32::from(*byte), |crc, _| {
            (crc >> 1) ^ (0xEDB8_8320 * (crc & 1))
        })
    };
    !bytes.iter().fold(u32::MAX, step)
}

#[test]
fn a_size_that_cannot_be_is_refused_by_the_header() {
    let desk = Desk::new();
    let input = desk.path("huge.png");
    std::fs::write(&input, header(32_000)).unwrap();
    let words = ["huge.png", "64000x64000 pixels are not supported"];
    upscale(&input, &desk.path("out.png"), &[]).fails(1, &words);
    // Before it is computed, which would need seconds.
    let input = desk.draw("wide.png", (8_192, 2), 3);
    let output = desk.path("out.webp");
    let words = ["out.webp", "at most 16383 pixels a side, not 16384x4"];
    upscale(&input, &output, &[]).fails(1, &words);
    assert!(!desk.exists("out.webp"));
}

#[test]
fn strips_may_be_as_long_as_their_format_allows() {
    let desk = Desk::new();
    let input = desk.draw("strip.png", (8, 17_000), 3);
    let weights = desk.weights("w.safetensors", srfilter::models::Channels::Rgb);
    sr(["upscale", &input, &desk.path("out.png"), "-w", &weights]).ok();
    let strip = desk.open("out.png");
    assert_eq!((strip.width, strip.height), (16, 34_000));
    // The rows beyond 32768 are those of the strip.
    let rows = |image: &Image, from: usize| image.crop(0, from, image.width, 20);
    let (low, high) = (rows(&desk.open("strip.png"), 16_900), rows(&strip, 33_800));
    for y in 2..8 {
        let (a, b) = (low.data[(y * 8 + 4) * 3], high.data[(2 * y * 16 + 8) * 3]);
        assert!(a.abs_diff(b) < 40, "row {y}: {a} became {b}");
    }
}

#[test]
fn every_file_that_is_not_taken_is_named() {
    let desk = Desk::new();
    desk.draw("in/a.jfif", (9, 9), 3);
    desk.draw("in/b.tif", (9, 9), 3);
    desk.draw("in/c.gif", (9, 9), 1);
    std::fs::write(desk.path("in/notes.txt"), "text").unwrap();
    let (input, output) = (desk.path("in"), desk.path("out"));
    let run = upscale(&input, &output, &[]).ok();
    assert!(
        run.stderr.contains("notes.txt: not an image"),
        "{}",
        run.stderr
    );
    assert_eq!(names(&output), ["a.png", "b.png", "c.png"]);
    // An image that is not read is one that is missing in the result.
    std::fs::write(desk.path("in/d.avif"), "").unwrap();
    let run = upscale(&input, &output, &["--force"]);
    let words = [
        "d.avif: AVIF is not read: convert",
        "1 of 4 images were skipped",
    ];
    run.fails(1, &words);
}

#[test]
fn an_interrupted_folder_goes_on() {
    let desk = Desk::new();
    for name in ["in/a.png", "in/b.png", "in/deep/c.png"] {
        desk.draw(name, (9, 9), 3);
    }
    let (input, output) = (desk.path("in"), desk.path("out"));
    // Whatever is there is left alone.
    desk.draw("out/a.png", (3, 3), 3);
    let run = upscale(&input, &output, &["--skip-existing"]).ok();
    assert!(
        run.stdout.contains("1 of 3 results already exist"),
        "{}",
        run.stdout
    );
    assert!(run.stdout.contains("2 images in"), "{}", run.stdout);
    assert_eq!(desk.open("out/a.png").width, 3);
    assert_eq!(desk.open("out/deep/c.png").width, 18);
    upscale(&input, &output, &["--skip-existing"]).ok();
    upscale(&input, &output, &["--skip-existing", "--force"]).fails(2, &["--force"]);
}

#[test]
fn a_second_run_in_the_same_folder_is_refused() {
    let desk = Desk::new();
    desk.draw("in/a.png", (9, 9), 3);
    desk.draw("out/other.png", (9, 9), 3);
    let (input, output) = (desk.path("in"), desk.path("out"));
    let held = FolderLock::new(Path::new(&output)).unwrap();
    upscale(&input, &output, &[]).fails(1, &["another run is writing to", "choose another"]);
    drop(held);
    upscale(&input, &output, &[]).ok();
    assert_eq!(names(&output), ["a.png", "other.png"]);
}

/// A full disk: the limit of a file's size stands for it.
#[cfg(target_os = "linux")]
#[test]
fn a_file_that_cannot_be_written_whole_leaves_what_was_there() {
    let desk = Desk::new();
    let input = desk.draw("in.png", (300, 300), 3);
    let output = desk.path("out/out.bmp");
    std::fs::create_dir(desk.path("out")).unwrap();
    std::fs::write(&output, "old").unwrap();
    // 64 blocks of 1024 bytes; without SIGXFSZ, which would end the process.
    let script = "ulimit -f 64; trap '' XFSZ; exec \"$0\" \"$@\"";
    let run = std::process::Command::new("bash")
        .args(["-c", script, env!("CARGO_BIN_EXE_sr"), "upscale", &input])
        .args([&output, "-m", "bicubic", "--force"])
        .output()
        .unwrap();
    let said = String::from_utf8(run.stderr).unwrap();
    assert_eq!(run.status.code(), Some(1), "{said}");
    assert!(
        said.contains("cannot write") && said.contains("out.bmp"),
        "{said}"
    );
    assert_eq!(std::fs::read(&output).unwrap(), b"old");
    assert_eq!(names(&desk.path("out")), ["out.bmp"]);
}

/// At whatever moment: no temporary file, and no file that is not whole.
#[cfg(unix)]
#[test]
fn an_interrupted_run_leaves_whole_files_only() {
    let desk = Desk::new();
    for i in 0..30 {
        desk.draw(&format!("in/{i}.png"), (200, 200), 3);
    }
    let (input, output) = (desk.path("in"), desk.path("out"));
    let mut done = 0;
    for pause in [60, 110, 180, 250] {
        let mut child = std::process::Command::new(env!("CARGO_BIN_EXE_sr"))
            .args([
                "upscale",
                &input,
                &output,
                "-m",
                "bicubic",
                "--skip-existing",
            ])
            .stdout(std::process::Stdio::null())
            .spawn()
            .unwrap();
        std::thread::sleep(std::time::Duration::from_millis(pause));
        let sent = std::process::Command::new("kill")
            .args(["-INT", &child.id().to_string()])
            .status();
        assert!(sent.unwrap().success());
        let code = child.wait().unwrap().code();
        // Before the handler is there, the signal itself ends the process.
        assert!(matches!(code, Some(130 | 0) | None), "{code:?}");
        if Path::new(&output).exists() {
            let files = names(&output);
            assert!(files.len() >= done, "{files:?}");
            done = files.len();
            for name in &files {
                assert!(!name.contains("partial"), "{name}");
                assert_eq!(desk.open(&format!("out/{name}")).width, 400);
            }
        }
    }
    upscale(&input, &output, &["--skip-existing"]).ok();
    assert_eq!(names(&output).len(), 30);
}

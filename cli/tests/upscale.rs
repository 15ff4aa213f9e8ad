//! `sr upscale` and `sr models` from the command line.

#![allow(clippy::unwrap_used)] // Helpers of tests may fail like tests.

mod common;

use common::{Desk, sr};
use srfilter::models::Channels;
use testing::shared;

#[test]
fn upscales_a_file() {
    let desk = Desk::new();
    let weights = desk.weights("w.safetensors", Channels::Luma);
    let (input, output) = (desk.draw("in.png", (24, 18), 3), desk.path("out.png"));
    let run = sr(["upscale", &input, &output, "--weights", &weights]).ok();
    assert!(
        run.stdout.contains("srcnn x2 on cpu: network x2;"),
        "{}",
        run.stdout
    );
    assert!(run.stdout.contains("24x18 -> "), "{}", run.stdout);
    let result = desk.open("out.png");
    assert_eq!((result.width, result.height, result.channels), (48, 36, 3));
}

#[test]
fn default_scale_is_two_and_fractions_are_resampled() {
    let desk = Desk::new();
    let weights = desk.weights("w.safetensors", Channels::Rgb);
    let input = desk.draw("in.png", (21, 18), 3);
    for (scale, size, plan) in [
        ("3/2", (32, 27), "network x2, resampled to x3/2"),
        ("1.5", (32, 27), "network x2, resampled to x3/2"),
        ("4", (84, 72), "network x2, then x2;"),
        ("3", (63, 54), "network x2, then x2, resampled to x3;"),
    ] {
        let output = desk.path("out.png");
        let args = [
            "upscale", &input, &output, "-s", scale, "-w", &weights, "-f",
        ];
        let run = sr(args).ok();
        assert!(run.stdout.contains(plan), "{}", run.stdout);
        let result = desk.open("out.png");
        assert_eq!((result.width, result.height), size, "x{scale}");
    }
}

#[test]
fn keeps_transparency_and_grey() {
    let desk = Desk::new();
    for (channels, model) in [
        (4, Channels::Luma),
        (4, Channels::Rgb),
        (1, Channels::Luma),
        (1, Channels::Rgb),
    ] {
        let weights = desk.weights("w.safetensors", model);
        let (input, output) = (
            desk.draw("in.png", (16, 20), channels),
            desk.path("out.png"),
        );
        sr(["upscale", &input, &output, "-w", &weights, "--force"]).ok();
        let result = desk.open("out.png");
        assert_eq!(
            (result.width, result.height, result.channels),
            (32, 40, channels)
        );
        if channels == 4 {
            let [low, high] = [desk.open("in.png"), result].map(|picture| {
                let alpha: Vec<f64> = picture
                    .data
                    .iter()
                    .skip(3)
                    .step_by(4)
                    .map(|&a| f64::from(a))
                    .collect();
                alpha.iter().sum::<f64>() / alpha.len() as f64
            });
            assert!((low - high).abs() < 2.0, "mean alpha {low} became {high}");
        }
    }
}

#[test]
fn the_colour_of_transparent_pixels_never_shows() {
    let desk = Desk::new();
    // A disc with a soft edge; what lies under alpha 0 differs.
    let sprite = |name: &str, hidden: [u8; 3]| {
        desk.draw(name, (40, 40), 4);
        let mut picture = desk.open(name);
        for (i, pixel) in picture.data.chunks_exact_mut(4).enumerate() {
            let (x, y) = ((i % 40) as f64 - 19.5, (i / 40) as f64 - 19.5);
            pixel[3] = (255.0 * (15.0 - libm::hypot(x, y)).clamp(0.0, 1.0)) as u8;
            if pixel[3] == 0 {
                pixel[..3].copy_from_slice(&hidden);
            }
        }
        picture
            .save(std::path::Path::new(&desk.path(name)))
            .unwrap();
        desk.path(name)
    };
    let sprites = [sprite("a.png", [255, 0, 255]), sprite("b.png", [0, 255, 0])];
    let luma = desk.weights("luma.safetensors", Channels::Luma);
    let rgb = desk.weights("rgb.safetensors", Channels::Rgb);
    for model in [["-m", "bicubic"], ["-w", &luma], ["-w", &rgb]] {
        let results = sprites.each_ref().map(|input| {
            let output = desk.path("out.png");
            sr(["upscale", input, &output, "--force", model[0], model[1]]).ok();
            desk.open("out.png").data
        });
        let [a, b] = results.each_ref().map(|data| data.chunks_exact(4));
        for (a, b) in a.zip(b) {
            for background in [0, 255] {
                let over = |pixel: &[u8], channel: usize| {
                    let alpha = f64::from(pixel[3]) / 255.0;
                    f64::from(pixel[channel]) * alpha + f64::from(background) * (1.0 - alpha)
                };
                for channel in 0..3 {
                    let apart = (over(a, channel) - over(b, channel)).abs();
                    assert!(apart <= 3.0, "{model:?}: {a:?} and {b:?}");
                }
            }
        }
        assert!(results[0].chunks_exact(4).any(|pixel| pixel[3] == 255));
    }
}

#[test]
fn bicubic_needs_no_weights() {
    let desk = Desk::new();
    let (input, output) = (desk.draw("in.png", (16, 20), 3), desk.path("out.png"));
    let run = sr([
        "upscale", &input, &output, "--model", "bicubic", "--scale", "3",
    ])
    .ok();
    assert!(run.stdout.contains("no network"), "{}", run.stdout);
    assert_eq!(desk.open("out.png").width, 48);
}

#[test]
fn the_number_of_threads_changes_nothing() {
    let desk = Desk::new();
    let weights = desk.weights("w.safetensors", Channels::Rgb);
    let input = desk.draw("in.png", (40, 33), 3);
    for threads in ["1", "3"] {
        let output = desk.path(&format!("{threads}.png"));
        sr([
            "upscale",
            &input,
            &output,
            "-w",
            &weights,
            "--threads",
            threads,
        ])
        .ok();
    }
    assert_eq!(desk.open("1.png"), desk.open("3.png"));
}

#[test]
fn output_name_says_the_format() {
    let desk = Desk::new();
    let input = desk.draw("photo.bmp", (12, 12), 3);
    for (output, written) in [
        ("a.jpg", "a.jpg"),
        ("b.webp", "b.webp"),
        ("f.tiff", "f.tiff"),
        ("g.JFIF", "g.JFIF"),
        ("c.BMP", "c.BMP"),
        ("d", "d.png"),
        ("new/", "new/photo.png"),
        ("deep/er/e.png", "deep/er/e.png"),
    ] {
        sr(["upscale", &input, &desk.path(output), "-m", "bicubic"]).ok();
        assert_eq!(desk.open(written).width, 24, "{output}");
    }
    let run = sr(["upscale", &input, &desk.path("x.avif"), "-m", "bicubic"]);
    run.fails(
        1,
        &["x.avif", "png, jpg, jpeg, jfif, bmp, webp, tif, tiff, gif"],
    );
    let clear = desk.draw("clear.png", (12, 12), 4);
    let run = sr(["upscale", &clear, &desk.path("clear.jpg"), "-m", "bicubic"]);
    run.fails(1, &["transparency", ".png"]);
    assert!(!desk.exists("clear.jpg"));
}

#[test]
fn upscales_a_tree_and_keeps_its_paths() {
    let desk = Desk::new();
    desk.draw("in/b.png", (12, 14), 3);
    desk.draw("in/deep/er/a.jpg", (10, 12), 3);
    std::fs::write(desk.path("in/notes.txt"), "no picture").unwrap();
    let (input, output) = (desk.path("in"), desk.path("out"));
    let run = sr(["upscale", &input, &output, "-m", "bicubic"]).ok();
    assert!(run.stdout.contains("2 images in"), "{}", run.stdout);
    assert_eq!(desk.open("out/b.png").width, 24);
    assert_eq!(desk.open("out/deep/er/a.png").height, 24);
    let again = sr(["upscale", &input, &output, "-m", "bicubic"]);
    again.fails(1, &["b.png", "1 more", "--force"]);
    sr(["upscale", &input, &output, "-m", "bicubic", "--force"]).ok();
}

#[test]
fn a_broken_image_in_a_folder_is_skipped_and_named() {
    let desk = Desk::new();
    desk.draw("in/good.png", (12, 14), 3);
    std::fs::write(desk.path("in/broken.png"), b"\x89PNG\r\n\x1a\nxx").unwrap();
    let run = sr([
        "upscale",
        &desk.path("in"),
        &desk.path("out"),
        "-m",
        "bicubic",
    ]);
    run.fails(1, &["broken.png", "1 of 2 images were skipped"]);
    assert_eq!(desk.open("out/good.png").width, 24);
    let run = sr([
        "upscale",
        &desk.path("in/broken.png"),
        &desk.path("o.png"),
        "-m",
        "bicubic",
    ]);
    run.fails(1, &["broken.png"]);
}

#[test]
fn never_overwrites_its_input_nor_other_files_without_force() {
    let desk = Desk::new();
    let input = desk.draw("in.png", (12, 14), 3);
    let before = std::fs::read(&input).unwrap();
    let same = desk.path("./in.png");
    for output in [&input, &same] {
        sr(["upscale", &input, output, "-m", "bicubic", "--force"])
            .fails(1, &["both input and output"]);
    }
    let folder = desk.path("");
    sr(["upscale", &input, &folder, "-m", "bicubic", "-f"]).fails(1, &["both input and output"]);
    assert_eq!(std::fs::read(&input).unwrap(), before);
    let other = desk.draw("other.png", (3, 3), 3);
    sr(["upscale", &input, &other, "-m", "bicubic"]).fails(1, &["other.png", "--force"]);
    assert_eq!(desk.open("other.png").width, 3);
    sr(["upscale", &input, &other, "-m", "bicubic", "--force"]).ok();
    assert_eq!(desk.open("other.png").width, 24);
}

#[test]
fn refuses_folders_that_cannot_work() {
    let desk = Desk::new();
    let picture = desk.draw("in/a.png", (12, 14), 3);
    let input = desk.path("in");
    for output in [
        desk.path("in"),
        desk.path("in/out"),
        desk.path("in/deep/er"),
    ] {
        let run = sr(["upscale", &input, &output, "-m", "bicubic", "-f"]);
        run.fails(1, &["another output folder"]);
    }
    sr(["upscale", &input, &picture, "-m", "bicubic"]).fails(1, &["is a file"]);
    desk.draw("in/a.jpg", (12, 14), 3);
    let run = sr(["upscale", &input, &desk.path("out"), "-m", "bicubic"]);
    run.fails(1, &["a.jpg", "a.png", "rename"]);
    std::fs::create_dir(desk.path("empty")).unwrap();
    let run = sr([
        "upscale",
        &desk.path("empty"),
        &desk.path("out"),
        "-m",
        "bicubic",
    ]);
    run.fails(1, &["no images", "empty"]);
    let run = sr([
        "upscale",
        &desk.path("missing"),
        &desk.path("out"),
        "-m",
        "bicubic",
    ]);
    run.fails(1, &["missing", "no such file"]);
    assert!(!desk.exists("out"));
}

#[test]
fn refuses_models_and_weights_that_cannot_work() {
    let desk = Desk::new();
    let (input, output) = (desk.draw("in.png", (12, 14), 3), desk.path("out.png"));
    let upscale = |rest: &[&str]| {
        let args = ["upscale", &input, &output]
            .into_iter()
            .chain(rest.iter().copied());
        sr(args)
    };
    upscale(&["--model", "srgna"]).fails(1, &["srgna", "hypersrcnn", "bicubic"]);
    upscale(&["--weights", &desk.path("none.safetensors")]).fails(1, &["none.safetensors"]);
    upscale(&["--weights", &input]).fails(1, &["in.png", "PNG image"]);
    let rgb = desk.weights("rgb.safetensors", Channels::Rgb);
    upscale(&["--weights", &rgb, "--model", "srcnn"]).fails(1, &["luma srcnn", "rgb srcnn"]);
    upscale(&["--weights", &rgb, "--device", "cuda:7"]).fails(1, &["cuda:7"]);
    // A model without built-in weights says how to get some.
    let table: serde_json::Value = serde_json::from_str(&sr(["models", "--json"]).stdout).unwrap();
    let bare = table
        .as_array()
        .unwrap()
        .iter()
        .find(|model| model["built_in"] == false);
    if let Some(name) = bare.map(|model| model["name"].as_str().unwrap()) {
        upscale(&["--model", name]).fails(1, &[name, "train"]);
    }
    assert!(!desk.exists("out.png"));
}

#[test]
fn refuses_invalid_command_lines() {
    for (args, word) in [
        (&["upscale", "in.png"][..], "OUT"),
        (&["upscale", "a.png", "b.png", "--scale", "0"], "no scale"),
        (&["upscale", "a.png", "b.png", "--scale", "1/2"], "above 1"),
        (
            &["upscale", "a.png", "b.png", "--scale", "17"],
            "at most 16",
        ),
        (&["upscale", "a.png", "b.png", "--device", "tpu"], "cuda:N"),
        (
            &["upscale", "a.png", "b.png", "--border", "zero"],
            "--weights",
        ),
        (
            &["upscale", "a.png", "b.png", "--threads", "many"],
            "--threads",
        ),
        (&["evaluate", "--scale", "2"], "--data"),
        (&["evaluate", "--data", "x"], "--scale"),
        (&["enlarge"], "enlarge"),
    ] {
        sr(args).fails(2, &[word]);
    }
}

#[test]
fn lists_the_models() {
    let run = sr(["models"]).ok();
    for word in ["model", "channels", "hypersrcnn", "srcnn-rgb", "bicubic"] {
        assert!(run.stdout.contains(word), "{}", run.stdout);
    }
    let table: serde_json::Value =
        serde_json::from_str(&sr(["models", "--json"]).ok().stdout).unwrap();
    let row = |name: &str| {
        let rows = table.as_array().unwrap();
        rows.iter().find(|row| row["name"] == name).unwrap().clone()
    };
    assert_eq!(row("hypersrcnn")["scales"], "any");
    assert_eq!(row("hypersrcnn-rgb")["channels"], "rgb");
    assert_eq!(row("bicubic")["built_in"], true);
    assert!(row("bicubic")["channels"].is_null());
}

#[test]
fn help_ends_with_an_example() {
    for command in ["upscale", "evaluate", "compare", "import", "models"] {
        let help = sr([command, "--help"]).ok().stdout;
        assert!(help.contains("\nExample"), "{help}");
    }
}

/// The published weights for drawn video.
#[test]
fn runs_the_published_network_for_drawn_video() {
    let Some(data) = shared("") else {
        return;
    };
    let weights = data.join("weights/RealESRGAN-animevideov3/realesr-animevideov3.pth");
    let weights = weights.to_str().unwrap();
    let desk = Desk::new();
    let input = desk.draw("in.png", (29, 23), 3);
    let output = desk.path("out.png");
    sr(["upscale", &input, &output, "-s", "4", "-w", weights]).ok();
    let [low, high] = ["in.png", "out.png"].map(|name| desk.open(name));
    assert_eq!((high.width, high.height), (4 * 29, 4 * 23));
    // The centre of every square is close to its source pixel.
    let mut off = 0.0;
    for (i, &value) in low.data.iter().enumerate() {
        let (pixel, channel) = (i / 3, i % 3);
        let (x, y) = (4 * (pixel % low.width) + 2, 4 * (pixel / low.width) + 2);
        let made = high.data[(y * high.width + x) * 3 + channel];
        off += (f64::from(made) - f64::from(value)).abs() / low.data.len() as f64;
    }
    assert!(off < 16.0, "off by {off} of 255 on the whole");
    // Other scales run at the scale of the file and are downscaled.
    let run = sr(["upscale", &input, &output, "-s", "3", "-w", weights, "-f"]).ok();
    assert!(
        run.stdout.contains("network x4, resampled to x3"),
        "{}",
        run.stdout
    );
}

/// Weights and multiplications, by scale, on the screen and as JSON.
#[test]
fn says_what_models_cost() {
    let run = sr(["models", "--costs"]).ok();
    let line = |text: &str| {
        run.stdout
            .lines()
            .any(|line| line.split_whitespace().eq(text.split(' ')))
    };
    assert!(line("hdsrnet rgb x4 1966208 117144"), "{}", run.stdout);
    assert!(line("espcn luma x2 14916 3700"), "{}", run.stdout);
    assert!(!run.stdout.contains("lapan x4") && !run.stdout.contains("bicubic"));
    let json = sr(["models", "--json", "--model", "srcnn,lapan"])
        .ok()
        .stdout;
    let table: Vec<serde_json::Value> = serde_json::from_str(&json).unwrap();
    let names: Vec<_> = table
        .iter()
        .map(|row| row["name"].as_str().unwrap())
        .collect();
    assert_eq!(names, ["srcnn", "lapan"]);
    assert_eq!(table[0]["params"], 57_281);
    assert_eq!(table[0]["mac_per_output_pixel"], 57_184.0);
    assert_eq!(table[1]["costs"][0]["scale"], "2");
    assert!(table[0].get("times").is_none());
    sr(["models", "--model", "no-such"]).fails(1, &["no-such", "Known models"]);
}

/// Built-in weights and untrained ones, at x4 or at what there is.
#[test]
fn measures_times() {
    let flags = [
        "models",
        "--time",
        "16,24",
        "--model",
        "espcn,compact,lapan,bicubic",
        "--json",
    ];
    let table: serde_json::Value = serde_json::from_str(&sr(flags).ok().stdout).unwrap();
    for (row, scale) in [(0, "4"), (1, "4"), (2, "2")] {
        for side in ["16", "24"] {
            let timed = &table[row]["times"][side];
            assert_eq!(timed["scale"], scale);
            assert!(timed["ms"].as_f64().unwrap() > 0.0);
        }
    }
    assert!(table[3].get("times").is_none());
    let shown = sr(["models", "--time", "16", "--model", "espcn"])
        .ok()
        .stdout;
    assert!(
        shown.contains("16x16") && shown.contains(" ms") && shown.contains("on cpu"),
        "{shown}"
    );
    sr(["models", "--time", "0"]).fails(2, &["at least 1 pixel"]);
}

/// `--damage` takes the weights between two models, and is refused where it would change nothing.
#[test]
fn damage_chooses_weights() {
    let desk = Desk::new();
    let input = desk.draw("in.png", (64, 64), 3);
    let upscaled = |name: &str, options: &[&str]| {
        let output = desk.path(name);
        sr([&["upscale", &input, &output, "--precision", "f32"], options].concat()).ok();
        desk.open(name).data
    };
    let clean = upscaled("clean.png", &["-m", "espcn"]);
    let half = upscaled("half.png", &["-m", "espcn", "--damage", "0.5"]);
    let most = upscaled("most.png", &["-m", "espcn", "--damage", "1"]);
    let encoded = upscaled("encoded.png", &["-m", "espcn-video"]);
    assert_eq!(most, encoded);
    assert!(half != clean && half != encoded);
    assert_eq!(
        upscaled("none.png", &["-m", "espcn", "--damage", "0"]),
        clean
    );
    upscaled("auto.png", &["-m", "espcn", "--damage", "auto"]);
    let output = desk.path("never.png");
    let model = "hypersrcnn (built-in) has no weights for encoded video at scale 2";
    for (damage, code, expected) in [
        ("auto", 1, model),
        ("2", 2, "damage 2 is not from 0 (clean) to 1"),
        ("much", 2, "neither auto nor a number"),
    ] {
        sr(["upscale", &input, &output, "--damage", damage]).fails(code, &[expected]);
    }
}

//! The outputs of `sr evaluate`: CSV, JSON and a web page that agree.

#![allow(clippy::unwrap_used)] // Helpers of tests may fail like tests.

mod common;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use common::{Desk, sr};
use serde_json::Value;
use srfilter::frame::Image;
use srfilter::models::Channels;
use std::collections::HashMap;

/// A name that is code where it is not escaped.
const NASTY: &str = "<img src=x onerror='alert(1)'>&\".png";
const ESCAPED: &str = "&lt;img src=x onerror='alert(1)'&gt;&amp;&quot;.png";

/// Elements of HTML that have no end.
const VOID: [&str; 3] = ["meta", "img", "input"];

/// The outputs of one run.
struct Written {
    json: Vec<Value>,
    csv: Vec<HashMap<String, String>>,
    html: String,
}

/// Evaluates with all outputs.
fn evaluate(desk: &Desk, args: &[&str]) -> Written {
    let [json, csv, html] = ["out/r.json", "out/r.csv", "out/r.html"].map(|name| desk.path(name));
    let outputs = ["--json", &json, "--csv", &csv, "--html", &html];
    sr(["evaluate"].iter().chain(args).chain(&outputs)).ok();
    Written {
        json: serde_json::from_slice(&std::fs::read(json).unwrap()).unwrap(),
        csv: csv::Reader::from_path(csv)
            .unwrap()
            .deserialize()
            .collect::<Result<_, _>>()
            .unwrap(),
        html: std::fs::read_to_string(html).unwrap(),
    }
}

/// A set of four images, one of them with a nasty name.
fn set(desk: &Desk) -> String {
    desk.draw("set/a.png", (150, 120), 3);
    desk.draw("set/below/b.png", (40, 34), 1);
    desk.draw("set/c.png", (64, 64), 3);
    desk.draw(&format!("set/{NASTY}"), (48, 48), 3);
    desk.path("set")
}

/// The page without image data, which may contain any text.
fn without_images(html: &str) -> String {
    let mut parts = html.split("data:image/png;base64,");
    let mut text = parts.next().unwrap().to_owned();
    for part in parts {
        text += &part[part.find('"').unwrap()..];
    }
    text
}

/// Asserts that every element is closed in order.
fn assert_well_formed(html: &str) {
    let mut open: Vec<&str> = Vec::new();
    let mut rest = html.strip_prefix("<!DOCTYPE html>").unwrap();
    while let Some(start) = rest.find('<') {
        let text = &rest[..start];
        assert!(!text.contains('>') || matches!(open.last(), Some(&"style" | &"script")));
        rest = &rest[start + 1..];
        if matches!(open.last(), Some(&"style" | &"script")) && !rest.starts_with('/') {
            continue;
        }
        // A '>' within quotes does not end a tag.
        let mut quoted = false;
        let end = rest.find(|c| {
            quoted ^= c == '"';
            c == '>' && !quoted
        });
        let tag = &rest[..end.unwrap()];
        rest = &rest[end.unwrap() + 1..];
        let name = tag.split([' ', '/']).find(|part| !part.is_empty()).unwrap();
        match tag.starts_with('/') {
            true => assert_eq!(open.pop(), Some(name), "</{name}> ends something else"),
            false if !VOID.contains(&name) => open.push(name),
            false => {}
        }
    }
    assert!(open.is_empty(), "{open:?} never end");
}

/// The cells of the rows that start with this text, without markup.
fn rows(html: &str, head: &str) -> Vec<Vec<String>> {
    let start = format!("<th scope=\"row\">{head}</th>");
    let rows = html.split(&start).skip(1);
    rows.map(|row| {
        let row = &row[..row.find("</tr>").unwrap()];
        row.split("<td")
            .skip(1)
            .map(|cell| {
                let cell = &cell[cell.find('>').unwrap() + 1..cell.find("</td>").unwrap()];
                cell.replace("<strong class=\"best\">", "")
                    .replace("</strong>", "")
            })
            .collect()
    })
    .collect()
}

fn number(value: &Value) -> f64 {
    value.as_f64().unwrap()
}

#[test]
fn csv_json_and_page_hold_the_same_numbers() {
    let desk = Desk::new();
    let set = set(&desk);
    let weights = desk.weights("w.safetensors", Channels::Luma);
    let written = evaluate(&desk, &["-w", &weights, "-s", "2,3/2", "--data", &set]);
    let mut lines = written.csv.iter();
    for (i, report) in written.json.iter().enumerate() {
        let mean = &report["mean"];
        let table = &rows(&written.html, "srcnn")[0][3 * i..][..3];
        let gain = number(&mean["psnr"]) - number(&mean["bicubic_psnr"]);
        assert_eq!(table[0], format!("{:.2}", number(&mean["psnr"])));
        assert_eq!(table[1], format!("{:.4}", number(&mean["ssim"])));
        assert_eq!(table[2], format!("{gain:+.2}"));
        let table = &rows(&written.html, "bicubic")[0][3 * i..][..3];
        assert_eq!(table[0], format!("{:.2}", number(&mean["bicubic_psnr"])));
        for image in report["images"].as_array().unwrap() {
            let line = lines.next().unwrap();
            for key in ["model", "weights", "scale", "data", "protocol"] {
                assert_eq!(line[key], report[key].as_str().unwrap(), "{key}");
            }
            assert_eq!(line["rounded"], "true");
            assert_eq!(line["degradation"], "bicubic");
            assert_eq!(line["distance"], "");
            assert_eq!(line["image"], image["name"].as_str().unwrap());
            let name = line["image"].replace(NASTY, ESCAPED);
            let cells = &rows(&written.html, &name)[i];
            let keys = ["bicubic_psnr", "bicubic_ssim", "psnr", "ssim"];
            for (key, cell) in keys.iter().zip(cells) {
                let value = number(&image[key]);
                // serde_json reads a number's last bit as it likes.
                let error = line[*key].parse::<f64>().unwrap() - value;
                assert!(error.abs() < 1e-12, "{key} of {name}: {error}");
                let digits = if key.ends_with("psnr") { 2 } else { 4 };
                assert_eq!(*cell, format!("{value:.digits$}"), "{key} of {name}");
            }
        }
    }
    assert!(lines.next().is_none());
    assert_eq!(written.csv.len(), 8);
}

#[test]
fn the_page_is_whole_and_loads_nothing() {
    let desk = Desk::new();
    let set = set(&desk);
    let weights = desk.weights("w.safetensors", Channels::Luma);
    let html = evaluate(&desk, &["-w", &weights, "-s", "2", "--data", &set]).html;
    let text = without_images(&html);
    assert_well_formed(&text);
    assert!(
        !text.contains("<img src=x"),
        "a file name became an element"
    );
    assert!(text.contains(ESCAPED));
    for outside in ["http:", "https:", "src=\"//", "@import", "url(", "<link"] {
        assert!(!text.contains(outside), "{outside}");
    }
    let version = env!("CARGO_PKG_VERSION");
    for fact in [
        "4 images",
        &set,
        &weights,
        "protocol y",
        version,
        "sr evaluate",
    ] {
        assert!(text.contains(fact), "no {fact}");
    }
    // A box and a dot for each image.
    assert_eq!(text.matches("<rect class=\"box\"").count(), 1);
    assert_eq!(text.matches("<circle").count(), 4);
    // The most, the least and the median gain, each with a slider.
    assert_eq!(text.matches("class=\"viewer\"").count(), 3);
    assert_eq!(text.matches("type=\"range\"").count(), 3);
    assert_eq!(text.matches("<img class=\"left\"").count(), 3);
    assert_eq!(text.matches("<img class=\"right\"").count(), 3);
}

#[test]
fn the_pages_images_are_parts_of_what_was_compared() {
    let desk = Desk::new();
    desk.draw("set/a.png", (150, 120), 3);
    let weights = desk.weights("w.safetensors", Channels::Rgb);
    let set = desk.path("set");
    let html = evaluate(&desk, &["-w", &weights, "-s", "2", "--data", &set]).html;
    let parts: Vec<Image> = html
        .split("src=\"data:image/png;base64,")
        .skip(1)
        .map(|text| {
            let bytes = BASE64_STANDARD.decode(&text[..text.find('"').unwrap()]);
            std::fs::write(desk.path("part.png"), bytes.unwrap()).unwrap();
            desk.open("part.png")
        })
        .collect();
    // Original, low resolution, bicubic, model.
    assert_eq!(parts.len(), 4);
    for part in &parts {
        assert_eq!((part.width, part.height, part.channels), (128, 96, 3));
    }
    let at = html.split("128x96 pixels at ").nth(1).unwrap();
    let (x, y) = at[..at.find('<').unwrap()].split_once(", ").unwrap();
    let (x, y) = (x.parse().unwrap(), y.parse().unwrap());
    assert_eq!(parts[0], desk.open("set/a.png").crop(x, y, 128, 96));
    for (i, part) in parts.iter().enumerate() {
        assert!(!parts[..i].contains(part), "part {i} is there twice");
    }
}

#[test]
fn bicubic_alone_has_a_table_and_no_images() {
    let desk = Desk::new();
    let set = set(&desk);
    let html = evaluate(&desk, &["-m", "bicubic", "-s", "2", "--data", &set]).html;
    assert_well_formed(&html);
    assert_eq!(rows(&html, "bicubic").len(), 1);
    for absent in ["class=\"viewer\"", "<svg", "Before and after"] {
        assert!(!html.contains(absent), "{absent}");
    }
}

/// Identical images have an infinite PSNR, which plots and choices must handle.
#[test]
fn flat_images_do_not_break_the_page() {
    let desk = Desk::new();
    std::fs::create_dir(desk.path("set")).unwrap();
    Image::new(40, 40, 1)
        .save(desk.path("set/black.png"))
        .unwrap();
    let weights = desk.empty_espcn("espcn.safetensors");
    let set = desk.path("set");
    let written = evaluate(&desk, &["-w", &weights, "-s", "2", "--data", &set]);
    assert_well_formed(&without_images(&written.html));
    assert!(written.html.contains("∞") && !written.html.contains("NaN"));
    assert_eq!(written.csv[0]["psnr"], "inf");
}

#[test]
fn files_of_one_architecture_are_told_apart() {
    let desk = Desk::new();
    let set = set(&desk);
    let (a, b) = (
        desk.weights("a.safetensors", Channels::Luma),
        desk.weights("b.safetensors", Channels::Luma),
    );
    let written = evaluate(&desk, &["-w", &a, "-w", &b, "-s", "2", "--data", &set]);
    let weights: Vec<_> = written.json.iter().map(|r| &r["weights"]).collect();
    assert_eq!(weights, [&a, &b]);
    for file in ["a.safetensors", "b.safetensors"] {
        assert_eq!(rows(&written.html, &format!("srcnn ({file})")).len(), 1);
    }
}

#[test]
fn one_output_can_go_to_standard_output() {
    let desk = Desk::new();
    let set = set(&desk);
    let common = ["evaluate", "-m", "bicubic", "-s", "2", "--data", &set];
    let run = |rest: &[&str]| sr(common.iter().chain(rest));
    let printed = run(&["--csv", "-"]).ok().stdout;
    assert!(printed.starts_with("data,image,model,"), "{printed}");
    assert_eq!(printed.lines().count(), 5);
    run(&["--csv", "-", "--json", "-"]).fails(2, &["--csv", "same FILE"]);
    run(&["--html", &set]).fails(1, &[&set, "is a folder"]);
}

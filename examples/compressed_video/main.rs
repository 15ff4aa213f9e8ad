//! Measures a model on compressed video: clips are downscaled by 2, encoded as
//! H.264 at several qualities, decoded, and upscaled by the element. Prints PSNR
//! and SSIM of luma against the clip, next to those of bicubic interpolation.
//!
//! ```sh
//! cargo run --release --example compressed_video -- MODEL|FILE.safetensors CLIP...
//! ```

mod measure;

use anyhow::{Context, Result, bail, ensure};
use measure::{Clip, Quality, measure};
use std::path::Path;

/// Constant rate factors of x264, whose default is 23: good, medium and poor quality.
const QUALITIES: [u32; 3] = [20, 26, 32];

/// Frames of each clip that are upscaled.
const FRAMES: usize = 12;

fn main() -> Result<()> {
    let mut args = std::env::args().skip(1);
    let Some(model) = args.next() else {
        bail!("usage: compressed_video MODEL|FILE.safetensors CLIP...");
    };
    let clips: Vec<String> = args.collect();
    ensure!(!clips.is_empty(), "no clips are named");
    gst::init()?;
    gstsrfilter::plugin_register_static()?;
    ensure!(
        measure::has_codec(),
        "GStreamer has no x264enc or avdec_h264: install its plugins (gst-plugins-ugly, gst-libav)"
    );
    let element = match Path::new(&model).extension() {
        Some(_) => format!("weights=\"{model}\""),
        None => format!("model={model}"),
    };

    let label = Path::new(&model)
        .file_stem()
        .context("the model has no name")?;
    let label = label.display();
    println!("PSNR in dB and SSIM of luma, x2, {FRAMES} frames of each clip");
    let (mut gains, mut worse) = (Vec::new(), 0);
    for path in &clips {
        let clip = Clip::open(Path::new(path))?;
        let name = Path::new(path)
            .file_name()
            .context("the clip is not a file")?;
        let (width, height) = clip.size();
        println!("{} {width}x{height}", name.display());
        for crf in QUALITIES {
            let got = measure(&clip, crf, &element, FRAMES)?;
            let (before, after) = (got.bicubic, got.model);
            let gain = Quality {
                psnr: after.psnr - before.psnr,
                ssim: after.ssim - before.ssim,
            };
            println!(
                "    crf {crf}  bicubic {:.2} {:.4}  {label} {:.2} {:.4}  {:+.2} {:+.4}",
                before.psnr, before.ssim, after.psnr, after.ssim, gain.psnr, gain.ssim
            );
            worse += usize::from(gain.psnr <= 0.0 || gain.ssim <= 0.0);
            gains.push(gain);
        }
    }
    let mean = |of: fn(&Quality) -> f64| gains.iter().map(of).sum::<f64>() / gains.len() as f64;
    println!(
        "mean gain {:+.2} dB {:+.4}; {worse} of {} no better than bicubic",
        mean(|gain| gain.psnr),
        mean(|gain| gain.ssim),
        gains.len()
    );
    Ok(())
}

//! Times the engine on a frame of noise: `worker MODEL u8|u16 WIDTH HEIGHT` upscales it by 2 once
//! for each line of standard input, and prints the seconds. For bench.py.

use anyhow::{Context, Result, bail};
use srfilter::{FrameMut, FrameRef, FrameSpec, Model, PixelFormat, Upscaler};
use std::io::BufRead;
use std::time::Instant;

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [model, samples, width, height] = arguments.as_slice() else {
        bail!("usage: worker MODEL u8|u16 WIDTH HEIGHT");
    };
    let format = match samples.as_str() {
        "u8" => PixelFormat::Rgb,
        "u16" => PixelFormat::Rgba64,
        _ => bail!("{samples} is neither u8 nor u16"),
    };
    let spec = FrameSpec::new(format, width.parse()?, height.parse()?);
    let mut upscaler = Upscaler::builder(Model::builtin(model)?)
        .scale(2)
        .build(spec)?;
    let output = upscaler.spec().output;
    let (row, rows) = format.plane_size(0, spec.size.0, spec.size.1);
    let (larger_row, larger_rows) = format.plane_size(0, output.0, output.1);
    let mut state = 1u32;
    let noise = (0..row * rows).map(|_| {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 24) as u8
    });
    let input: Vec<u8> = noise.collect();
    for line in std::io::stdin().lock().lines() {
        line?;
        // With memory for the result, as the module takes it for each one.
        let start = Instant::now();
        let mut result = vec![0; larger_row * larger_rows];
        let from = [(input.as_slice(), row)];
        let from = FrameRef::new(format, spec.size, spec.color, &from)?;
        let to = [(result.as_mut_slice(), larger_row)];
        let mut to = FrameMut::new(format, output, spec.color, to)?;
        upscaler.process(&from, &mut to).context("a frame")?;
        println!("{}", start.elapsed().as_secs_f64());
    }
    Ok(())
}

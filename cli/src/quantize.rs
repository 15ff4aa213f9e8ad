//! `sr quantize`: adds weights in 8-bit integers to a weights file.

use crate::args::QuantizeArgs;
use crate::console::warn;
use crate::images;
use crate::import::imported;
use crate::measure::crop;
use crate::paths::{default_output, is_same};
use crate::protocol::{Degradation, Method, Protocol};
use anyhow::{Result, bail};
use srfilter::Scale;
use srfilter::chain::PackedChain;
use srfilter::chain::quantized::{Calibration, Quantization};
use srfilter::engine::{DeviceChoice, Precision};
use srfilter::frame::Image;
use srfilter::models::DamageSource;
use srfilter::models::{Scales, chain_of};
use srfilter::weights::{Checkpoint, Model};
use std::io::{self, Write};
use std::path::Path;
use std::sync::Arc;

/// Side of the part of an image that is used, in pixels.
const SIDE: usize = 512;

/// PSNR of one scale, mean over the images, in dB.
struct Loss {
    scale: Scale,
    f32: f64,
    int8: f64,
}

/// Calibrates the layers on every other image and measures the loss on the rest.
pub(crate) fn run(args: &QuantizeArgs) -> Result<()> {
    let hints = args.file.hints();
    let file = Checkpoint::open_with(&args.weights, &hints)?;
    let contents = file.contents(&hints)?;
    let Scales::List(scales) = contents.scales.clone() else {
        bail!(
            "{} is for any scale: name those to quantise with --trained-scale",
            args.weights.display()
        );
    };
    let to = match &args.out {
        Some(path) => path.clone(),
        None => default_output(&args.weights, "-int8")?,
    };
    if is_same(&args.weights, &to) {
        bail!(
            "{} is the input; choose another file with --out",
            to.display()
        );
    }
    if !args.force && to.exists() {
        bail!("{} already exists; --force overwrites it", to.display());
    }
    let pictures = pictures(&args.data, &scales)?;
    // A single image is used for both.
    let every = pictures.len().min(2);
    let calibrated = pictures.iter().step_by(every);
    let measured: Vec<_> = pictures.iter().skip(every - 1).step_by(every).collect();

    let (_, network) = file.network(&hints)?;
    let model = Model::open_with(&args.weights, None, &hints)?;
    let mut calibration = Calibration::default();
    for image in calibrated {
        for &scale in &scales {
            let chain = chain_of(network.as_ref(), scale)?;
            let low = method(Precision::F32)
                .compare(&crop(image, scale), &model, scale)?
                .low;
            calibration.observe_image(&chain, &low)?;
        }
    }
    let chains = scales
        .iter()
        .map(|&scale| chain_of(network.as_ref(), scale));
    let chains = chains.collect::<Result<Vec<_>, srfilter::TensorError>>()?;
    let quantization = Quantization::of_chains(&chains, &calibration.ranges())?;

    for (chain, scale) in chains.iter().zip(&scales) {
        if PackedChain::quantized(chain, &quantization)?.is_none() {
            bail!(
                "{} cannot run in 8-bit integers at x{scale}",
                args.weights.display()
            );
        }
    }

    let mut card = match file.card()? {
        Some(card) => card,
        None => imported(&args.weights, &contents),
    };
    card.int8_loss = None;
    let mut tensors: Vec<_> = contents.tensors.into_iter().collect();
    tensors.sort_by(|a, b| a.0.cmp(&b.0));
    Checkpoint::save_with(&to, &tensors, &quantization, &card)?;
    let losses = losses(&measured, &scales, &Model::open(&to)?)?;
    let mean = losses.iter().map(|loss| loss.f32 - loss.int8).sum::<f64>() / losses.len() as f64;
    card.int8_loss = Some(mean);
    Checkpoint::save_with(&to, &tensors, &quantization, &card)?;
    report(&losses, mean, measured.len(), &to)
}

fn report(losses: &[Loss], mean: f64, images: usize, to: &Path) -> Result<()> {
    let mut out = io::stdout().lock();
    writeln!(out, "PSNR of luma in dB, mean of {images} images:")?;
    for Loss { scale, f32, int8 } in losses {
        let loss = f32 - int8;
        writeln!(
            out,
            "x{scale}: f32 {f32:.3}, int8 {int8:.3}, loss {loss:.3}"
        )?;
    }
    let most = Precision::AUTO_LOSS;
    match mean <= most {
        true => writeln!(out, "mean loss {mean:.3}: the CPU takes int8 by itself")?,
        false => writeln!(
            out,
            "mean loss {mean:.3}, more than {most}: the CPU takes int8 with precision=int8 only"
        )?,
    }
    writeln!(out, "wrote {}", to.display())?;
    Ok(())
}

/// The middles of all images in a folder that are large enough for all scales.
fn pictures(folder: &Path, scales: &[Scale]) -> Result<Vec<Image>> {
    if !folder.is_dir() {
        bail!("--data {} is not a folder of images", folder.display());
    }
    let (names, not_taken) = images::find(folder)?;
    not_taken
        .iter()
        .for_each(|file| warn(&images::not_read(file)));
    let mut pictures = Vec::new();
    for name in names {
        let image = images::open_opaque(&folder.join(&name))?;
        let (width, height) = (image.width.min(SIDE), image.height.min(SIDE));
        let corner = ((image.width - width) / 2, (image.height - height) / 2);
        let middle = image.crop(corner.0, corner.1, width, height);
        let method = method(Precision::F32);
        let fits = |&scale: &Scale| method.check_size(&middle, scale);
        match scales.iter().try_for_each(fits) {
            Ok(()) => pictures.push(middle),
            Err(error) => warn(&format!("not used: {}: {error}", name.display())),
        }
    }
    match pictures.is_empty() {
        true => bail!("{} holds no image that is large enough", folder.display()),
        false => Ok(pictures),
    }
}

/// Protocol y on the CPU.
fn method(precision: Precision) -> Method {
    let options = srfilter::UpscaleOptions::default();
    Method {
        protocol: Protocol::Y,
        round: true,
        degradation: Degradation::Bicubic,
        features: None,
        damage: DamageSource::default(),
        options: options
            .with_device(DeviceChoice::Cpu)
            .with_precision(precision),
    }
}

fn losses(images: &[&Image], scales: &[Scale], model: &Arc<Model>) -> Result<Vec<Loss>> {
    let mean = |scale: Scale, precision: Precision| -> Result<f64> {
        let method = method(precision);
        let psnr = |image: &&Image| {
            Ok(method
                .compare(&crop(image, scale), model, scale)?
                .quality
                .psnr)
        };
        let all = images.iter().map(psnr).collect::<Result<Vec<f64>>>()?;
        Ok(all.iter().sum::<f64>() / all.len() as f64)
    };
    let loss = |&scale: &Scale| {
        Ok(Loss {
            scale,
            f32: mean(scale, Precision::F32)?,
            int8: mean(scale, Precision::Int8)?,
        })
    };
    scales.iter().map(loss).collect()
}

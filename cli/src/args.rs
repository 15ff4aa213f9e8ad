//! The command line.

use crate::detail::Area;
use crate::protocol::{Method, Protocol};
use clap::error::ErrorKind;
use clap::{CommandFactory, Parser, Subcommand, ValueEnum, value_parser};
use srfilter::Scale;
use srfilter::engine::{DeviceChoice, Precision, UpscaleOptions};
use srfilter::ops::Border;
use srfilter::weights::LoadOverrides;
use std::path::PathBuf;

/// Enlarge pictures with neural networks, and measure how well they do it.
#[derive(Debug, Parser)]
#[command(
    name = "sr",
    version,
    max_term_width = 100,
    arg_required_else_help = true,
    after_help = "\
Examples:
  sr upscale photo.jpg photo-2x.png --scale 2
  sr evaluate --model hypersrcnn --scale 2,3,4 --data Set5
  sr compare photo.jpg --scale 3
  sr import weights.pth
  sr models

'sr COMMAND --help' explains a command's options. The exit status is 0 where
all went well, 2 for a command line that makes no sense and 1 for all else."
)]
pub(crate) struct Args {
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    Upscale(UpscaleArgs),
    Evaluate(EvaluateArgs),
    Compare(CompareArgs),
    Import(ImportArgs),
    Models(ModelsArgs),
}

/// Enlarge a picture, or all pictures of a folder
///
/// Greyscale pictures stay grey, and transparency is kept. Pictures are read
/// and computed with 8 bits a sample.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  sr upscale photo.jpg photo-4x.png --scale 4
  sr upscale holiday holiday-2x --model srcnn --weights srcnn_x2.safetensors")]
pub(crate) struct UpscaleArgs {
    /// Picture (PNG, JPEG, BMP, WebP) or folder
    ///
    /// Of a folder all pictures are enlarged, those in folders below too.
    #[arg(value_name = "IN")]
    pub(crate) input: PathBuf,

    /// File, or folder, to write to
    ///
    /// A file's extension says the format: png, jpg, jpeg, bmp or webp; without
    /// one it gets '.png'. Where IN is a folder, or OUT is one or ends with
    /// '/', the results are PNG files under their old names; the folders in
    /// IN are found again in OUT. Folders are made as needed.
    #[arg(value_name = "OUT")]
    pub(crate) output: PathBuf,

    /// Model, by its name in 'sr models' [default: hypersrcnn, or what --weights holds]
    #[arg(long, short, value_name = "NAME")]
    pub(crate) model: Option<String>,

    /// Factor of width and height: 2, 1.5 or 3/2; above 1, at most 16
    ///
    /// A model that was trained for other factors enlarges further, several
    /// times if it must, and its result is resampled to the size asked for.
    #[arg(long, short, value_name = "S", default_value = "2", value_parser = scale)]
    pub(crate) scale: Scale,

    /// Replace files that exist
    ///
    /// The picture that is read is never replaced.
    #[arg(long, short)]
    pub(crate) force: bool,

    /// Weights file to use instead of built-in weights
    ///
    /// A file of 'train', or one that was published for a known architecture:
    /// safetensors, or a checkpoint of PyTorch (.pth, .pt, .pkl).
    #[arg(long, short, value_name = "FILE")]
    pub(crate) weights: Option<PathBuf>,

    #[command(flatten)]
    pub(crate) file: FileArgs,

    #[command(flatten)]
    pub(crate) compute: ComputeArgs,
}

/// Measure models on pictures that are shrunk and enlarged again
///
/// Prints PSNR and SSIM against the original, of the model and of bicubic
/// interpolation, as means over each data set; writes them as JSON, CSV and as
/// a web page.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  sr evaluate --model hypersrcnn,srcnn --scale 2,3,4 --data Set5 --data Set14 --html report.html
  sr evaluate --weights srcnn_x2.safetensors --scale 2 --data Set5 --json set5.json")]
pub(crate) struct EvaluateArgs {
    /// Models, by their names in 'sr models' [default: hypersrcnn, or what --weights holds]
    #[arg(long, short, value_name = "NAME[,NAME]", value_delimiter = ',')]
    pub(crate) model: Vec<String>,

    /// Factors of width and height: 2, 1.5 or 3/2; above 1, at most 16
    #[arg(long, short, value_name = "S[,S]", value_delimiter = ',', required = true, value_parser = scale)]
    pub(crate) scale: Vec<Scale>,

    /// Folder of original pictures; may be given several times
    #[arg(long, value_name = "DIR", required = true)]
    pub(crate) data: Vec<PathBuf>,

    #[command(flatten)]
    pub(crate) method: MethodArgs,

    /// Write what was compared to DIR, as PNG
    ///
    /// For each picture DIR/MODEL/xSCALE/DATA/NAME.lr.png (the shrunk one),
    /// NAME.bicubic.png and NAME.sr.png; luma alone, as grey pictures, where a
    /// luma network is measured by protocol y. Files of an earlier run are
    /// replaced.
    #[arg(long, value_name = "DIR")]
    pub(crate) save: Option<PathBuf>,

    /// Write the results to FILE as JSON; '-' prints them in place of the table
    ///
    /// A list with one entry for each model, scale and data set:
    /// {model, weights, scale, data, protocol, rounded, mean, images}; the
    /// mean, and each image beside its name, has psnr, ssim, bicubic_psnr and
    /// bicubic_ssim. PSNR is in dB; null means infinite, that is no difference
    /// at all (in a mean: in one of its pictures). An existing file is replaced.
    #[arg(long, value_name = "FILE")]
    pub(crate) json: Option<PathBuf>,

    /// Write the results to FILE as CSV; '-' prints them in place of the table
    ///
    /// A line for each model, scale and picture, without means. Columns:
    /// data, image, model, weights, scale, protocol, rounded, psnr, ssim,
    /// bicubic_psnr, bicubic_ssim; the values as in --json, but 'inf' where
    /// there is no difference at all. An existing file is replaced.
    #[arg(long, value_name = "FILE")]
    pub(crate) csv: Option<PathBuf>,

    /// Write the results to FILE as a web page; '-' prints it in place of the table
    ///
    /// One file that needs no network: tables, box plots over the pictures, and
    /// parts of some pictures before and after, with a slider. An existing
    /// file is replaced.
    #[arg(long, value_name = "FILE")]
    pub(crate) html: Option<PathBuf>,

    /// Print a line for each picture
    #[arg(long, short)]
    pub(crate) verbose: bool,

    /// Weights files (safetensors, .pth, .pt, .pkl); may be given several times
    ///
    /// Files of 'train', or ones that were published for a known architecture.
    /// With --model, a single one, which has to hold that model.
    #[arg(long, short, value_name = "FILE")]
    pub(crate) weights: Vec<PathBuf>,

    #[command(flatten)]
    pub(crate) file: FileArgs,

    #[command(flatten)]
    pub(crate) compute: ComputeArgs,
}

/// Show what models make of a picture that is shrunk and enlarged again
///
/// Writes a sheet for each picture: the original, the shrunk one, bicubic
/// interpolation, and the models, whole and zoomed, with PSNR and SSIM under
/// each. Measured as by 'sr evaluate'; shown in colour where luma alone is
/// measured too, with chroma from bicubic interpolation.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  sr compare butterfly.png --scale 3
  sr compare Set5 --scale 2 --weights runs/mine/best.safetensors -o sheets
  sr compare baby.png --scale 4 --crop 180,200,80,60 -o baby-x4.png")]
pub(crate) struct CompareArgs {
    /// Picture (PNG, JPEG, BMP, WebP) or folder
    ///
    /// Of a folder all pictures are compared, those in folders below too. One
    /// that cannot be is left out with a message, and the exit status is 1.
    #[arg(value_name = "IMAGE|DIR")]
    pub(crate) input: PathBuf,

    /// Factor of width and height: 2, 1.5 or 3/2; above 1, at most 16
    #[arg(long, short, value_name = "S", value_parser = scale)]
    pub(crate) scale: Scale,

    /// More models, by their names in 'sr models'
    ///
    /// srcnn and hypersrcnn are on every sheet whose scale they have weights for.
    #[arg(long, short, value_name = "NAME[,NAME]", value_delimiter = ',')]
    pub(crate) model: Vec<String>,

    /// More models, by their weights files (safetensors, .pth, .pt, .pkl); may be given several times
    ///
    /// Files of 'train', or ones that were published for a known architecture.
    #[arg(long, short, value_name = "FILE")]
    pub(crate) weights: Vec<PathBuf>,

    /// PNG file, or folder, to write to [default: NAME-compare-xS in the current folder]
    ///
    /// Where a folder is compared, a folder; where it exists or ends with '/',
    /// one for a file too. Folders are made as needed.
    #[arg(long, short, value_name = "FILE.png|DIR")]
    pub(crate) output: Option<PathBuf>,

    /// Part to zoom, in pixels of the original [default: where bicubic interpolation errs most]
    #[arg(long, value_name = "X,Y,W,H", value_parser = area)]
    pub(crate) crop: Option<Area>,

    /// Replace files that exist
    ///
    /// The picture that is read is never replaced.
    #[arg(long, short)]
    pub(crate) force: bool,

    #[command(flatten)]
    pub(crate) method: MethodArgs,

    #[command(flatten)]
    pub(crate) file: FileArgs,

    #[command(flatten)]
    pub(crate) compute: ComputeArgs,
}

/// Make a weights file of ours of one of another project, or list its tensors
///
/// Reads safetensors and checkpoints of PyTorch (.pth, .pt, .pkl) without running
/// any code in them, tells the architecture from the names and shapes of the
/// tensors, and says what was found. --weights of the other commands takes
/// the same files directly.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  sr import realesr-animevideov3.pth
  sr import srcnn_x3.pth --trained-scale 3 --border replicate --out srcnn_x3.safetensors
  sr import unknown.pkl --list")]
pub(crate) struct ImportArgs {
    /// Weights file
    #[arg(value_name = "FILE")]
    pub(crate) weights: PathBuf,

    /// Weights file to write [default: FILE's name with .safetensors, in the current folder]
    #[arg(long, short, value_name = "FILE.safetensors")]
    pub(crate) out: Option<PathBuf>,

    /// Print name, type and shape of every tensor instead
    ///
    /// Of files of unknown architectures too.
    #[arg(long, conflicts_with_all = ["out", "force"])]
    pub(crate) list: bool,

    /// Replace a file that exists
    ///
    /// The file that is read is never replaced.
    #[arg(long, short)]
    pub(crate) force: bool,

    #[command(flatten)]
    pub(crate) file: FileArgs,
}

/// List the models, what they cost, and how long they take here
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  sr models
  sr models --costs
  sr models --time 256,512 --model espcn,srcnn,srresnet --threads 1")]
pub(crate) struct ModelsArgs {
    /// Only these, by their names
    #[arg(long, short, value_name = "NAME[,NAME]", value_delimiter = ',')]
    pub(crate) model: Vec<String>,

    /// Print what each model's networks take
    ///
    /// Weights, and multiplications with an addition (MAC) for each pixel of
    /// the result, by scale.
    #[arg(long, conflicts_with = "time")]
    pub(crate) costs: bool,

    /// Measure the time for results of these sides in pixels
    ///
    /// At x4 where a model has it, else at its smallest scale: the best of the
    /// runs of a second for each size. Models that ship without weights run with
    /// ones that no training has seen.
    #[arg(long, value_name = "SIDE[,SIDE]", value_delimiter = ',')]
    pub(crate) time: Vec<usize>,

    /// Print JSON
    ///
    /// A list of {name, channels, scales, built_in, params,
    /// mac_per_output_pixel, costs, summary}. Scales are "any" or a list, and
    /// null where they depend on the weights file. built_in says whether the
    /// model runs without --weights. costs is a list of {scale, params,
    /// mac_per_output_pixel}, whose first one the model's own two numbers are.
    /// With --time also times: {side: {scale, ms}}.
    #[arg(long)]
    pub(crate) json: bool,

    #[command(flatten)]
    pub(crate) compute: ComputeArgs,
}

/// What weights files of others do not say.
#[derive(Debug, clap::Args)]
pub(crate) struct FileArgs {
    /// What the network takes to lie beyond the picture's edge
    ///
    /// For weights files that do not say so themselves. Unless given: zero,
    /// or replicate where the file's notes contain that word.
    #[arg(long, value_enum, requires = "weights")]
    border: Option<BorderName>,

    /// Factors that the weights were trained for
    ///
    /// For weights files that do not say so themselves. Unless given, the
    /// network is used for any factor.
    #[arg(
        long,
        value_name = "S[,S]",
        value_delimiter = ',',
        requires = "weights"
    )]
    trained_scale: Vec<Scale>,
}

impl FileArgs {
    /// What the flags say of a weights file.
    pub(crate) fn hints(&self) -> LoadOverrides {
        LoadOverrides {
            border: self.border.map(Border::from),
            scales: (!self.trained_scale.is_empty()).then(|| self.trained_scale.clone()),
        }
    }
}

/// Where a network runs.
#[derive(Debug, clap::Args)]
pub(crate) struct ComputeArgs {
    /// Where to compute: auto, cpu, cuda or cuda:N
    #[arg(long, default_value_t = DeviceChoice::Auto)]
    device: DeviceChoice,

    /// Numbers that a GPU computes networks with: auto (f16 or tf32), f32, tf32, f16 or bf16
    #[arg(long, default_value_t = Precision::Auto)]
    precision: Precision,

    /// CPU threads; 0: one for each core
    #[arg(long, value_name = "N", default_value_t = 0, value_parser = value_parser!(u16).range(0..=1024))]
    threads: u16,

    /// Side of the tiles that a network sees, in pixels; 0: chosen by the engine
    #[arg(long, value_name = "PIXELS", default_value_t = 0)]
    tile: usize,

    /// Let networks that see whole pictures (drct) see tiles that overlap by
    /// so many pixels, averaged there: close, and for any size of picture
    #[arg(long, value_name = "PIXELS", default_value_t = 0)]
    overlap: usize,
}

impl ComputeArgs {
    /// How to compute.
    pub(crate) fn options(&self) -> UpscaleOptions {
        UpscaleOptions {
            device: self.device,
            precision: self.precision,
            threads: usize::from(self.threads),
            tile_size: self.tile,
            tile_overlap: self.overlap,
            ..UpscaleOptions::default()
        }
    }
}

/// How pictures are shrunk, and results compared.
#[derive(Debug, clap::Args)]
pub(crate) struct MethodArgs {
    /// How pictures are shrunk and results compared
    ///
    /// Either way the original is first cut, at its right and bottom, to a
    /// size that the scale divides, and results are rounded to 8 bits.
    #[arg(long, value_enum, default_value_t = Protocol::Y)]
    protocol: Protocol,

    /// Do not round the shrunk pictures to 8 bits (protocol y)
    ///
    /// As the code published with SRCNN measures. Results are rounded all the same.
    #[arg(long)]
    no_round: bool,
}

impl MethodArgs {
    /// The method; ends the program where the flags do not go together.
    pub(crate) fn method(&self, command: &str, compute: &ComputeArgs) -> Method {
        if self.no_round && self.protocol == Protocol::Rgb {
            let message =
                "--no-round is for protocol y; Pillow's bicubic of protocol rgb always rounds";
            refuse(command, message);
        }
        Method {
            protocol: self.protocol,
            round: !self.no_round,
            options: compute.options(),
        }
    }
}

/// Ends the program where flags that are right by themselves do not go together.
pub(crate) fn refuse(subcommand: &str, message: &str) -> ! {
    let mut command = Args::command();
    command.build();
    let error = match command.find_subcommand_mut(subcommand) {
        Some(usage) => usage.error(ErrorKind::ArgumentConflict, message),
        None => command.error(ErrorKind::ArgumentConflict, message),
    };
    error.exit()
}

/// The names of [`Border`]s.
#[derive(Debug, Clone, Copy, ValueEnum)]
enum BorderName {
    /// Zeros, as PyTorch pads
    Zero,
    /// The edge's samples, as MATLAB pads
    Replicate,
    /// Nothing: the network's result is smaller, and the edge is repeated before it
    Valid,
}

impl From<BorderName> for Border {
    fn from(name: BorderName) -> Self {
        match name {
            BorderName::Zero => Self::Zero,
            BorderName::Replicate => Self::Replicate,
            BorderName::Valid => Self::Valid,
        }
    }
}

/// A scale that enlarges.
fn scale(text: &str) -> Result<Scale, String> {
    match text.parse::<Scale>() {
        Ok(scale) if scale > Scale::ONE => Ok(scale),
        Ok(_) => Err("it has to be above 1".to_owned()),
        Err(e) => Err(e.to_string()),
    }
}

/// A part of a picture: X,Y,W,H.
fn area(text: &str) -> Result<Area, String> {
    let numbers: Result<Vec<usize>, _> = text.split(',').map(str::parse).collect();
    match numbers.as_deref() {
        Ok(&[x, y, width, height]) if width > 0 && height > 0 => Ok(Area {
            x,
            y,
            width,
            height,
        }),
        _ => {
            Err("expected X,Y,W,H in pixels, such as 10,20,80,60, with W and H above 0".to_owned())
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    #[test]
    fn command_line_is_consistent() {
        super::Args::command().debug_assert();
    }
}

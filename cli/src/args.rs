//! The command line.

use crate::damage::DamageArgs;
use crate::detail::Area;
use crate::protocol::{Degradation, Method, Protocol};
#[cfg(feature = "video")]
use crate::video::encoder::Encoder;
use anyhow::{Result, anyhow};
use candle_core::Device;
use clap::error::ErrorKind;
use clap::{CommandFactory, Parser, Subcommand, ValueEnum, value_parser};
use srfilter::Scale;
use srfilter::engine::{DeviceChoice, Precision, UpscaleOptions};
use srfilter::frame::Range;
use srfilter::models::DamageSource;
use srfilter::ops::Border;
use srfilter::weights::LoadOverrides;
use srfilter_train::loss::features::Features;
use std::path::PathBuf;

/// Upscale images with neural networks, and evaluate the networks.
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
  sr video clip.mkv clip-2x.mkv --model espcn-video
  sr compare photo.jpg --scale 3
  sr import weights.pth
  sr models

'sr COMMAND --help' describes the options of a command. The exit status is 0 on
success, 2 for an invalid command line and 1 for any other error."
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
    Export(ExportArgs),
    Quantize(QuantizeArgs),
    Models(ModelsArgs),
    #[cfg(feature = "video")]
    Measure(MeasureArgs),
    #[cfg(feature = "video")]
    Video(VideoArgs),
    #[command(hide = true)]
    Manual(ManualArgs),
}

/// Upscale an image, or all images in a folder
///
/// Greyscale images stay greyscale, and transparency is preserved. 16-bit PNG and
/// TIFF files stay so if written as PNG or TIFF; others have 8 bits per sample.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  sr upscale photo.jpg photo-4x.png --scale 4
  sr upscale holiday holiday-2x --model srcnn --weights srcnn_x2.safetensors")]
pub(crate) struct UpscaleArgs {
    /// Image (PNG, JPEG, BMP, WebP, TIFF, GIF) or folder
    ///
    /// All images in a folder and its subfolders are upscaled; files that are not
    /// read are named. Animations are upscaled frame by frame.
    #[arg(value_name = "IN")]
    pub(crate) input: PathBuf,

    /// Output file or folder
    ///
    /// The extension of a file selects the format: png, jpg, jpeg, jfif, bmp, webp,
    /// tif, tiff or gif; the default is png. Animations are written as png (APNG) or
    /// gif. If IN is a folder, or OUT is a folder or ends with '/', the results are
    /// PNG files of the same names, in the same subfolders. Missing folders are
    /// created.
    #[arg(value_name = "OUT")]
    pub(crate) output: PathBuf,

    /// Model, as listed by 'sr models' [default: hypersrcnn, or that of --weights]
    #[arg(long, short, value_name = "NAME")]
    pub(crate) model: Option<String>,

    /// Scale: 2, 1.5 or 3/2; above 1, at most 16
    ///
    /// At scales without weights of its own a model runs at a larger one, in
    /// several passes if needed, and the result is resampled. 1 for a network that
    /// restores images at their size.
    #[arg(long, short, value_name = "S", default_value = "2", value_parser = scale_or_one)]
    pub(crate) scale: Scale,

    /// Overwrite existing files
    ///
    /// The input is never overwritten.
    #[arg(long, short)]
    pub(crate) force: bool,

    /// Leave images alone whose results exist
    ///
    /// Results are written whole or not at all: this continues an interrupted
    /// folder.
    #[arg(long, conflicts_with = "force")]
    pub(crate) skip_existing: bool,

    /// Weights file, instead of the built-in weights
    ///
    /// From 'train', or published for a supported architecture: safetensors or a
    /// PyTorch checkpoint (.pth, .pt, .pkl); a graph in ONNX (.onnx); or an ncnn
    /// network (.param, next to its .bin).
    #[arg(long, short, value_name = "FILE")]
    pub(crate) weights: Option<PathBuf>,

    #[command(flatten)]
    pub(crate) damage: DamageArgs,

    #[command(flatten)]
    pub(crate) file: FileArgs,

    #[command(flatten)]
    pub(crate) compute: ComputeArgs,
}

/// Measure PSNR and SSIM of models on downscaled images
///
/// Images are downscaled and upscaled again. Prints PSNR and SSIM against the
/// original, of the model and of bicubic interpolation, as means over each data
/// set; writes them as JSON, as CSV and as a web page.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  sr evaluate --model hypersrcnn,srcnn --scale 2,3,4 --data Set5 --data Set14 --html report.html
  sr evaluate --weights srcnn_x2.safetensors --scale 2 --data Set5 --json set5.json")]
pub(crate) struct EvaluateArgs {
    /// Models, as listed by 'sr models' [default: hypersrcnn, or those of --weights]
    #[arg(long, short, value_name = "NAME[,NAME]", value_delimiter = ',')]
    pub(crate) model: Vec<String>,

    /// Scales: 2, 1.5 or 3/2; above 1, at most 16
    #[arg(long, short, value_name = "S[,S]", value_delimiter = ',', required = true, value_parser = scale)]
    pub(crate) scale: Vec<Scale>,

    /// Folder of original images; repeatable
    #[cfg_attr(not(feature = "video"), arg(long, value_name = "DIR", required = true))]
    #[cfg_attr(
        feature = "video",
        arg(long, value_name = "DIR", required_unless_present = "video")
    )]
    pub(crate) data: Vec<PathBuf>,

    /// Original clips, instead of images
    ///
    /// Each clip (its first 300 frames) is downscaled, encoded by x264 at the rate
    /// factors of --crf, decoded, and upscaled by the element. PSNR and SSIM of luma
    /// against the clip, and flicker: how much the error changes from a frame to the
    /// next, where the clip is still (by 2 of 255 at most) and where it moves. Scales
    /// are whole numbers.
    #[cfg(feature = "video")]
    #[arg(long, value_name = "CLIP", num_args = 1.., conflicts_with_all = ["data", "protocol", "no_round", "degradation", "features", "save", "csv", "tile", "overlap", "border", "trained_scale", "key"])]
    pub(crate) video: Vec<PathBuf>,

    /// Constant rate factors of x264, whose default is 23
    #[cfg(feature = "video")]
    #[arg(long, value_name = "N[,N]", value_delimiter = ',', default_value = "20,26,32", conflicts_with = "data", value_parser = value_parser!(u32).range(0..=51))]
    pub(crate) crf: Vec<u32>,

    /// Frames of a clip that are compared, evenly spaced
    #[cfg(feature = "video")]
    #[arg(long, value_name = "N", default_value_t = 12, conflicts_with = "data", value_parser = value_parser!(u32).range(1..=300))]
    pub(crate) frames: u32,

    #[command(flatten)]
    pub(crate) method: MethodArgs,

    /// Write the compared images to DIR, as PNG
    ///
    /// For each image DIR/MODEL/xSCALE/DATA/NAME.lr.png (low resolution),
    /// NAME.bicubic.png and NAME.sr.png; greyscale luma where a luma
    /// network is measured by protocol y. Existing files are overwritten.
    #[arg(long, value_name = "DIR")]
    pub(crate) save: Option<PathBuf>,

    /// Write the results to FILE as JSON; '-' prints them instead of the table
    ///
    /// A list with one entry per model, scale and data set:
    /// {model, weights, scale, data, protocol, rounded, degradation, mean, images}.
    /// The mean and each image have psnr, ssim, bicubic_psnr and bicubic_ssim, with
    /// --features distance and bicubic_distance; images also have a name. PSNR is in dB;
    /// null means infinite: identical images (in a mean: at least one). An existing file is
    /// overwritten.
    #[arg(long, value_name = "FILE")]
    pub(crate) json: Option<PathBuf>,

    /// Write the results to FILE as CSV; '-' prints them instead of the table
    ///
    /// A line per model, scale and image, without means. Columns: data, image,
    /// model, weights, scale, protocol, rounded, psnr, ssim, bicubic_psnr,
    /// bicubic_ssim, degradation, distance, bicubic_distance (the last two empty
    /// without --features); values as in --json, but 'inf' for identical images. An
    /// existing file is overwritten.
    #[arg(long, value_name = "FILE")]
    pub(crate) csv: Option<PathBuf>,

    /// Write the results to FILE as a web page; '-' prints it instead of the table
    ///
    /// One self-contained file: tables, box plots over the images, and details of
    /// some images before and after, with a slider. An existing file is
    /// overwritten.
    #[arg(long, value_name = "FILE")]
    pub(crate) html: Option<PathBuf>,

    /// Print a line per image
    #[arg(long, short)]
    pub(crate) verbose: bool,

    /// Weights file (safetensors, .pth, .pt, .pkl, .onnx, .param); repeatable
    ///
    /// From 'train', or published for a supported architecture. With --model, a
    /// single file, which must hold that model.
    #[arg(long, short, value_name = "FILE")]
    pub(crate) weights: Vec<PathBuf>,

    #[command(flatten)]
    pub(crate) damage: DamageArgs,

    #[command(flatten)]
    pub(crate) file: FileArgs,

    #[command(flatten)]
    pub(crate) compute: ComputeArgs,
}

/// Show the results of models side by side
///
/// Writes a sheet per image: the original, the low-resolution image, bicubic
/// interpolation and the models, whole and zoomed, with PSNR and SSIM under each,
/// measured as by 'sr evaluate'. Results of luma networks are shown in colour,
/// with chroma from bicubic interpolation.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  sr compare butterfly.png --scale 3
  sr compare Set5 --scale 2 --weights runs/mine/best.safetensors -o sheets
  sr compare baby.png --scale 4 --crop 180,200,80,60 -o baby-x4.png")]
pub(crate) struct CompareArgs {
    /// Image (PNG, JPEG, BMP, WebP, TIFF, GIF) or folder
    ///
    /// All images in a folder and its subfolders are compared. An image that
    /// cannot be is skipped with a message, and the exit status is 1.
    #[arg(value_name = "IMAGE|DIR")]
    pub(crate) input: PathBuf,

    /// Scale: 2, 1.5 or 3/2; above 1, at most 16
    #[arg(long, short, value_name = "S", value_parser = scale)]
    pub(crate) scale: Scale,

    /// Additional models, as listed by 'sr models'
    ///
    /// srcnn and hypersrcnn are on every sheet if they have weights for its scale.
    #[arg(long, short, value_name = "NAME[,NAME]", value_delimiter = ',')]
    pub(crate) model: Vec<String>,

    /// Additional weights file (safetensors, .pth, .pt, .pkl, .onnx, .param); repeatable
    ///
    /// From 'train', or published for a supported architecture.
    #[arg(long, short, value_name = "FILE")]
    pub(crate) weights: Vec<PathBuf>,

    /// Output PNG file or folder [default: NAME-compare-xS in the current folder]
    ///
    /// A folder if a folder is compared, if it exists as a folder or ends with '/'.
    /// Missing folders are created.
    #[arg(long, short, value_name = "FILE.png|DIR")]
    pub(crate) output: Option<PathBuf>,

    /// Area to zoom, in pixels of the original [default: the largest error of bicubic]
    #[arg(long, value_name = "X,Y,W,H", value_parser = area)]
    pub(crate) crop: Option<Area>,

    /// Overwrite existing files
    ///
    /// The input is never overwritten.
    #[arg(long, short)]
    pub(crate) force: bool,

    #[command(flatten)]
    pub(crate) method: MethodArgs,

    #[command(flatten)]
    pub(crate) file: FileArgs,

    #[command(flatten)]
    pub(crate) compute: ComputeArgs,
}

/// Convert another project's weights file to safetensors, or list its tensors
///
/// Reads safetensors and PyTorch checkpoints (.pth, .pt, .pkl) without running
/// code from them, and detects the architecture by the names and shapes of the
/// tensors; and graphs in ONNX (.onnx) and networks of ncnn (.param, next to its
/// .bin), which are run by themselves. --weights of the other commands opens the
/// same files directly.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  sr import realesr-animevideov3.pth
  sr import srcnn_x3.pth --trained-scale 3 --border replicate --out srcnn_x3.safetensors
  sr import unknown.pkl --list
  sr import --list model.onnx
  sr import luma.onnx --range full")]
pub(crate) struct ImportArgs {
    /// Weights file
    #[arg(value_name = "FILE")]
    pub(crate) weights: PathBuf,

    /// Output file [default: FILE's name with .safetensors, in the current folder]
    #[arg(long, short, value_name = "FILE.safetensors")]
    pub(crate) out: Option<PathBuf>,

    /// List name, type and shape of every tensor instead, and tell what the file holds
    ///
    /// Architecture, scale, planes, what it costs, and how long a frame of 1280x720 takes on
    /// this machine. The tensors of unknown architectures are listed, too.
    #[arg(long, conflicts_with_all = ["out", "force"])]
    pub(crate) list: bool,

    /// Overwrite an existing file
    ///
    /// The input is never overwritten.
    #[arg(long, short)]
    pub(crate) force: bool,

    #[command(flatten)]
    pub(crate) file: FileArgs,
}

/// Write a network for other programs: ONNX, or safetensors
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  sr export espcn --to onnx --scale 2
  sr export --weights runs/mine/best.safetensors --to onnx --scale 3 --out mine-x3.onnx
  sr export hypersrcnn --to safetensors --scale 5     # the SRCNN that it generates
  sr export --weights RealESRGAN_x4plus.pth --to onnx --scale 4
  sr export --weights runs/mine/best.safetensors --to f16")]
pub(crate) struct ExportArgs {
    /// Model, as listed by 'sr models' [default: that of --weights]
    #[arg(value_name = "MODEL", required_unless_present = "weights")]
    pub(crate) model: Option<String>,

    /// Weights file, instead of the built-in weights
    #[arg(long, short, value_name = "FILE")]
    pub(crate) weights: Option<PathBuf>,

    /// What to write
    #[arg(long, value_enum)]
    pub(crate) to: ExportFormat,

    /// Scale, one that the model has weights for
    #[arg(long, short, value_name = "N", required_if_eq_any = [("to", "onnx"), ("to", "safetensors"), ("to", "pth-keys")])]
    pub(crate) scale: Option<Scale>,

    /// Output file [default: in the current folder MODEL-xN.onnx or MODEL-xN.safetensors, of f16
    /// FILE-f16.safetensors]
    #[arg(long, short, value_name = "FILE")]
    pub(crate) out: Option<PathBuf>,

    /// Overwrite an existing file
    #[arg(long, short)]
    pub(crate) force: bool,

    #[command(flatten)]
    pub(crate) file: FileArgs,
}

/// What is exported.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum ExportFormat {
    /// A graph of f32 for ONNX Runtime, OpenVINO and the like: images (N, C, H, W) of any
    /// size, values 0 to 1, bicubic enlargement included
    Onnx,
    /// A weights file of srfilter, with its card
    Safetensors,
    /// The tensors alone, as safetensors, by the names that the network has in PyTorch
    PthKeys,
    /// The weights file of --weights, all scales and card, with its weights rounded to 16 bits:
    /// half as large
    F16,
}

/// Add weights in 8-bit integers to a weights file
///
/// Two to four times as fast on CPUs with 8-bit dot products, and the same bits on
/// every machine. The ranges of the layers come from every other image in DIR, the
/// loss is measured on the others, and stated in the file. Training for it loses
/// less: the section `quantize` of the recipes of 'train'.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  sr quantize espcn.safetensors --data pictures
  sr quantize realesr-animevideov3.pth --data frames --out anime-int8.safetensors")]
pub(crate) struct QuantizeArgs {
    /// Weights file
    #[arg(value_name = "FILE")]
    pub(crate) weights: PathBuf,

    /// Folder of images, in full resolution: some ten of what the network is for
    #[arg(long, short, value_name = "DIR")]
    pub(crate) data: PathBuf,

    /// Output file [default: FILE's name with -int8.safetensors, in the current folder]
    #[arg(long, short, value_name = "FILE.safetensors")]
    pub(crate) out: Option<PathBuf>,

    /// Overwrite an existing file
    ///
    /// The input is never overwritten.
    #[arg(long, short)]
    pub(crate) force: bool,

    #[command(flatten)]
    pub(crate) file: FileArgs,
}

/// List the models, their costs and their speed on this machine
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  sr models
  sr models --costs
  sr models --live 1280x720@25
  sr models --time 256,512 --model espcn,srcnn,srresnet --threads 1")]
pub(crate) struct ModelsArgs {
    /// Only these models
    #[arg(long, short, value_name = "NAME[,NAME]", value_delimiter = ',')]
    pub(crate) model: Vec<String>,

    /// Print which models hold a live stream of WIDTHxHEIGHT@RATE on this machine
    ///
    /// Frames a second are estimated from parts of a frame (I420), as by the element with
    /// 'model=auto' and 'on-overload=fallback'. A model holds the stream if a frame takes at
    /// most 85 % of the time that it lasts.
    #[arg(long, value_name = "WxH@R", value_parser = live, conflicts_with_all = ["time", "costs"])]
    pub(crate) live: Option<Live>,

    /// Scale of --live: 2, 1.5 or 3/2
    #[arg(long, short, value_name = "S", default_value = "2", value_parser = scale, requires = "live")]
    pub(crate) scale: Scale,

    /// Print the costs of each model's networks
    ///
    /// Number of weights, and multiply-accumulates (MAC) per output pixel, by
    /// scale.
    #[arg(long, conflicts_with = "time")]
    pub(crate) costs: bool,

    /// Measure the time for outputs of SIDE x SIDE pixels
    ///
    /// At x4 if the model has it, else at its smallest scale: the fastest run within
    /// one second per size. Models without built-in weights run with random ones.
    #[arg(long, value_name = "SIDE[,SIDE]", value_delimiter = ',')]
    pub(crate) time: Vec<usize>,

    /// Print JSON
    ///
    /// A list of {name, channels, scales, built_in, params,
    /// mac_per_output_pixel, costs, summary}. scales is "any", a list, or null if
    /// it depends on the weights file. built_in: whether the model runs without
    /// --weights. costs is a list of {scale, params, mac_per_output_pixel}, the
    /// first of which is repeated at the top level. With --time also times:
    /// {side: {scale, ms}}.
    #[arg(long)]
    pub(crate) json: bool,

    #[command(flatten)]
    pub(crate) compute: ComputeArgs,
}

/// Measure models on a clip, without an original
///
/// Plays the clip through the element srfilter with each model and with bicubic
/// interpolation, and prints what its property 'measure' measures: whether the result
/// is consistent with the clip, and whether it flickers more.
#[cfg(feature = "video")]
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  sr measure clip.mp4 --model espcn,espcn-video
  sr measure clip.mkv --scale 3 --weights runs/mine/best.safetensors --frames 100")]
pub(crate) struct MeasureArgs {
    /// Video file: all that the installed GStreamer decodes
    #[arg(value_name = "CLIP")]
    pub(crate) clip: PathBuf,

    /// Models, as listed by 'sr models' [default: hypersrcnn, or those of --weights]
    #[arg(long, short, value_name = "NAME[,NAME]", value_delimiter = ',')]
    pub(crate) model: Vec<String>,

    /// Weights file (safetensors, .pth, .pt, .pkl, .onnx, .param); repeatable
    #[arg(long, short, value_name = "FILE")]
    pub(crate) weights: Vec<PathBuf>,

    /// Scale: 2, 1.5 or 3/2; above 1, at most 16
    #[arg(long, short, value_name = "S", default_value = "2", value_parser = scale)]
    pub(crate) scale: Scale,

    /// Only the first N frames
    #[arg(long, value_name = "N", value_parser = value_parser!(u64).range(1..))]
    pub(crate) frames: Option<u64>,

    /// Print JSON
    ///
    /// A list with one entry per model: {model, weights, scale, device, input, output,
    /// frames, consistency_db, flicker, input_flicker, motion_ratio, still,
    /// unchanged_tiles, average_ms}. input and output are [width, height], still and
    /// unchanged_tiles shares from 0 to 1. null: a consistency that is infinite, or
    /// nothing to measure.
    #[arg(long)]
    pub(crate) json: bool,

    #[command(flatten)]
    pub(crate) device: DeviceArgs,
}

/// Upscale a video file
///
/// The video is decoded, upscaled and encoded; sound and subtitles, chapters and tags go
/// over as they are. Every frame keeps its time. The work is done in segments, which are
/// kept in OUT.parts: run again after an interruption, it goes on. 'plan', 'segment' and
/// 'join' are its parts, for work on several machines: the frames have the same bits on
/// all of them.
#[cfg(feature = "video")]
#[derive(Debug, clap::Args)]
#[command(
    args_conflicts_with_subcommands = true,
    subcommand_negates_reqs = true,
    after_help = "\
Examples:
  sr video clip.mkv clip-2x.mkv --model espcn-video
  sr video clip.mp4 clip-1080p.mp4 --size 1920x1080 --encoder x265 --quality 22
  sr video plan clip.mkv --model espcn-video --segments 8 > plan.json
  sr video segment plan.json 0 --out parts
  sr video join plan.json parts clip-2x.mkv"
)]
pub(crate) struct VideoArgs {
    #[command(subcommand)]
    pub(crate) command: Option<VideoCommand>,

    /// Video file that GStreamer reads
    #[arg(value_name = "IN", required = true)]
    pub(crate) input: Option<PathBuf>,

    /// Output file: mkv, webm, mp4, m4v or mov
    #[arg(value_name = "OUT", required = true)]
    pub(crate) output: Option<PathBuf>,

    #[command(flatten)]
    pub(crate) settings: VideoSettings,

    /// Seconds of a segment, from keyframe to keyframe [default: 20]
    #[arg(long, value_name = "S", value_parser = positive)]
    pub(crate) seconds: Option<f64>,

    /// Leave out what the container of OUT cannot hold
    #[arg(long)]
    pub(crate) drop: bool,

    /// Print the time and size to expect, from two seconds of the video, instead
    #[arg(long)]
    pub(crate) dry_run: bool,

    /// Print a line of JSON for each segment and for the file, instead of a progress bar
    #[arg(long)]
    pub(crate) json: bool,

    /// Overwrite an existing file
    ///
    /// The input is never overwritten.
    #[arg(long, short)]
    pub(crate) force: bool,
}

/// The parts of 'sr video'.
#[cfg(feature = "video")]
#[derive(Debug, Subcommand)]
pub(crate) enum VideoCommand {
    Plan(PlanArgs),
    Cut(CutArgs),
    Segment(SegmentArgs),
    Check(CheckArgs),
    Join(JoinArgs),
}

/// Print how a video is divided into segments, as JSON
#[cfg(feature = "video")]
#[derive(Debug, clap::Args)]
pub(crate) struct PlanArgs {
    /// Video file
    #[arg(value_name = "IN")]
    pub(crate) input: PathBuf,

    #[command(flatten)]
    pub(crate) settings: VideoSettings,

    /// Number of segments, at most: they begin at keyframes
    #[arg(long, value_name = "N", conflicts_with = "seconds", value_parser = value_parser!(u16).range(1..))]
    pub(crate) segments: Option<u16>,

    /// Seconds of a segment, at least [default: 20]
    #[arg(long, value_name = "S", value_parser = positive)]
    pub(crate) seconds: Option<f64>,

    /// Fail if a file of this name could not hold the streams of IN
    #[arg(long, short, value_name = "FILE")]
    pub(crate) output: Option<PathBuf>,

    /// Allow streams that the output cannot hold
    #[arg(long, requires = "output")]
    pub(crate) drop: bool,
}

/// Write the part of the input that a segment of a plan is computed from
///
/// For machines that do not have the file: 'sr video segment PLAN K --packets FILE'.
#[cfg(feature = "video")]
#[derive(Debug, clap::Args)]
pub(crate) struct CutArgs {
    /// Plan of 'sr video plan'
    #[arg(value_name = "PLAN")]
    pub(crate) plan: PathBuf,

    /// Number of the segment, from 0 on
    #[arg(value_name = "K")]
    pub(crate) index: usize,

    /// File of the packets
    #[arg(long, short, value_name = "FILE")]
    pub(crate) out: PathBuf,

    /// The input, if it lies elsewhere than in the plan
    #[arg(long, value_name = "FILE")]
    pub(crate) input: Option<PathBuf>,
}

/// List the segments of a plan that are finished, as lines of JSON
#[cfg(feature = "video")]
#[derive(Debug, clap::Args)]
pub(crate) struct CheckArgs {
    /// Plan of 'sr video plan'
    #[arg(value_name = "PLAN")]
    pub(crate) plan: PathBuf,

    /// Folder of the segments
    #[arg(value_name = "DIR")]
    pub(crate) dir: PathBuf,

    /// Number of the segment [default: all of them]
    #[arg(value_name = "K")]
    pub(crate) index: Option<usize>,
}

/// Compute a segment of a plan
///
/// Writes DIR/segment-K.packets and, when that is whole, DIR/segment-K.json. A segment that
/// is there already is not computed again. Prints a line of JSON.
#[cfg(feature = "video")]
#[derive(Debug, clap::Args)]
pub(crate) struct SegmentArgs {
    /// Plan of 'sr video plan'
    #[arg(value_name = "PLAN")]
    pub(crate) plan: PathBuf,

    /// Number of the segment, from 0 on
    #[arg(value_name = "K")]
    pub(crate) index: usize,

    /// Folder of the segments
    #[arg(long, short, value_name = "DIR")]
    pub(crate) out: PathBuf,

    /// The input, if it lies elsewhere than in the plan
    #[arg(long, value_name = "FILE")]
    pub(crate) input: Option<PathBuf>,

    /// Packets of the segment, of 'sr video cut', instead of the input
    #[arg(long, value_name = "FILE", conflicts_with = "input")]
    pub(crate) packets: Option<PathBuf>,

    /// The weights file, if it lies elsewhere than in the plan
    #[arg(long, short, value_name = "FILE")]
    pub(crate) weights: Option<PathBuf>,

    /// Device: auto, cpu, cuda or cuda:N
    #[arg(long, default_value_t = DeviceChoice::Auto)]
    pub(crate) device: DeviceChoice,

    /// CPU threads; 0: one per core
    #[arg(long, value_name = "N", default_value_t = 0, value_parser = value_parser!(u16).range(0..=1024))]
    pub(crate) threads: u16,
}

/// Join the segments of a plan, and the sound of the input, to a file
#[cfg(feature = "video")]
#[derive(Debug, clap::Args)]
pub(crate) struct JoinArgs {
    /// Plan of 'sr video plan'
    #[arg(value_name = "PLAN")]
    pub(crate) plan: PathBuf,

    /// Folder of the segments
    #[arg(value_name = "DIR")]
    pub(crate) dir: PathBuf,

    /// Output file: mkv, webm, mp4, m4v or mov
    #[arg(value_name = "OUT")]
    pub(crate) output: PathBuf,

    /// The input, if it lies elsewhere than in the plan
    #[arg(long, value_name = "FILE")]
    pub(crate) input: Option<PathBuf>,

    /// Leave out what the container of OUT cannot hold
    #[arg(long)]
    pub(crate) drop: bool,

    /// Overwrite an existing file
    #[arg(long, short)]
    pub(crate) force: bool,
}

/// How video is upscaled and encoded.
#[cfg(feature = "video")]
#[derive(Debug, clap::Args)]
pub(crate) struct VideoSettings {
    /// Model, as listed by 'sr models' [default: espcn-video, with --damage espcn, or that of --weights]
    #[arg(long, short, value_name = "NAME")]
    pub(crate) model: Option<String>,

    /// Weights file, instead of the built-in weights
    #[arg(long, short, value_name = "FILE")]
    pub(crate) weights: Option<PathBuf>,

    /// Scale: 2, 1.5 or 3/2; above 1, at most 16
    #[arg(long, short, value_name = "S", default_value = "2", value_parser = scale_or_one)]
    pub(crate) scale: Scale,

    /// Width and height of the output, instead of the scale
    #[arg(long, value_name = "WxH", value_parser = size)]
    pub(crate) size: Option<(u32, u32)>,

    /// Video encoder
    #[arg(long, value_enum, default_value_t = Encoder::X264)]
    pub(crate) encoder: Encoder,

    /// Constant quality on the encoder's scale, smaller is better [default: x264 18, x265 20, av1 and vp9 24]
    #[arg(long, value_name = "N", value_parser = value_parser!(u32).range(0..=63))]
    pub(crate) quality: Option<u32>,

    /// Bits of a sample, 8 or 10 [default: 10 for inputs of more than 8]
    #[arg(long, value_name = "N", value_parser = bits)]
    pub(crate) bit_depth: Option<u32>,

    /// Make whole frames of interlaced ones, as many as there are
    #[arg(long)]
    pub(crate) deinterlace: bool,

    /// Second of the input to begin at
    #[arg(long, value_name = "S", value_parser = seconds)]
    pub(crate) start: Option<f64>,

    /// Second of the input to end before
    #[arg(long, value_name = "S", value_parser = seconds)]
    pub(crate) end: Option<f64>,

    #[command(flatten)]
    pub(crate) damage: DamageArgs,

    #[command(flatten)]
    pub(crate) device: DeviceArgs,
}

/// Write the man pages, and the completions of shells, to a folder
#[derive(Debug, clap::Args)]
pub(crate) struct ManualArgs {
    /// The folder; missing ones are created
    #[arg(value_name = "DIR")]
    pub(crate) folder: PathBuf,
}

/// Settings that other projects' weights files do not state.
#[derive(Debug, clap::Args)]
pub(crate) struct FileArgs {
    /// Padding of the network's convolutions
    ///
    /// For weights files that do not state it. Default: zero, or replicate if the
    /// file's metadata contains that word.
    #[arg(long, value_enum, requires = "weights")]
    border: Option<BorderName>,

    /// Scales that the weights were trained for
    ///
    /// For weights files that do not state them. Default: any scale.
    #[arg(
        long,
        value_name = "S[,S]",
        value_delimiter = ',',
        requires = "weights"
    )]
    trained_scale: Vec<Scale>,

    /// The network to read from a file with several
    ///
    /// The key of a dictionary (params, generator) or the first part of the tensors'
    /// names. Default: averaged weights (EMA) if there are any, and the generator.
    #[arg(long, value_name = "NAME", requires = "weights")]
    key: Option<String>,

    /// Range of the luma that a graph (ONNX, ncnn) works on
    ///
    /// Default: what the file's metadata say under 'range', else limited.
    #[arg(long, value_enum, requires = "weights")]
    range: Option<RangeName>,
}

impl FileArgs {
    /// The overrides for a weights file.
    pub(crate) fn hints(&self) -> LoadOverrides {
        let mut overrides = LoadOverrides::default();
        overrides.border = self.border.map(Border::from);
        overrides.key.clone_from(&self.key);
        overrides.range = self.range.map(Range::from);
        if !self.trained_scale.is_empty() {
            overrides.scales = Some(self.trained_scale.clone());
        }
        overrides
    }
}

/// Where networks run.
#[derive(Debug, clap::Args)]
pub(crate) struct DeviceArgs {
    /// Device: auto, cpu, cuda or cuda:N
    #[arg(long, default_value_t = DeviceChoice::Auto)]
    pub(crate) device: DeviceChoice,

    /// Precision: auto, f32, int8 or, on a GPU, tf32, f16 or bf16; auto is int8 on the CPU where the weights
    /// state a loss of at most 0.06 dB, and f16 or tf32 on a GPU
    #[arg(long, default_value_t = Precision::Auto)]
    pub(crate) precision: Precision,

    /// CPU threads; 0: one per core
    #[arg(long, value_name = "N", default_value_t = 0, value_parser = value_parser!(u16).range(0..=1024))]
    pub(crate) threads: u16,
}

/// Where and how networks run.
#[derive(Debug, clap::Args)]
pub(crate) struct ComputeArgs {
    #[command(flatten)]
    device: DeviceArgs,

    /// Tile size of networks in input pixels; 0: automatic
    #[arg(long, value_name = "PIXELS", default_value_t = 0)]
    tile: usize,

    /// Overlap in pixels of the tiles of networks that need whole images (drct);
    /// overlapping results are averaged. 0: whole images, whose size is limited
    #[arg(long, value_name = "PIXELS", default_value_t = 0)]
    overlap: usize,
}

impl ComputeArgs {
    /// The device, precision and threads.
    #[cfg(feature = "video")]
    pub(crate) fn device(&self) -> &DeviceArgs {
        &self.device
    }

    /// The options of the library.
    pub(crate) fn options(&self) -> UpscaleOptions {
        UpscaleOptions::default()
            .with_device(self.device.device)
            .with_precision(self.device.precision)
            .with_threads(usize::from(self.device.threads))
            .with_tile_size(self.tile)
            .with_tile_overlap(self.overlap)
    }
}

/// The evaluation protocol.
#[derive(Debug, clap::Args)]
pub(crate) struct MethodArgs {
    /// Evaluation protocol
    ///
    /// The original is first cropped, at the right and the bottom, to a size that
    /// the scale divides. Results are rounded to 8 bits.
    #[arg(long, value_enum, default_value_t = Protocol::Y)]
    protocol: Protocol,

    /// Do not round the low-resolution images to 8 bits (protocol y)
    ///
    /// As in the code published with SRCNN. Results are rounded in any case.
    #[arg(long)]
    no_round: bool,

    /// How the low-resolution images are computed from the originals
    #[arg(long, value_enum, default_value_t = Degradation::Bicubic)]
    degradation: Degradation,

    /// Weights of a feature network (VGG or SqueezeNet): also measure a perceptual distance
    ///
    /// That of LPIPS without its learned weights, by a VGG (with torchvision's names) or SqueezeNet
    /// 1.0; 0 for equal images. With protocol y, images of luma networks are compared in grey.
    #[arg(long, value_name = "FILE")]
    features: Option<PathBuf>,
}

impl MethodArgs {
    /// The method; exits the program if the flags conflict.
    ///
    /// # Errors
    ///
    /// A feature network that cannot be read.
    pub(crate) fn method(&self, command: &str, compute: &ComputeArgs) -> Result<Method> {
        if self.no_round && self.protocol == Protocol::Rgb {
            let message =
                "--no-round needs --protocol y; protocol rgb always rounds, as Pillow does";
            refuse(command, message);
        }
        if self.no_round && self.degradation != Degradation::Bicubic {
            let message = "--no-round needs --degradation bicubic; others end with JPEG";
            refuse(command, message);
        }
        let features = self.features.as_deref();
        Ok(Method {
            protocol: self.protocol,
            round: !self.no_round,
            degradation: self.degradation,
            features: features
                .map(|path| Features::open(path, &Device::Cpu))
                .transpose()
                .map_err(|error| anyhow!("{error:#}"))?,
            damage: DamageSource::default(),
            options: compute.options(),
        })
    }
}

/// Exits the program with an error about conflicting flags.
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
    /// Zero padding, as in PyTorch
    Zero,
    /// Edge samples are repeated, as in MATLAB
    Replicate,
    /// No padding in the network: the input is padded by its edge samples instead
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

/// The names of [`Range`]s.
#[derive(Debug, Clone, Copy, ValueEnum)]
enum RangeName {
    /// Black is 16 and white 235 of 255, as in video
    Limited,
    /// Black is 0 and white 255, as in mpv's shaders
    Full,
}

impl From<RangeName> for Range {
    fn from(name: RangeName) -> Self {
        match name {
            RangeName::Limited => Self::Limited,
            RangeName::Full => Self::Full,
        }
    }
}

/// A scale of at least 1.
fn scale_or_one(text: &str) -> Result<Scale, String> {
    match text.parse::<Scale>() {
        Ok(Scale::ONE) => Ok(Scale::ONE),
        _ => scale(text),
    }
}

/// A scale above 1.
fn scale(text: &str) -> Result<Scale, String> {
    match text.parse::<Scale>() {
        Ok(scale) if scale > Scale::ONE => Ok(scale),
        Ok(_) => Err("the scale must be above 1".to_owned()),
        Err(e) => Err(e.to_string()),
    }
}

/// Width and height: WIDTHxHEIGHT.
#[cfg(feature = "video")]
fn size(text: &str) -> Result<(u32, u32), String> {
    let parse = || {
        let (width, height) = text.split_once('x')?;
        let side = |text: &str| text.parse().ok().filter(|side| (1..=16384).contains(side));
        Some((side(width)?, side(height)?))
    };
    parse().ok_or_else(|| "expected WIDTHxHEIGHT, such as 1920x1080".to_owned())
}

/// 8 or 10 bits.
#[cfg(feature = "video")]
fn bits(text: &str) -> Result<u32, String> {
    match text {
        "8" => Ok(8),
        "10" => Ok(10),
        _ => Err("expected 8 or 10".to_owned()),
    }
}

/// Seconds, 0 or more.
#[cfg(feature = "video")]
fn seconds(text: &str) -> Result<f64, String> {
    let seconds = text.parse().ok();
    let seconds = seconds.filter(|seconds: &f64| (0.0..1e9).contains(seconds));
    seconds.ok_or_else(|| "expected seconds, such as 61.5".to_owned())
}

/// Seconds above 0.
#[cfg(feature = "video")]
fn positive(text: &str) -> Result<f64, String> {
    seconds(text).and_then(|seconds| match seconds > 0.0 {
        true => Ok(seconds),
        false => Err("expected more than 0".to_owned()),
    })
}

/// A live stream.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Live {
    pub(crate) width: usize,
    pub(crate) height: usize,
    /// Frames a second.
    pub(crate) rate: f64,
}

/// A live stream: WIDTHxHEIGHT@RATE.
fn live(text: &str) -> Result<Live, String> {
    let parse = || {
        let (size, rate) = text.split_once('@')?;
        let (width, height) = size.split_once('x')?;
        Some(Live {
            width: width.parse().ok().filter(|&width| width > 0)?,
            height: height.parse().ok().filter(|&height| height > 0)?,
            rate: rate
                .parse()
                .ok()
                .filter(|&rate: &f64| rate > 0.0 && rate.is_finite())?,
        })
    };
    parse().ok_or_else(|| "expected WIDTHxHEIGHT@RATE, such as 1280x720@25".to_owned())
}

/// An area of an image: X,Y,W,H.
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

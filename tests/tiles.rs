//! The output does not depend on tiles and threads, bit for bit.
#![allow(clippy::unwrap_used, missing_docs)]

mod common;

use srfilter::Scale;
use srfilter::engine::{FrameSpec, UpscaleOptions, UpscaleSpec, Upscaler};
use srfilter::frame::Image;
use srfilter::models::{Architecture, BoxedScaleNetwork, Channels, Scales, drct, hdsrnet, lapan};
use srfilter::ops::Border;
use srfilter::weights::{LoadOverrides, Model};

fn noise_image(width: usize, height: usize) -> Image {
    let mut image = Image::new(width, height, 3);
    let mut next = common::noise(3);
    image
        .data
        .iter_mut()
        .for_each(|v| *v = (next() * 256.0) as u8);
    image
}

/// The output and the number of tiles.
fn run(file: &std::path::Path, scale: &str, options: UpscaleOptions) -> (Vec<u8>, usize) {
    let model = Model::open_with(file, None, &LoadOverrides::default()).unwrap();
    let input = noise_image(41, 33);
    let frame_spec = FrameSpec::rgb8(input.width, input.height);
    let spec = UpscaleSpec::scaled(frame_spec, scale.parse().unwrap());
    let mut upscaler = Upscaler::new(model, spec, &options).unwrap();
    let mut output = Image::new(spec.output.0, spec.output.1, 3);
    upscaler
        .process(&input.frame().unwrap(), &mut output.frame_mut().unwrap())
        .unwrap();
    (output.data, upscaler.tiles())
}

#[test]
fn tiled_equals_untiled() {
    let dir = tempfile::tempdir().unwrap();
    for channels in [Channels::Luma, Channels::Rgb] {
        for border in [Border::Zero, Border::Replicate, Border::Valid] {
            let file = common::small_file(dir.path(), channels, border);
            for scale in ["2", "3/2", "4"] {
                let options = |tile| {
                    UpscaleOptions::default()
                        .with_threads(1)
                        .with_tile_size(tile)
                };
                let (untiled, count) = run(&file, scale, options(1000));
                assert!(count <= 2, "one tile for each stage, found {count}");
                // Output sides at x2 are 82 and 66, tiles multiples of 12.
                for tile in [5, 13, 27, 49, 65] {
                    let (tiled, count) = run(&file, scale, options(tile));
                    assert!(count > 1, "tile {tile} gave {count} tiles");
                    assert!(
                        tiled == untiled,
                        "{channels} {border:?} x{scale}, tile {tile}"
                    );
                }
            }
        }
    }
}

/// Integer and fractional scales.
#[test]
fn tiled_equals_untiled_for_post_upsampling_networks() {
    let dir = tempfile::tempdir().unwrap();
    let file = common::espcn_file(dir.path());
    for scale in ["2", "5/2", "3", "9/2"] {
        let options = |tile, threads| {
            UpscaleOptions::default()
                .with_threads(threads)
                .with_tile_size(tile)
        };
        let (untiled, count) = run(&file, scale, options(1000, 1));
        assert!(count <= 2, "one tile for each stage, found {count}");
        // The input has 41 x 33 samples, tiles multiples of 12.
        for (tile, threads) in [(5, 1), (12, 2), (20, 3), (24, 1), (30, 5), (36, 0)] {
            let (tiled, count) = run(&file, scale, options(tile, threads));
            assert!(count > 1, "tile {tile} gave {count} tiles");
            assert!(tiled == untiled, "x{scale}, tile {tile}, {threads} threads");
        }
    }
}

#[test]
fn threads_change_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let file = common::small_file(dir.path(), Channels::Luma, Border::Replicate);
    let with = |threads| {
        let options = UpscaleOptions::default().with_threads(threads);
        run(&file, "2", options).0
    };
    let one = with(1);
    for threads in [0, 2, 3, 5] {
        assert!(with(threads) == one, "{threads} threads");
    }
}

/// The halo of tiles is not larger than the receptive field.
#[test]
fn the_halo_is_not_too_large() {
    let dir = tempfile::tempdir().unwrap();
    let small = common::small_file(dir.path(), Channels::Luma, Border::Zero);
    for file in [small, common::espcn_file(dir.path())] {
        let loaded = Model::open_with(&file, None, &LoadOverrides::default()).unwrap();
        the_halo_counts(&loaded.for_scale(Scale::whole(2)).unwrap());
    }
}

fn the_halo_counts(network: &BoxedScaleNetwork) {
    let image = |edge: f32| {
        let (side, halo) = (21, network.halo());
        let factor = network.upsampling().factor();
        let mut samples = vec![0.5f32; side * side];
        // Change a sample at the halo's distance from the centre.
        samples[side / 2 * side + side / 2 - halo] = edge;
        let device = candle_core::Device::Cpu;
        let x = candle_core::Tensor::from_vec(samples, (1, 1, side, side), &device).unwrap();
        let y = network.forward(&x).unwrap();
        let rows = y.get(0).unwrap().get(0).unwrap().to_vec2::<f32>().unwrap();
        rows[factor * (side / 2)][factor * (side / 2)]
    };
    assert_ne!(image(0.5), image(0.9));
}

/// Small networks with global pooling, and the size of an image for each: odd,
/// and larger than a tile.
fn pooling() -> [(Architecture, (usize, usize)); 3] {
    let lapan = |chained| Architecture::Lapan(lapan::Config { width: 16, chained });
    let hdsrnet = Architecture::HdsrNet(hdsrnet::Config { width: 8 });
    [
        (hdsrnet, (51, 37)),
        (lapan(false), (19, 17)),
        (lapan(true), (17, 5)),
    ]
}

/// In passes over tiles the output is that of the whole image up to the rounding
/// of the means.
#[test]
fn means_are_taken_over_the_whole_image() {
    let dir = tempfile::tempdir().unwrap();
    for (i, (architecture, size)) in pooling().into_iter().enumerate() {
        let file = dir.path().join(format!("{i}.safetensors"));
        common::save(&file, architecture, Scales::list([Scale::whole(2)]), 6);
        let model = Model::open_with(&file, None, &LoadOverrides::default()).unwrap();
        let frame_spec = FrameSpec::rgb8(size.0, size.1);
        let mut next = common::noise(9);
        let mut plane = || {
            (0..size.0 * size.1)
                .map(|_| (next() * 255.0) as f32)
                .collect()
        };
        let planes: [Vec<f32>; 3] = [plane(), plane(), plane()];
        let run = |tile, memory| {
            let options = UpscaleOptions::default()
                .with_tile_size(tile)
                .with_memory_limit(memory);
            let spec = UpscaleSpec::scaled(frame_spec, Scale::whole(2));
            let mut upscaler = Upscaler::new(model.clone(), spec, &options).unwrap();
            (
                upscaler.process_planes(&planes).unwrap().concat(),
                upscaler.tiles(),
            )
        };
        let (untiled, count) = run(0, 0);
        assert_eq!(count, 1);
        let inside = untiled.iter().filter(|v| (1.0..254.0).contains(*v)).count();
        assert!(inside > 100, "{inside} values are not clamped");
        for (tile, memory) in [(0, 1), (13, 1 << 40)] {
            let (tiled, count) = run(tile, memory);
            assert!(count > 1, "tile {tile}, {memory} bytes");
            let off = untiled.iter().zip(&tiled).map(|(a, b)| (a - b).abs());
            let off = off.fold(0.0, f32::max);
            println!("{}: off by {off} of 255 in {count} tiles", model.name());
            assert!(
                off < 2e-3,
                "{:?} off by {off} of 255 in {count} tiles",
                model.name()
            );
        }
    }
}

/// A whole-frame network in overlapping tiles: each sample is the mean of the
/// tiles that cover it.
#[test]
fn overlapping_tiles_are_averaged() {
    const SIZE: (usize, usize) = (37, 21);
    const TILE: usize = 12;
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("drct.safetensors");
    let config = drct::Config {
        width: 12,
        groups: 2,
        heads: 2,
        window: 4,
        growth: 4,
        mlp_ratio: 2,
    };
    let two = Scale::whole(2);
    common::save(&file, Architecture::Drct(config), Scales::list([two]), 6);
    let model = Model::open_with(&file, None, &LoadOverrides::default()).unwrap();
    let mut next = common::noise(9);
    let planes = [(); 3].map(|()| {
        let samples = (0..SIZE.0 * SIZE.1).map(|_| (next() * 255.0) as f32);
        samples.collect::<Vec<_>>()
    });
    let frame_spec = FrameSpec::rgb8(SIZE.0, SIZE.1);
    let spec = UpscaleSpec::scaled(frame_spec, two);
    let options = UpscaleOptions::default()
        .with_tile_size(TILE)
        .with_tile_overlap(5);
    let mut upscaler = Upscaler::new(model.clone(), spec, &options).unwrap();
    let averaged = upscaler.process_planes(&planes).unwrap();

    // Steps of 7, the last tile at the edge.
    let (columns, rows) = ([0, 7, 14, 21, 25], [0, 7, 9]);
    assert_eq!(upscaler.tiles(), columns.len() * rows.len());
    let network = model.for_scale(two).unwrap();
    let mut sums = vec![[0f32; 2]; 3 * 4 * SIZE.0 * SIZE.1];
    for top in rows {
        for left in columns {
            let rows = planes
                .iter()
                .flat_map(|plane| plane.chunks(SIZE.0).skip(top).take(TILE));
            let samples = rows.flat_map(|row| row[left..left + TILE].iter().map(|v| v / 255.0));
            let x = candle_core::Tensor::from_iter(samples, &candle_core::Device::Cpu).unwrap();
            let y = network
                .forward(&x.reshape((1, 3, TILE, TILE)).unwrap())
                .unwrap();
            let y = y.flatten_all().unwrap().to_vec1::<f32>().unwrap();
            for (i, value) in y.into_iter().enumerate() {
                let (plane, row, column) = (
                    i / (4 * TILE * TILE),
                    2 * top + i / (2 * TILE) % (2 * TILE),
                    2 * left + i % (2 * TILE),
                );
                let [sum, count] = &mut sums[(plane * 2 * SIZE.1 + row) * 2 * SIZE.0 + column];
                *sum += value * 255.0;
                *count += 1.0;
            }
        }
    }
    let expected = sums
        .iter()
        .map(|[sum, count]| (sum / count).clamp(0.0, 255.0));
    let off = averaged
        .concat()
        .into_iter()
        .zip(expected)
        .map(|(a, b)| (a - b).abs());
    let off = off.fold(0.0, f32::max);
    assert!(off < 1e-3, "off by {off}");

    // The output differs from that of the whole image, but not much.
    let mut upscaler = Upscaler::new(model, spec, &UpscaleOptions::default()).unwrap();
    let untiled = upscaler.process_planes(&planes).unwrap();
    assert_eq!(upscaler.tiles(), 1);
    assert_ne!(untiled, averaged);
}

//! Sizes and costs of the networks, against ../shared/design/models.md.
#![allow(clippy::unwrap_used, missing_docs)]

use srfilter::Scale;
use srfilter::models::{Architecture, drct, espcn, find, lapan, srcnn, srresnet};

/// Checks the number of weights, and the MACs per output pixel to `digits` digits.
#[track_caller]
fn costs(architecture: &Architecture, scale: u32, weights: usize, macs: f64, digits: i32) {
    let cost = architecture.cost(Scale::whole(scale)).unwrap();
    assert_eq!(cost.weights, weights, "{} x{scale}", architecture.name());
    let unit = 10f64.powi(libm::log10(macs).floor() as i32 + 1 - digits);
    let off = (cost.macs - macs).abs();
    assert!(
        off <= 0.5001 * unit,
        "{} x{scale}: {} for {macs}",
        architecture.name(),
        cost.macs
    );
}

fn model(name: &str) -> Architecture {
    (find(name).unwrap().architecture)().unwrap()
}

/// Section 14, up to its rounding; the parameter counts of sections 2 to 8.
#[test]
fn published_networks_have_their_published_costs() {
    let srcnn = |kernels| {
        Architecture::Srcnn(srcnn::Config {
            kernels,
            ..srcnn::Config::default()
        })
    };
    costs(&srcnn([9, 1, 5]), 2, 8_129, 8.0e3, 2);
    costs(&srcnn([9, 5, 5]), 2, 57_281, 57.2e3, 3);
    costs(&model("srcnn-rgb"), 3, 69_251, 69.2e3, 3);
    costs(&model("hypersrcnn-rgb"), 4, 17_834_883, 69.2e3, 3);
    let srresnet = |third_kernel| {
        Architecture::SrResNet(srresnet::Config {
            third_kernel,
            ..srresnet::Config::default()
        })
    };
    costs(&srresnet(3), 2, 1_401_749, 360e3, 3);
    costs(&srresnet(3), 4, 1_549_462, 139e3, 3);
    costs(&srresnet(3), 8, 1_697_175, 83e3, 2);
    costs(&srresnet(9), 4, 1_844_374, 157e3, 3);
    costs(&model("hdsrnet"), 2, 1_818_496, 316e3, 3);
    costs(&model("hdsrnet"), 3, 2_003_136, 162e3, 3);
    costs(&model("hdsrnet"), 4, 1_966_208, 117e3, 3);
    // With the copies collapsed, as it runs.
    costs(&model("lapan"), 2, 7_956_379, 5.7e6, 2);
    costs(&model("drct"), 2, 13_991_867, 4.4e6, 2);
    costs(&model("drct"), 4, 14_139_579, 1.13e6, 3);
    costs(&model("drct-l"), 4, 27_580_719, 2.2e6, 2);
    costs(&model("compact"), 4, 621_424, 38.7e3, 3);
    costs(&model("compact"), 2, 600_652, 149.6e3, 4);
}

/// Counted by hand: a 5x5 layer, six, three or five 3x3 ones, a head.
#[test]
fn the_cost_of_an_espcn_is_that_of_its_layers() {
    for (config, width, depth) in [
        (espcn::Config::default(), 16, 6),
        (espcn::Config::fast(), 16, 3),
        (espcn::Config::hq(), 32, 5),
    ] {
        let architecture = Architecture::Espcn(config);
        for scale in [2, 3, 4] {
            let outputs = scale * scale;
            let layers = 25 * width + depth * width * width * 9 + width * outputs * 9;
            let weights = layers + width * (1 + depth) + outputs;
            let macs = layers as f64 / outputs as f64;
            costs(&architecture, scale as u32, weights, macs, 9);
        }
    }
}

/// Chained blocks differ: all of them are computed.
#[test]
fn distinct_blocks_are_all_counted() {
    let lapan = |chained| {
        let config = lapan::Config {
            chained,
            ..lapan::Config::default()
        };
        Architecture::Lapan(config).cost(Scale::whole(2)).unwrap()
    };
    let (collapsed, chained) = (lapan(false), lapan(true));
    assert_eq!(collapsed.weights, chained.weights);
    // Section 14 counts them as 52.3 M multiplications a pixel of the input.
    assert!(
        (4.0 * chained.macs - 52.3e6).abs() < 0.05e6,
        "{}",
        4.0 * chained.macs
    );
    let small = drct::Config::default();
    let large = drct::Config::large();
    let cost = |config| Architecture::Drct(config).cost(Scale::whole(2)).unwrap();
    assert!(cost(large).macs > 1.9 * cost(small).macs);
}

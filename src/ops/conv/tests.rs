//! The convolution against a reference that is too simple to be wrong.

mod reference;

use super::*;
use crate::ops::cpu::simd::probe;
use candle_core::{Device, Var};
use reference::{Case, Data, numbers, reference};
use std::ops::Range;

/// Sizes that reach every tile, ragged ends, and several strips and passes.
fn cases() -> Vec<Case> {
    use Border::{Replicate, Valid};
    let mut cases = vec![
        Case::new(1, 1, (1, 1), 1, (1, 1)),
        Case::new(1, 1, (1, 1), 1, (9, 9)),
        Case::new(2, 3, (1, 1), 5, (3, 3)).border(Replicate).relu(),
        Case::new(1, 2, (5, 7), 3, (5, 7)).border(Valid),
        Case::new(2, 1, (33, 33), 13, (9, 9)).relu(),
        Case::new(2, 64, (9, 11), 32, (5, 5)).relu(),
        Case::new(1, 32, (13, 9), 1, (5, 5)).no_bias(),
        Case::new(1, 8, (40, 37), 8, (3, 3)).border(Replicate),
        Case::new(1, 3, (40, 37), 2, (1, 3)).dilation(2).relu(),
        Case::new(1, 3, (9, 8), 2, (3, 1)).border(Replicate),
        Case::new(1, 1, (70, 66), 2, (3, 3))
            .border(Replicate)
            .relu(),
        Case::new(2, 5, (12, 15), 7, (2, 4)).border(Valid).relu(),
        Case::new(1, 6, (10, 9), 9, (3, 3)).groups(3).no_bias(),
        Case::new(2, 8, (7, 12), 8, (5, 3)).groups(8).relu(),
        Case::new(2, 4, (11, 8), 6, (3, 3)).groups(2).stride(2),
        Case::new(1, 13, (5, 6), 64, (1, 1)),
        Case::new(1, 130, (6, 5), 3, (3, 3)).no_bias().relu(),
        // By Winograd's filtering.
        Case::new(2, 16, (13, 20), 32, (3, 3)).relu(),
        Case::new(1, 32, (31, 25), 16, (3, 3)).border(Replicate),
        Case::new(3, 48, (12, 9), 16, (3, 3))
            .border(Valid)
            .no_bias(),
        Case::new(1, 16, (3, 5), 48, (3, 3))
            .border(Replicate)
            .relu(),
        Case::new(2, 16, (7, 9), 16, (5, 5))
            .border(Replicate)
            .relu(),
        Case::new(1, 32, (14, 13), 16, (5, 5)).border(Valid),
    ];
    for (border, dilation) in [(Border::Zero, 1), (Replicate, 2), (Valid, 1), (Valid, 2)] {
        for size in [(8, 8), (9, 9), (8, 9), (9, 8)] {
            let case = Case::new(1, 3, size, 4, (3, 3)).border(border);
            cases.push(case.dilation(dilation).stride(2));
            cases.push(case.dilation(dilation));
        }
    }
    for channels in [1, 2, 3, 5, 8, 13] {
        cases.push(Case::new(1, channels, (6, 17), 16 - channels, (3, 3)));
    }
    cases
}

fn run(level: Level, case: &Case, data: &Data) -> Tensor {
    let [images, weights, bias] = data.vars(case);
    let (images, weights) = (images.unwrap(), weights.unwrap());
    conv2d_at(level, &images, &weights, bias.as_deref(), case.spec).unwrap()
}

/// The gradients of the result, weighted by numbers, in images, weights and
/// bias.
fn gradients(
    case: &Case,
    data: &Data,
    conv: impl FnOnce(&Tensor, &Tensor, Option<&Tensor>) -> Tensor,
) -> Data {
    let vars = data.vars(case);
    let [images, weights, bias] = &vars;
    let result = conv(
        images.as_ref().unwrap(),
        weights.as_ref().unwrap(),
        bias.as_deref(),
    );
    let factors = numbers(4, result.elem_count());
    let factors = Tensor::from_vec(factors, result.shape(), &Device::Cpu).unwrap();
    let grads = (result * factors).unwrap().backward().unwrap();
    let [images, weights, bias] = vars.map(|var| match var {
        Some(var) => list(grads.get(&var).unwrap()),
        None => vec![],
    });
    Data {
        images,
        weights,
        bias,
    }
}

fn list(tensor: &Tensor) -> Vec<f32> {
    tensor.flatten_all().unwrap().to_vec1().unwrap()
}

fn bits(values: &[f32]) -> Vec<u32> {
    values.iter().map(|value| value.to_bits()).collect()
}

/// Runs in a rayon pool of so many threads.
fn with_threads<T: Send>(count: usize, f: impl FnOnce() -> T + Send) -> T {
    let pool = rayon::ThreadPoolBuilder::new().num_threads(count);
    pool.build().unwrap().install(f)
}

fn assert_close(name: &str, found: &[f32], wanted: impl IntoIterator<Item = f64>, tolerance: f64) {
    let wanted: Vec<f64> = wanted.into_iter().collect();
    assert_eq!(found.len(), wanted.len(), "{name}: length");
    for (i, (&found, wanted)) in found.iter().zip(wanted).enumerate() {
        let off = (f64::from(found) - wanted).abs();
        let bound = tolerance * wanted.abs().max(1.0);
        assert!(off <= bound, "{name}[{i}]: {found}, not {wanted}");
    }
}

#[test]
fn every_level_computes_the_convolution() {
    for case in cases() {
        let data = case.data();
        let wanted = reference(&case, &data.wide());
        let plain = bits(&list(&run(Level::Plain, &case, &data)));
        for level in Level::available() {
            let found = list(&run(level, &case, &data));
            assert_close(
                &format!("{level} {case:?}"),
                &found,
                wanted.iter().copied(),
                case.bound(5e-6, 3e-5),
            );
            assert_eq!(bits(&found), plain, "{level} {case:?}");
        }
    }
}

#[test]
fn the_level_asked_for_is_the_one_that_runs() {
    let case = Case::new(1, 3, (9, 9), 11, (3, 3)).relu();
    let data = case.data();
    for level in Level::available() {
        let ran = with_threads(1, || {
            run(level, &case, &data);
            let forward = probe::take();
            gradients(&case, &data, |x, w, b| {
                conv2d_at(level, x, w, b, case.spec).unwrap()
            });
            [forward, probe::take()]
        });
        assert_eq!(ran, [vec![level], vec![level]]);
    }
}

#[test]
fn gradients_are_those_of_the_reference() {
    for case in cases() {
        let data = case.data();
        for level in Level::available() {
            let found = gradients(&case, &data, |x, w, b| {
                conv2d_at(level, x, w, b, case.spec).unwrap()
            });
            check_differences(&format!("{level} {case:?}"), &case, &data.wide(), &found);
        }
    }
}

/// Compares gradients at some places with central differences.
fn check_differences(name: &str, case: &Case, data: &Data<f64>, found: &Data) {
    let count = reference(case, data).len();
    let factors = numbers(4, count);
    let loss = |data: &Data<f64>| -> f64 {
        let results = reference(case, data).into_iter();
        results.zip(&factors).map(|(r, &f)| r * f64::from(f)).sum()
    };
    let h = 1e-6;
    let check = |part: &str, found: &[f32], place: fn(&mut Data<f64>) -> &mut Vec<f64>| {
        for at in (0..found.len()).step_by(1 + found.len() / 5) {
            let moved = |by: f64| {
                let mut data = data.clone();
                place(&mut data)[at] += by;
                loss(&data)
            };
            let wanted = (moved(h) - moved(-h)) / (2.0 * h);
            let name = format!("{name}: {part} at {at}");
            assert_close(&name, &found[at..=at], [wanted], case.bound(1e-4, 3e-4));
        }
    };
    check("images", &found.images, |data| &mut data.images);
    check("weights", &found.weights, |data| &mut data.weights);
    check("bias", &found.bias, |data| &mut data.bias);
}

#[test]
fn gradients_are_those_of_candle() {
    for case in cases() {
        // candle has no gradient at stride 2 where the parities of height and
        // width differ.
        if case.spec.stride == 2 {
            continue;
        }
        let data = case.data();
        let wanted = gradients(&case, &data, |x, w, b| {
            let geometry = geometry(x.shape(), w, b, case.spec).unwrap();
            general(&geometry, x, w, b).unwrap()
        });
        for level in Level::available() {
            let found = gradients(&case, &data, |x, w, b| {
                conv2d_at(level, x, w, b, case.spec).unwrap()
            });
            let pairs = [
                ("images", &found.images, &wanted.images),
                ("weights", &found.weights, &wanted.weights),
                ("bias", &found.bias, &wanted.bias),
            ];
            for (part, found, wanted) in pairs {
                let wanted = wanted.iter().map(|&value| f64::from(value));
                let bound = case.bound(3e-5, 2e-4);
                assert_close(&format!("{level} {case:?}: {part}"), found, wanted, bound);
            }
        }
    }
}

#[test]
fn every_level_computes_the_same_gradients() {
    for case in cases() {
        let data = case.data();
        let at = |level| {
            let found = gradients(&case, &data, |x, w, b| {
                conv2d_at(level, x, w, b, case.spec).unwrap()
            });
            [found.images, found.weights, found.bias].map(|part| bits(&part))
        };
        let plain = at(Level::Plain);
        for level in Level::available() {
            assert!(at(level) == plain, "{level} {case:?}");
        }
    }
}

#[test]
fn other_types_agree() {
    for case in cases() {
        let data = case.data();
        let [x, w, b] = data
            .vars(&case)
            .map(|var| var.map(|var| var.as_tensor().to_dtype(DType::F64).unwrap()));
        let found = conv2d(&x.unwrap(), &w.unwrap(), b.as_ref(), case.spec).unwrap();
        assert_eq!(found.dtype(), DType::F64);
        let found = list(&found.to_dtype(DType::F32).unwrap());
        let wanted = reference(&case, &data.wide());
        assert_close(&format!("{case:?}"), &found, wanted, 1e-6);
    }
}

/// What candle convolves on a GPU by some rows at once is what it makes of all.
#[test]
fn bands_make_the_whole() {
    let (images, weights) = ([2, 3, 11, 7], [4, 3, 3, 3]);
    let tensor = |shape: [usize; 4]| {
        let values = (0..shape.iter().product()).map(|i: usize| (i * 7919 % 1009) as f64);
        Tensor::from_vec(values.collect(), &shape, &Device::Cpu).unwrap()
    };
    let (images, weights) = (tensor(images), tensor(weights));
    for (stride, dilation) in [(1, 1), (1, 2), (2, 1)] {
        let spec = ConvSpec {
            border: Border::Valid,
            stride,
            dilation,
            ..ConvSpec::default()
        };
        let geometry = geometry(images.shape(), &weights, None, spec).unwrap();
        let convolved = |images: &Tensor| images.conv2d(&weights, 0, stride, dilation, 1);
        let whole = convolved(&images).unwrap();
        for rows in 1..=geometry.size().0 {
            let made = banded(&geometry, &images, rows, convolved).unwrap();
            let [made, whole] = [&made, &whole].map(|t| t.flatten_all().unwrap());
            assert_eq!(
                made.to_vec1::<f64>().unwrap(),
                whole.to_vec1::<f64>().unwrap()
            );
        }
        assert_eq!(bands(&geometry), None);
    }
    // 4K, 64 channels: 4.8e9 elements of windows, of which 2^32 are counted.
    let geometry = ConvGeometry {
        batch: 1,
        inputs: 64,
        outputs: 64,
        groups: 1,
        image: (2160, 3840),
        kernel: (3, 3),
        dilation: 1,
        stride: 1,
        border: Border::Zero,
        relu: false,
    };
    let rows = bands(&geometry).unwrap();
    assert!(rows * 3840 * 64 * 9 <= 1 << 30 && rows > 400);
}

#[test]
fn a_result_does_not_depend_on_its_place() {
    let case = Case::new(1, 5, (40, 60), 11, (5, 3)).border(Border::Valid);
    let data = case.data();
    let [images, weights, bias] = data.vars(&case).map(Option::unwrap);
    let crop = |tensor: &Tensor, y: Range<usize>, x: Range<usize>| {
        let rows = tensor.narrow(2, y.start, y.len()).unwrap();
        rows.narrow(3, x.start, x.len()).unwrap()
    };
    for level in Level::available() {
        let conv = |x: &Tensor| conv2d_at(level, x, &weights, Some(&bias), case.spec).unwrap();
        let whole = conv(&images);
        for (y, x) in [
            (0..1, 0..1),
            (3..20, 7..50),
            (35..36, 0..58),
            (1..36, 57..58),
        ] {
            let part = conv(&crop(&images, y.start..y.end + 4, x.start..x.end + 2));
            let wanted = crop(&whole, y.clone(), x.clone());
            assert_eq!(
                bits(&list(&part)),
                bits(&list(&wanted)),
                "{level} {y:?} {x:?}"
            );
        }
    }
}

/// The gradient of weights that several groups of images are summed up for.
#[test]
fn gradients_of_large_batches_are_those_of_the_direct_sums() {
    for (kernel, border) in [((3, 3), Border::Zero), ((5, 5), Border::Replicate)] {
        let case = Case::new(5, 64, (50, 46), 64, kernel).border(border);
        let data = case.data();
        let level = *Level::available().last().unwrap();
        let [images, weights, _] = data.vars(&case).map(Option::unwrap);
        let geometry = geometry(images.shape(), &weights, None, case.spec).unwrap();
        let planes = |layout, values: &[f32]| PaddedPlanes::new(layout, &[values], None);
        let padded = planes(PlaneLayout::of_images(&geometry), &data.images);
        let (height, width) = geometry.size();
        let grad = numbers(4, geometry.batch * geometry.outputs * height * width);
        let padded_grad = planes(PlaneLayout::of_gradient(&geometry), &grad);
        let kernels = Kernels::of(level).unwrap();
        let wanted = cpu::weight_gradient(kernels, &geometry, &padded, &padded_grad);
        let filtering = Filtering {
            kernels: pixels::Kernels::of(level).unwrap(),
            variant: variant_for(&geometry).unwrap(),
        };
        let operands = Operands {
            images: &data.images,
            weights: &data.weights,
            result: &[],
            grad: &grad,
        };
        let required = Gradients {
            images: false,
            weights: true,
            bias: false,
        };
        let found = filtering.gradients(&geometry, &operands, &required);
        let found = found.weights.unwrap();
        let largest = wanted
            .iter()
            .fold(0f32, |most, value| most.max(value.abs()));
        let off = found.iter().zip(&wanted).map(|(a, b)| (a - b).abs());
        let off = off.fold(0f32, f32::max) / largest;
        println!("{kernel:?}: off by {off:.1e} of the largest");
        assert!(off < 5e-5, "{kernel:?}: {off}");
    }
}

#[test]
fn results_do_not_depend_on_the_number_of_threads() {
    let planar = Case::new(3, 5, (50, 47), 19, (5, 5)).border(Border::Replicate);
    let winograd = Case::new(3, 16, (50, 47), 32, (3, 3)).border(Border::Replicate);
    for (case, level) in [planar, winograd].into_iter().flat_map(|case| {
        Level::available()
            .into_iter()
            .map(move |level| (case, level))
    }) {
        let data = case.data();
        let of = |threads| {
            with_threads(threads, || {
                let conv = |x: &Tensor, w: &Tensor, b: Option<&Tensor>| {
                    conv2d_at(level, x, w, b, case.spec).unwrap()
                };
                let grads = gradients(&case, &data, conv);
                let result = list(&run(level, &case, &data));
                [result, grads.images, grads.weights, grads.bias].map(|part| bits(&part))
            })
        };
        assert!(of(1) == of(2) && of(1) == of(3), "{level}");
    }
}

#[test]
fn the_gradient_of_relu_at_zero_is_zero() {
    let case = Case::new(1, 1, (1, 2), 1, (1, 1)).relu().no_bias();
    let data = Data {
        images: vec![0.0, 2.0],
        weights: vec![1.0],
        bias: vec![],
    };
    let found = gradients(&case, &data, |x, w, b| conv2d(x, w, b, case.spec).unwrap());
    let factors = numbers(4, 2);
    assert_eq!(found.images, [0.0, factors[1]]);
}

#[test]
fn not_a_number_is_not_hidden() {
    let case = Case::new(1, 1, (4, 4), 3, (3, 3)).relu();
    let mut data = case.data();
    data.images[0] = f32::NAN;
    for level in Level::available() {
        let found = list(&run(level, &case, &data));
        let places: Vec<_> = (0..16).filter(|&i| found[i].is_nan()).collect();
        assert_eq!(places, [0, 1, 4, 5], "{level}");
    }
}

#[test]
fn strided_tensors_are_welcome() {
    let case = Case::new(2, 3, (6, 8), 4, (3, 3));
    let data = case.data();
    let [images, weights, bias] = data.vars(&case).map(Option::unwrap);
    let turned = images.transpose(2, 3).unwrap().contiguous().unwrap();
    let turned = turned.transpose(2, 3).unwrap();
    assert!(!turned.is_contiguous());
    let found = conv2d(&turned, &weights, Some(&bias), case.spec).unwrap();
    let wanted = conv2d(&images, &weights, Some(&bias), case.spec).unwrap();
    assert_eq!(list(&found), list(&wanted));
}

#[test]
fn shapes_that_do_not_fit_are_errors_that_say_so() {
    let fails = |x: &[usize], w: &[usize], b: &[usize], spec: ConvSpec, wanted: &[&str]| {
        let zeros = |shape: &[usize]| Tensor::zeros(shape, DType::F32, &Device::Cpu).unwrap();
        let error = conv2d(&zeros(x), &zeros(w), Some(&zeros(b)), spec).unwrap_err();
        let message = error.to_string();
        for wanted in wanted {
            assert!(message.contains(wanted), "{message}: no {wanted}");
        }
    };
    let zero = ConvSpec::default();
    let valid = Case::new(1, 1, (1, 1), 1, (1, 1))
        .border(Border::Valid)
        .spec;
    let grouped = ConvSpec { groups: 2, ..zero };
    let long = ConvSpec { stride: 3, ..zero };
    let dense = ConvSpec {
        dilation: 0,
        ..zero
    };
    let [x, w] = [[1, 3, 8, 8], [4, 3, 3, 3]];
    fails(&x[1..], &w, &[4], zero, &["[3, 8, 8]", "[4, 3, 3, 3]"]);
    fails(
        &x,
        &[4, 2, 3, 3],
        &[4],
        zero,
        &["[1, 3, 8, 8]", "[4, 2, 3, 3]"],
    );
    fails(&x, &w, &[4], grouped, &["[1, 3, 8, 8]", "2 groups"]);
    fails(
        &[1, 4, 8, 8],
        &[3, 2, 3, 3],
        &[3],
        grouped,
        &["[3, 2, 3, 3]"],
    );
    fails(&x, &w, &[3], zero, &["[4, 3, 3, 3]", "bias [4]", "[3]"]);
    fails(&x, &[4, 3, 2, 3], &[4], zero, &["[4, 3, 2, 3]", "even"]);
    fails(
        &x,
        &[4, 3, 9, 1],
        &[4],
        valid,
        &["[1, 3, 8, 8]", "[4, 3, 9, 1]"],
    );
    fails(&[0, 3, 8, 8], &w, &[4], zero, &["[0, 3, 8, 8]"]);
    fails(&x, &w, &[4], long, &["stride: 3"]);
    fails(&x, &w, &[4], dense, &["dilation: 0"]);
}

//! Convolutions to try, and what their results should be.

use super::*;

/// Settings and sizes of a convolution.
#[derive(Debug, Clone, Copy)]
pub(super) struct Case {
    pub(super) images: [usize; 4],
    pub(super) weights: [usize; 4],
    pub(super) bias: bool,
    pub(super) spec: ConvSpec,
}

impl Case {
    pub(super) fn new(
        batch: usize,
        ci: usize,
        (h, w): (usize, usize),
        co: usize,
        k: (usize, usize),
    ) -> Self {
        Self {
            images: [batch, ci, h, w],
            weights: [co, ci, k.0, k.1],
            bias: true,
            spec: ConvSpec::default(),
        }
    }

    pub(super) fn border(mut self, border: Border) -> Self {
        self.spec.border = border;
        self
    }

    pub(super) fn stride(mut self, stride: usize) -> Self {
        self.spec.stride = stride;
        self
    }

    pub(super) fn dilation(mut self, dilation: usize) -> Self {
        self.spec.dilation = dilation;
        self
    }

    pub(super) fn groups(mut self, groups: usize) -> Self {
        self.spec.groups = groups;
        self.weights[1] = self.images[1] / groups;
        self
    }

    pub(super) fn relu(mut self) -> Self {
        self.spec.activation = Activation::Relu;
        self
    }

    pub(super) fn no_bias(mut self) -> Self {
        self.bias = false;
        self
    }

    /// A bound of the error of sums, or the one of Winograd's filtering, where it runs.
    pub(super) fn bound(&self, of_sums: f64, of_winograd: f64) -> f64 {
        let [[_, inputs, ..], [outputs, _, rows, columns]] = [self.images, self.weights];
        let grouped = inputs % 16 == 0 && outputs % 16 == 0;
        match rows == columns && [3, 5].contains(&rows) && grouped {
            true => of_winograd,
            false => of_sums,
        }
    }

    /// Numbers for the case, the same ones every time.
    pub(super) fn data(&self) -> Data {
        let depth: usize = self.weights[1..].iter().product();
        let scale = 1.0 / (depth as f32).sqrt();
        let mut weights = numbers(2, self.weights.iter().product());
        weights.iter_mut().for_each(|weight| *weight *= scale);
        Data {
            images: numbers(1, self.images.iter().product()),
            weights,
            bias: if self.bias {
                numbers(3, self.weights[0])
            } else {
                vec![]
            },
        }
    }
}

#[derive(Clone)]
pub(super) struct Data<T = f32> {
    pub(super) images: Vec<T>,
    pub(super) weights: Vec<T>,
    pub(super) bias: Vec<T>,
}

impl Data {
    pub(super) fn vars(&self, case: &Case) -> [Option<Var>; 3] {
        let var =
            |values: &[f32], shape: &[usize]| Var::from_slice(values, shape, &Device::Cpu).unwrap();
        [
            Some(var(&self.images, &case.images)),
            Some(var(&self.weights, &case.weights)),
            case.bias.then(|| var(&self.bias, &case.weights[..1])),
        ]
    }

    pub(super) fn wide(&self) -> Data<f64> {
        let wide = |values: &[f32]| values.iter().map(|&value| value.into()).collect();
        Data {
            images: wide(&self.images),
            weights: wide(&self.weights),
            bias: wide(&self.bias),
        }
    }
}

/// Numbers from -1 to 1 without a pattern.
pub(super) fn numbers(seed: u64, count: usize) -> Vec<f32> {
    let mut state = seed;
    let mut next = || {
        state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed >> 40) as f32 / (1 << 23) as f32 - 1.0
    };
    (0..count).map(|_| next()).collect()
}

/// The convolution by its definition.
pub(super) fn reference(case: &Case, data: &Data<f64>) -> Vec<f64> {
    let ([batch, ci, h, w], [co, depth, kh, kw]) = (case.images, case.weights);
    let ConvSpec {
        border,
        stride,
        dilation,
        groups,
        activation,
    } = case.spec;
    let pad = |k| match border {
        Border::Valid => 0,
        _ => dilation * (k - 1) / 2,
    };
    let size = |n: usize, k: usize| (n + 2 * pad(k) - dilation * (k - 1) - 1) / stride + 1;
    let pixel = |image: usize, channel: usize, y: isize, x: isize| {
        let (last_y, last_x) = (h as isize - 1, w as isize - 1);
        let inside = (0..=last_y).contains(&y) && (0..=last_x).contains(&x);
        if !inside && border == Border::Zero {
            return 0.0;
        }
        let (y, x) = (y.clamp(0, last_y) as usize, x.clamp(0, last_x) as usize);
        data.images[((image * ci + channel) * h + y) * w + x]
    };
    let mut results = vec![];
    for (image, output) in (0..batch).flat_map(|n| (0..co).map(move |o| (n, o))) {
        let first = output / (co / groups) * depth;
        for (y, x) in (0..size(h, kh)).flat_map(|y| (0..size(w, kw)).map(move |x| (y, x))) {
            let mut sum = data.bias.get(output).copied().unwrap_or(0.0);
            for (at, weight) in data.weights[output * depth * kh * kw..][..depth * kh * kw]
                .iter()
                .enumerate()
            {
                let (channel, ky, kx) = (at / (kh * kw), at / kw % kh, at % kw);
                let y = (y * stride + ky * dilation) as isize - pad(kh) as isize;
                let x = (x * stride + kx * dilation) as isize - pad(kw) as isize;
                sum += weight * pixel(image, first + channel, y, x);
            }
            let relu = activation == Activation::Relu;
            results.push(if relu { sum.max(0.0) } else { sum });
        }
    }
    results
}

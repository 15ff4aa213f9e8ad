//! One network applied to planes, tile by tile.

use crate::frame::resample::{Region, Resampler};
use crate::models::{Scaled, WorksAt};
use crate::ops::Border;
use crate::{Error, Result};
use candle_core::{Device, Tensor};
use rayon::prelude::*;
use std::ops::Range;
use std::sync::Arc;

/// Largest sample value.
pub(super) const PEAK: f32 = 255.0;

/// Rows of a tile at least, in halos.
const MIN_HALOS: usize = 8;

/// A network with the resampling around it, for planes of one size.
pub(super) struct Stage {
    network: Arc<Scaled>,
    /// Enlarges the input to the size at which the network works.
    enlarge: Resampler,
    /// Columns and rows of a tile at most.
    tile: (usize, usize),
}

impl Stage {
    /// A stage from one size to another with tiles of about `tile` samples a
    /// side, as many rows of tiles as keep `threads` busy.
    pub(super) fn new(
        network: Arc<Scaled>,
        from: (usize, usize),
        to: (usize, usize),
        tile: usize,
        threads: usize,
    ) -> Self {
        let WorksAt::Output = network.works_at();
        let bands = to.1.div_ceil(tile).next_multiple_of(threads);
        // Thinner bands would compute more halo than picture.
        let thinnest = (MIN_HALOS * network.halo()).min(tile).max(1);
        Self {
            network,
            enlarge: Resampler::resize(from, to),
            tile: (tile, to.1.div_ceil(bands).max(thinnest)),
        }
    }

    /// Width and height of the result.
    pub(super) fn size(&self) -> (usize, usize) {
        self.enlarge.size()
    }

    /// The number of tiles that one run makes.
    pub(super) fn tiles(&self) -> usize {
        let (width, height) = self.size();
        width.div_ceil(self.tile.0) * height.div_ceil(self.tile.1)
    }

    /// Makes one plane from each input plane: values 0 to 255, clamped.
    pub(super) fn run(&self, input: &[Vec<f32>], output: &mut [Vec<f32>]) -> Result<()> {
        let (width, height) = self.size();
        let rows = self.tile.1;
        for plane in output.iter_mut() {
            plane.resize(width * height, 0.0);
        }
        // A band is a row of tiles: the same rows of every plane.
        let mut bands: Vec<Vec<&mut [f32]>> = Vec::new();
        bands.resize_with(height.div_ceil(rows), Vec::new);
        for plane in output.iter_mut() {
            for (band, part) in bands.iter_mut().zip(plane.chunks_mut(rows * width)) {
                band.push(part);
            }
        }
        bands
            .into_par_iter()
            .enumerate()
            .try_for_each(|(i, mut band)| {
                let first = i * rows;
                let rows = first..(first + rows).min(height);
                for column in (0..width).step_by(self.tile.0) {
                    let columns = column..(column + self.tile.0).min(width);
                    self.tile(input, columns, rows.clone(), &mut band)?;
                }
                Ok(())
            })
    }

    /// Computes one tile and stores it into the planes of its band.
    fn tile(
        &self,
        input: &[Vec<f32>],
        columns: Range<usize>,
        rows: Range<usize>,
        band: &mut [&mut [f32]],
    ) -> Result<()> {
        let (width, height) = self.size();
        let halo = self.network.halo();
        let valid = self.network.border() == Border::Valid;
        let (x, y) = (grow(&columns, halo, width), grow(&rows, halo, height));
        let mut samples = Vec::new();
        for plane in input {
            let region = Region {
                x: x.clone(),
                y: y.clone(),
            };
            let mut part = vec![0.0; x.len() * y.len()];
            self.enlarge.region(plane, &region, &mut part, x.len());
            if valid {
                // The network eats the halo: past the picture's edge, repeat it.
                part = extend(&part, (&x, &y), (&columns, &rows), halo);
            }
            samples.extend(part.iter().map(|v| v / PEAK));
        }
        let eaten = if valid { halo } else { 0 };
        let (w, h) = if valid {
            (columns.len() + 2 * halo, rows.len() + 2 * halo)
        } else {
            (x.len(), y.len())
        };
        let tensor = Tensor::from_vec(samples, (1, input.len(), h, w), &Device::Cpu)?;
        let result = self.network.forward(&tensor)?;
        let expected = (1, band.len(), h - 2 * eaten, w - 2 * eaten);
        if result.dims4()? != expected {
            return Err(Error::Frame(format!(
                "the network made {:?} samples of a tile, expected {expected:?}",
                result.dims()
            )));
        }
        let result = result.flatten_all()?.to_vec1::<f32>()?;
        let skip = if valid {
            (0, 0)
        } else {
            (columns.start - x.start, rows.start - y.start)
        };
        let (made_w, made_h) = (w - 2 * eaten, h - 2 * eaten);
        for (part, made) in band.iter_mut().zip(result.chunks_exact(made_w * made_h)) {
            let made_rows = made.chunks_exact(made_w).skip(skip.1);
            for (target, made) in part.chunks_exact_mut(width).zip(made_rows) {
                let made = &made[skip.0..][..columns.len()];
                for (target, value) in target[columns.clone()].iter_mut().zip(made) {
                    *target = (value * PEAK).clamp(0.0, PEAK);
                }
            }
        }
        Ok(())
    }
}

/// A range with `halo` more on both sides, as far as `0..len` goes.
fn grow(range: &Range<usize>, halo: usize, len: usize) -> Range<usize> {
    range.start.saturating_sub(halo)..(range.end + halo).min(len)
}

/// Repeats the edge samples of a part (`have`) until it reaches `halo` beyond `want`.
fn extend(
    part: &[f32],
    have: (&Range<usize>, &Range<usize>),
    want: (&Range<usize>, &Range<usize>),
    halo: usize,
) -> Vec<f32> {
    let source = |position: usize, have: &Range<usize>| {
        // `position` counts from `halo` before 0.
        position
            .saturating_sub(halo)
            .clamp(have.start, have.end - 1)
            - have.start
    };
    let columns = want.0.start..want.0.end + 2 * halo;
    let rows = want.1.start..want.1.end + 2 * halo;
    let mut out = Vec::with_capacity(columns.len() * rows.len());
    for y in rows {
        let row = &part[source(y, have.1) * have.0.len()..][..have.0.len()];
        out.extend(columns.clone().map(|x| row[source(x, have.0)]));
    }
    out
}

//! Operations that arrange values without computing with them.

use super::config::PadMode;
use super::value::{Limit, integers};
use candle_core::{Device, Result, Tensor, bail};

/// An axis counted from the end if negative.
pub(super) fn axis_of(axis: i64, rank: usize) -> Result<usize> {
    let counted = if axis < 0 { axis + rank as i64 } else { axis };
    match usize::try_from(counted) {
        Ok(axis) if axis < rank => Ok(axis),
        _ => bail!("axis {axis} of a tensor with {rank}"),
    }
}

/// The axes of a list.
pub(super) fn axes_of(axes: &[i64], rank: usize) -> Result<Vec<usize>> {
    axes.iter().map(|&axis| axis_of(axis, rank)).collect()
}

/// A length that is not negative.
pub(super) fn length_of(length: i64) -> Result<usize> {
    match u32::try_from(length) {
        Ok(length) => Ok(length as usize),
        Err(_) => bail!("a length of {length}"),
    }
}

pub(super) fn concat(tensors: &[Tensor], axis: i64, limit: Limit) -> Result<Tensor> {
    let Some(first) = tensors.first() else {
        bail!("nothing to concatenate")
    };
    let axis = axis_of(axis, first.rank())?;
    let count = tensors.iter().map(Tensor::elem_count);
    limit.check(&[count.fold(0, usize::saturating_add)])?;
    Tensor::cat(tensors, axis)
}

/// Parts of the given lengths, or of equal ones.
pub(super) fn split(
    x: &Tensor,
    axis: i64,
    sizes: Option<&[i64]>,
    count: usize,
) -> Result<Vec<Tensor>> {
    let axis = axis_of(axis, x.rank())?;
    let length = x.dim(axis)?;
    let sizes: Vec<usize> = match sizes {
        Some(sizes) => sizes
            .iter()
            .map(|&size| length_of(size))
            .collect::<Result<_>>()?,
        None => {
            // The last part may be shorter.
            let part = length.div_ceil(count.max(1));
            (0..count)
                .map(|i| part.min(length.saturating_sub(i * part)))
                .collect()
        }
    };
    if sizes.iter().sum::<usize>() != length || sizes.len() != count {
        bail!("{length} samples split into {sizes:?} for {count} results")
    }
    let mut start = 0;
    sizes
        .into_iter()
        .map(|size| {
            start += size;
            x.narrow(axis, start - size, size)
        })
        .collect()
}

/// Parts of axes: starts, ends, axes and steps.
pub(super) fn slice(
    x: &Tensor,
    starts: &[i64],
    ends: &[i64],
    axes: Option<&[i64]>,
    steps: Option<&[i64]>,
) -> Result<Tensor> {
    let all: Vec<i64> = (0..starts.len() as i64).collect();
    let axes = axes_of(axes.unwrap_or(&all), x.rank())?;
    let ones = vec![1; starts.len()];
    let steps = steps.unwrap_or(&ones);
    if ends.len() != starts.len() || axes.len() != starts.len() || steps.len() != starts.len() {
        bail!("starts, ends, axes and steps of different numbers")
    }
    let mut x = x.clone();
    for (((&start, &end), axis), &step) in starts.iter().zip(ends).zip(axes).zip(steps) {
        let length = x.dim(axis)? as i64;
        let from_end = |i: i64| if i < 0 { i + length } else { i };
        if step > 0 {
            let start = from_end(start).clamp(0, length);
            let end = from_end(end).clamp(start, length);
            x = x.narrow(axis, start as usize, (end - start) as usize)?;
            if step > 1 && x.dim(axis)? > 0 {
                x = super::convolve::every(&x, axis, step as usize)?;
            }
        } else if step < 0 {
            let start = from_end(start).clamp(-1, length - 1);
            let end = from_end(end).clamp(-1, start);
            let indices = (end + 1..=start)
                .rev()
                .step_by(step.unsigned_abs() as usize);
            let indices = Tensor::from_iter(indices.map(|i| i as u32), x.device())?;
            x = x.contiguous()?.index_select(&indices, axis)?;
        } else {
            bail!("a step of 0")
        }
    }
    Ok(x)
}

/// Adds samples (or, where negative, takes them away) at the start and the end of axes.
pub(super) fn pad(
    x: &Tensor,
    pads: &[i64],
    axes: &[usize],
    mode: PadMode,
    value: f32,
    limit: Limit,
) -> Result<Tensor> {
    let most = i64::from(i32::MAX);
    if pads.len() != 2 * axes.len() || pads.iter().any(|pad| !(-most..=most).contains(pad)) {
        bail!("paddings {pads:?} of {} axes", axes.len())
    }
    let mut x = x.clone();
    for (i, &axis) in axes.iter().enumerate() {
        let (before, after) = (pads[i], pads[i + axes.len()]);
        let length = x.dim(axis)? as i64;
        let (cut, end) = ((-before).max(0), (-after).max(0));
        if cut + end > length {
            bail!("{length} samples padded by {before} and {after}")
        }
        x = x.narrow(axis, cut as usize, (length - cut - end) as usize)?;
        let (before, after) = (before.max(0) as usize, after.max(0) as usize);
        if before + after == 0 {
            continue;
        }
        let length = x.dim(axis)? as i64;
        let mut shape = x.dims().to_vec();
        shape[axis] += before + after;
        limit.check(&shape)?;
        if mode == PadMode::Constant {
            let filled = |length: usize| {
                let mut shape = x.dims().to_vec();
                shape[axis] = length;
                Tensor::full(value, shape, x.device())?.to_dtype(x.dtype())
            };
            x = Tensor::cat(&[filled(before)?, x.contiguous()?, filled(after)?], axis)?;
            continue;
        }
        if length == 0 || mode == PadMode::Reflect && before.max(after) as i64 >= length {
            bail!("{length} samples padded by {before} and {after} of their own")
        }
        let inside = |i: i64| match mode {
            PadMode::Wrap => i.rem_euclid(length),
            PadMode::Reflect if i < 0 => -i,
            PadMode::Reflect if i >= length => 2 * (length - 1) - i,
            _ => i.clamp(0, length - 1),
        };
        let indices = (-(before as i64)..length + after as i64).map(|i| inside(i) as u32);
        x = x
            .contiguous()?
            .index_select(&Tensor::from_iter(indices, x.device())?, axis)?;
    }
    Ok(x)
}

/// Moves channels into squares of side `block`.
pub(super) fn depth_to_space(x: &Tensor, block: usize, columns_first: bool) -> Result<Tensor> {
    let (batch, channels, height, width) = x.dims4()?;
    let rest = channels / (block * block).max(1);
    let x = x.contiguous()?;
    let turned = match columns_first {
        true => x
            .reshape((batch, rest, block, block, height, width))?
            .permute((0, 1, 4, 2, 5, 3))?,
        false => x
            .reshape((batch, block, block, rest, height, width))?
            .permute((0, 3, 4, 1, 5, 2))?,
    };
    turned
        .contiguous()?
        .reshape((batch, rest, height * block, width * block))
}

/// The reverse of [`depth_to_space`] of blocks before channels.
pub(super) fn space_to_depth(x: &Tensor, block: usize) -> Result<Tensor> {
    let (batch, channels, height, width) = x.dims4()?;
    let (rows, columns) = (height / block.max(1), width / block.max(1));
    x.contiguous()?
        .reshape((batch, channels, rows, block, columns, block))?
        .permute((0, 3, 5, 1, 2, 4))?
        .contiguous()?
        .reshape((batch, channels * block * block, rows, columns))
}

/// A shape in which 0 keeps a length and -1 is what is left.
pub(super) fn reshape(x: &Tensor, shape: &[i64], allow_zero: bool) -> Result<Tensor> {
    let mut lengths = Vec::with_capacity(shape.len());
    let mut free = None;
    for (i, &length) in shape.iter().enumerate() {
        lengths.push(match length {
            0 if !allow_zero => x.dim(i)?,
            -1 if free.is_none() => {
                free = Some(i);
                1
            }
            length => length_of(length)?,
        });
    }
    if let Some(free) = free {
        let others = lengths
            .iter()
            .try_fold(1usize, |all, &n| all.checked_mul(n));
        let count = x.elem_count();
        match others {
            Some(others) if others > 0 && count.is_multiple_of(others) => {
                lengths[free] = count / others;
            }
            _ => bail!("{:?} does not fit the shape {shape:?}", x.dims()),
        }
    }
    x.contiguous()?.reshape(lengths)
}

/// Slices along an axis, in the order of the indices.
pub(super) fn gather(x: &Tensor, indices: &Tensor, axis: i64, limit: Limit) -> Result<Tensor> {
    let axis = axis_of(axis, x.rank())?;
    let length = x.dim(axis)? as i64;
    let mut chosen = Vec::new();
    for i in integers(indices)? {
        let inside = if i < 0 { i + length } else { i };
        if !(0..length).contains(&inside) {
            bail!("index {i} into {length} samples")
        }
        chosen.push(inside as u32);
    }
    let chosen = Tensor::from_slice(&chosen, chosen.len(), x.device())?;
    let mut shape = x.dims().to_vec();
    shape.splice(axis..=axis, indices.dims().iter().copied());
    limit.check(&shape)?;
    x.contiguous()?.index_select(&chosen, axis)?.reshape(shape)
}

/// Without axes of length 1: those listed, or all.
pub(super) fn squeeze(x: &Tensor, axes: Option<&[i64]>) -> Result<Tensor> {
    let axes = match axes {
        Some(axes) => axes_of(axes, x.rank())?,
        None => (0..x.rank()).filter(|&axis| x.dims()[axis] == 1).collect(),
    };
    if let Some(&long) = axes.iter().find(|&&axis| x.dims()[axis] != 1) {
        bail!("axis {long} of {:?} is longer than 1", x.dims())
    }
    let dims = x.dims().iter().enumerate();
    let kept: Vec<usize> = dims
        .filter(|(i, _)| !axes.contains(i))
        .map(|(_, &n)| n)
        .collect();
    x.reshape(kept)
}

/// With axes of length 1 at places of the result.
pub(super) fn unsqueeze(x: &Tensor, axes: &[i64]) -> Result<Tensor> {
    let rank = x.rank() + axes.len();
    let axes = axes_of(axes, rank)?;
    let mut rest = x.dims().iter().copied();
    let place = |i: usize| match axes.contains(&i) {
        true => Some(1),
        false => rest.next(),
    };
    let shape: Option<Vec<usize>> = (0..rank).map(place).collect();
    match shape.filter(|shape| shape.iter().product::<usize>() == x.elem_count()) {
        Some(shape) => x.reshape(shape),
        None => bail!("axes {axes:?} twice"),
    }
}

/// The lengths of the axes from `start` to `end`.
pub(super) fn shape(x: &Tensor, start: i64, end: Option<i64>) -> Result<Tensor> {
    let rank = x.rank() as i64;
    let place = |i: i64| (if i < 0 { i + rank } else { i }).clamp(0, rank) as usize;
    let (start, end) = (place(start), place(end.unwrap_or(rank)));
    let lengths: Vec<i64> = x.dims()[start..end.max(start)]
        .iter()
        .map(|&n| n as i64)
        .collect();
    Tensor::from_slice(&lengths, lengths.len(), &Device::Cpu)
}

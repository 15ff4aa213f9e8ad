//! The sizes in a convolution and what follows from them.

use super::planes::Frame;
use crate::ops::Border;

/// The sizes of a convolution. Whoever makes one has checked that the kernel
/// fits, that nothing is empty, and that groups divide the channels.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(in crate::ops) struct Geometry {
    pub(in crate::ops) batch: usize,
    pub(in crate::ops) inputs: usize,
    pub(in crate::ops) outputs: usize,
    pub(in crate::ops) groups: usize,
    /// Height and width, here and below.
    pub(in crate::ops) image: (usize, usize),
    pub(in crate::ops) kernel: (usize, usize),
    pub(in crate::ops) dilation: usize,
    pub(in crate::ops) stride: usize,
    pub(in crate::ops) border: Border,
    pub(in crate::ops) relu: bool,
}

impl Geometry {
    /// Distance of the first and the last tap.
    pub(in crate::ops) fn reach(&self) -> (usize, usize) {
        let along = |taps| (taps - 1) * self.dilation;
        (along(self.kernel.0), along(self.kernel.1))
    }

    /// Height and width of the border at each side.
    pub(in crate::ops) fn pad(&self) -> (usize, usize) {
        match self.border {
            Border::Valid => (0, 0),
            Border::Zero | Border::Replicate => (self.reach().0 / 2, self.reach().1 / 2),
        }
    }

    /// Size of the image with its border.
    pub(in crate::ops) fn padded(&self) -> (usize, usize) {
        let (pad, image) = (self.pad(), self.image);
        (image.0 + 2 * pad.0, image.1 + 2 * pad.1)
    }

    /// Size of the result at stride 1.
    pub(super) fn grid(&self) -> (usize, usize) {
        let (padded, reach) = (self.padded(), self.reach());
        (padded.0 - reach.0, padded.1 - reach.1)
    }

    /// Size of the result.
    pub(in crate::ops) fn size(&self) -> (usize, usize) {
        let (height, width) = self.grid();
        (height.div_ceil(self.stride), width.div_ceil(self.stride))
    }

    /// Size of the part of the padded image whose gradient is wanted: nobody
    /// asks for that of a border of zeros.
    pub(super) fn grad_grid(&self) -> (usize, usize) {
        match self.border {
            Border::Zero => self.image,
            Border::Replicate | Border::Valid => self.padded(),
        }
    }

    /// How the images lie in memory.
    pub(in crate::ops) fn input_frame(&self) -> Frame {
        Frame {
            source: self.image,
            step: 1,
            inner: self.image,
            pad: self.pad(),
            replicate: self.border == Border::Replicate,
        }
    }

    /// How the gradient of the result lies in memory: spread to stride 1, and
    /// with zeros around it so that its convolution has the size of
    /// [`Self::grad_grid`]. The pitch is that of [`Self::input_frame`].
    pub(in crate::ops) fn grad_frame(&self) -> Frame {
        let (reach, pad) = (self.reach(), self.pad());
        Frame {
            source: self.size(),
            step: self.stride,
            inner: self.grid(),
            pad: match self.border {
                Border::Zero => (reach.0 - pad.0, reach.1 - pad.1),
                Border::Replicate | Border::Valid => reach,
            },
            replicate: false,
        }
    }
}

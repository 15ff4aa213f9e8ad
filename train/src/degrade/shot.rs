//! An image in its clip.

use super::raster::Raster;

/// An image to degrade, and the frames around it where it is one of a clip.
#[derive(Debug, Clone, PartialEq)]
pub struct Shot {
    /// The frames before it, in their order.
    pub before: Vec<Raster>,
    /// The image.
    pub image: Raster,
    /// The frames after it.
    pub after: Vec<Raster>,
}

impl Shot {
    /// The frame at some distance from the image, if there is one.
    pub(super) fn at(&self, distance: isize) -> Option<&Raster> {
        let apart = distance.unsigned_abs();
        match distance {
            0 => Some(&self.image),
            1.. => self.after.get(apart - 1),
            _ => self.before.iter().nth_back(apart - 1),
        }
    }
}

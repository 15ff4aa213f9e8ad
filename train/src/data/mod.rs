//! Training images and clips, and the batches of patches cropped from them.

mod augment;
mod clip;
mod dataset;
mod image;
mod loader;
mod patch;
pub mod synthetic;

pub use self::image::TrainingImage;
pub use dataset::Dataset;
pub use loader::BatchLoader;
pub use patch::{BatchSampler, ScaleBatch, steps_per_epoch};

#[cfg(test)]
mod tests {
    use crate::recipe::{Overrides, Recipe};

    /// Settings of small batches of synthetic images.
    pub(super) fn recipe() -> Recipe {
        let mut flags = Overrides::default();
        flags
            .set("data", "drawn", Some(12))
            .set("data", "patch", Some(32));
        flags.set("train", "scales", Some(vec!["2", "3/2"]));
        Recipe::resolve(None, &flags).unwrap()
    }
}

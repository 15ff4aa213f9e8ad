//! The option `--damage`.

use anyhow::{Result, bail};
use srfilter::Scale;
use srfilter::frame::FrameRef;
use srfilter::models::{CodingDamage, DamageEstimator, DamageSource};
use srfilter::weights::Model;
use std::sync::Arc;

/// How strongly the input was encoded.
#[derive(Debug, Clone, Copy, clap::Args)]
pub(crate) struct DamageArgs {
    /// Damage by encoding: from 0 (clean) to 1, or auto, estimated from the picture
    ///
    /// For models with weights for encoded video: espcn, and espcn-hq at scale 2.
    #[arg(long = "damage", value_name = "D")]
    given: Option<DamageSource>,
}

impl DamageArgs {
    /// Whether it was given.
    #[cfg(feature = "video")]
    pub(crate) fn is_given(self) -> bool {
        self.given.is_some()
    }

    /// The damage, by default none.
    pub(crate) fn source(self) -> DamageSource {
        self.given.unwrap_or_default()
    }

    /// Checks that a damage that is given changes what a model does at a scale.
    ///
    /// # Errors
    ///
    /// A model without weights for encoded video.
    pub(crate) fn check(self, model: &Arc<Model>, scale: Scale) -> Result<()> {
        match self.given.is_none() || model.adapts_to_damage(scale) {
            true => Ok(()),
            false => bail!(
                "{} ({}) has no weights for encoded video at scale {scale}: leave --damage out",
                model.name(),
                model.origin()
            ),
        }
    }
}

/// The model for a picture.
pub(crate) fn adapted(
    model: &Arc<Model>,
    source: DamageSource,
    picture: &FrameRef<'_>,
) -> Result<Arc<Model>> {
    let damage = match source {
        DamageSource::Fixed(damage) => damage,
        DamageSource::Auto => CodingDamage::nearest(DamageEstimator::builtin()?.estimate(picture)?),
    };
    Ok(model.for_damage(damage)?)
}

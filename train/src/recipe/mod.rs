//! Recipes: all settings of a training run, in one TOML file.
//!
//! Settings come from the model's defaults, the recipe and the flags, each
//! overriding the one before. The result is written to the run's folder.

mod check;
mod data;
mod defaults;
mod losses;
mod merge;
mod model;
mod quantize;
mod schedule;
mod train;

pub use data::{Codec, Colors, Data, Degradation, Dir, Video};
pub use losses::{Adversarial, DiscriminatorConfig, Distance, Distillation, Loss, Perceptual};
pub use merge::Overrides;
pub use model::Model;
pub use quantize::Quantize;
pub use schedule::{Schedule, ScheduleKind};
pub use train::{All, OptimizerKind, PerStep, Train};

use anyhow::{Context, Result};
use defaults::with_defaults;
use merge::{merge, one_line, read_table, rename_keys, with_earlier_names};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use srfilter::Scale;
use srfilter::models::Architecture;
use std::path::Path;
use toml::{Table, Value};

/// A training recipe with every setting resolved.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Recipe {
    /// The network.
    pub model: Model,
    /// The images and their degradation.
    pub data: Data,
    /// The optimisation.
    pub train: Train,
    /// The perceptual loss.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub perceptual: Option<Perceptual>,
    /// The adversarial loss.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub adversarial: Option<Adversarial>,
    /// The larger network to learn from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub distillation: Option<Distillation>,
    /// Training for 8-bit integers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub quantize: Option<Quantize>,
}

impl Recipe {
    /// The recipe of a file, if any, overridden by flags.
    ///
    /// # Errors
    ///
    /// A file that cannot be read, an unknown key, an invalid value.
    pub fn resolve(file: Option<&Path>, overrides: &Overrides) -> Result<Self> {
        let mut settings = match file {
            Some(path) => read_table(path)?,
            None => Table::new(),
        };
        let mut resolve = || -> Result<Self> {
            let mut overrides = overrides.0.clone();
            rename_keys(&mut settings)?;
            rename_keys(&mut overrides)?;
            merge(&mut settings, &overrides);
            let table = with_defaults(&settings)?;
            if let Some(Value::Table(section)) = table.get("train") {
                train::check_keys(section).map_err(one_line)?;
            }
            let recipe: Self = table.try_into().map_err(one_line)?;
            recipe.check()?;
            Ok(recipe)
        };
        resolve().with_context(|| match file {
            Some(path) => format!("{}", path.display()),
            None => "settings".to_owned(),
        })
    }

    /// The architecture: the table's, with the recipe's changes.
    ///
    /// # Errors
    ///
    /// An unknown model, or a setting that does not fit it.
    pub fn architecture(&self) -> Result<Architecture> {
        model::architecture(&self.model.name, &self.model.config)
    }

    /// The scales that validation measures.
    pub fn validation_scales(&self) -> &[Scale] {
        match self.train.validate_scales.as_slice() {
            [] => &self.train.scales,
            scales => scales,
        }
    }

    /// The same recipe, whose relative paths count from `folder`.
    pub(crate) fn located_in(&self, folder: &Path) -> Self {
        let mut recipe = self.clone();
        let dirs = recipe.data.dirs.iter_mut().map(|dir| &mut dir.path);
        let model = &mut recipe.model;
        let weights = model.init.iter_mut().chain(model.fit_from.values_mut());
        let features = recipe.perceptual.iter_mut().map(|p| &mut p.weights);
        let distilled = recipe.distillation.iter_mut();
        let distilled = distilled.flat_map(|distillation| distillation.weights.values_mut());
        for path in dirs.chain(weights).chain(features).chain(distilled) {
            // An absolute path stays as it is.
            *path = folder.join(&*path);
        }
        recipe
    }

    /// As TOML text.
    ///
    /// # Errors
    ///
    /// A number that TOML cannot hold.
    pub fn to_toml(&self) -> Result<String> {
        toml::to_string(self).context("cannot write the recipe as TOML")
    }

    /// SHA-256 of [`Recipe::to_toml`] with the earlier names of keys, in
    /// hexadecimal.
    ///
    /// # Errors
    ///
    /// As [`Recipe::to_toml`].
    pub fn sha256(&self) -> Result<String> {
        let digest = Sha256::digest(with_earlier_names(&self.to_toml()?));
        Ok(digest.iter().map(|byte| format!("{byte:02x}")).collect())
    }

    /// The first setting, other than the run's length, in which two recipes differ.
    ///
    /// # Errors
    ///
    /// As [`Recipe::to_toml`].
    pub fn difference(&self, other: &Self) -> Result<Option<String>> {
        let table = |recipe: &Self| -> Result<Table> {
            let mut recipe = recipe.clone();
            let train = &mut recipe.train;
            (train.steps, train.epochs, train.minutes) = (None, None, None);
            Ok(Table::try_from(&recipe)?)
        };
        let (ours, theirs) = (table(self)?, table(other)?);
        Ok(first_difference(
            "",
            &Value::Table(ours),
            &Value::Table(theirs),
        ))
    }
}

/// The path of the first key in which two values differ.
fn first_difference(path: &str, a: &Value, b: &Value) -> Option<String> {
    let (Value::Table(a), Value::Table(b)) = (a, b) else {
        return (a != b).then(|| path.to_owned());
    };
    a.keys().chain(b.keys()).find_map(|key| {
        let path = if path.is_empty() {
            key.clone()
        } else {
            format!("{path}.{key}")
        };
        match (a.get(key), b.get(key)) {
            (Some(a), Some(b)) => first_difference(&path, a, b),
            _ => Some(path),
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    pub(super) fn resolve(text: &str, overrides: &Overrides) -> Result<Recipe> {
        let dir = tempfile::tempdir()?;
        let path = dir.path().join("r.toml");
        std::fs::write(&path, text)?;
        Recipe::resolve(Some(&path), overrides)
    }

    #[test]
    fn flags_override_the_recipe_and_the_recipe_the_defaults() {
        let text = "[model]\nname = 'srcnn'\n[data]\ndirs = [{ path = 'a', repeat = 2 }]\n\
                    [train]\nepochs = 3\nlr = 0.5\nscales = [3]";
        let mut flags = Overrides::default();
        flags
            .set("train", "steps", Some(7))
            .set("train", "seed", Some(9));
        let recipe = resolve(text, &flags).unwrap();
        assert_eq!((recipe.train.steps, recipe.train.epochs), (Some(7), None));
        assert_eq!((recipe.train.lr, recipe.train.seed), (0.5, 9));
        assert_eq!(recipe.train.scales, [Scale::whole(3)]);
        assert_eq!((recipe.data.patch, recipe.data.dirs[0].repeat), (48, 2.0));
    }

    #[test]
    fn relative_paths_count_from_a_folder() {
        let text = "[model]\nname = 'hypersrcnn-rgb'\ninit = 'w.safetensors'\n\
                    [model.fit_from]\n2 = 'x2.safetensors'\n\
                    [data]\ndirs = [{ path = 'a' }, { path = '/b' }]\n\
                    [perceptual]\nweights = 'vgg.safetensors'\nlayers = { conv1_1 = 1.0 }\n\
                    [distillation]\nweights = { 2 = 'large.safetensors' }";
        let recipe = resolve(text, &Overrides::default());
        let recipe = recipe.unwrap().located_in(Path::new("/run"));
        let dirs: Vec<_> = recipe.data.dirs.iter().map(|dir| &dir.path).collect();
        assert_eq!(dirs, [Path::new("/run/a"), Path::new("/b")]);
        assert_eq!(recipe.model.init.unwrap(), Path::new("/run/w.safetensors"));
        let fitted: Vec<_> = recipe.model.fit_from.values().collect();
        assert_eq!(fitted, [Path::new("/run/x2.safetensors")]);
        assert_eq!(
            recipe.perceptual.unwrap().weights,
            Path::new("/run/vgg.safetensors")
        );
        let distillation = recipe.distillation.unwrap();
        let larger: Vec<_> = distillation.weights.values().collect();
        assert_eq!(larger, [Path::new("/run/large.safetensors")]);
    }

    #[test]
    fn differences_leave_out_the_length() {
        let recipe = |text| resolve(text, &Overrides::default()).unwrap();
        let a = recipe("[train]\nsteps = 5");
        assert_eq!(a.difference(&recipe("[train]\nepochs = 9")).unwrap(), None);
        let lr = recipe("[train]\nsteps = 5\nlr = 0.25");
        assert_eq!(a.difference(&lr).unwrap().as_deref(), Some("train.lr"));
    }

    /// All committed recipes are valid, and have the hashes that weights files carry: those never change.
    #[test]
    fn hashes_of_recipes_stay() {
        let models = Path::new(env!("CARGO_MANIFEST_DIR")).join("../models");
        let known = BTreeMap::from([
            ("compact/2-clips", "fc81b5b8dbc2ca7f"),
            ("compact/recipe", "4a80490436bf73d8"),
            ("drct/convolutions-x2", "93f4e42c63a22e99"),
            ("drct/recipe", "9895514235124f1b"),
            ("drct/small-x2", "7a44f5879092ddfa"),
            ("drct/windows-4-x2", "835adb4cd3e76db7"),
            ("drct/x4", "4ddc3f924df77050"),
            ("espcn-fast/2-free", "11d33605cee02fdc"),
            ("espcn-fast/2-mse", "abf812baa4ce5c5f"),
            ("espcn-fast/free", "3a2ac888d3e844d4"),
            ("espcn-fast/int8", "ffefe218313c1e40"),
            ("espcn-fast/recipe", "bcdc11071dbea456"),
            ("espcn-hq/2-x2", "247fa035478baee9"),
            ("espcn-hq/2-x4", "29fdbad3aa8e7e82"),
            ("espcn-hq/3-x2", "ab38027970cf5a95"),
            ("espcn-hq/4-x2", "e8cc87bfda48057d"),
            ("espcn-hq/5-x2", "fbcbd81569843ac2"),
            ("espcn-hq/trunk-x2", "08a9182e7fc0d3ec"),
            ("espcn-hq/x2", "c06e25abd9a972f4"),
            ("espcn-hq/x2-int8", "ba8da79150f5bdd6"),
            ("espcn-hq/x3", "55b5d3c04208c092"),
            ("espcn-hq/x3-int8", "2784c0d97f5b39d6"),
            ("espcn-hq/x4", "838e60ea2a5cb869"),
            ("espcn-hq/x4-int8", "79397ad2d2c9ba0a"),
            ("espcn-video-hq/2-x2", "7741c70d890745e4"),
            ("espcn-video-hq/3-x2", "54291fb504076e8e"),
            ("espcn-video-hq/x2-int8", "3502b17c1ea2dc94"),
            ("espcn-video-hq/x2", "f6c8e9d241305258"),
            ("espcn-video/int8", "ebc380dde1360fd8"),
            ("espcn-video/recipe", "a34f333d382b21ff"),
            ("espcn-video/x2", "c2bed9fa3b983720"),
            ("espcn-video/x2-int8", "48d377f1c8569d45"),
            ("espcn/2-x2", "27f92f7ff2803465"),
            ("espcn/3-x2", "8384c1e35d00edab"),
            ("espcn/int8", "9e26e6623eb7517c"),
            ("espcn/recipe", "02d7cd08ba77c796"),
            ("espcn/x2", "a1c9b3026e400d3f"),
            ("espcn/x2-int8", "5138b233466e4352"),
            ("fsrcnn/recipe", "5581de0e528f28c7"),
            ("hdsrnet/2-x2", "0ffdce9beb066a27"),
            ("hdsrnet/3-x2", "67685229fc4d8cf1"),
            ("hdsrnet/recipe", "e16a72f9786fee37"),
            ("hdsrnet/x2", "474893daae02a619"),
            ("hypersrcnn-rgb/recipe", "c237347d46be6dd6"),
            ("hypersrcnn/1-joint", "4b36f99c3226010a"),
            ("hypersrcnn/2-per-scale", "7e0e6dc529f0b60a"),
            ("hypersrcnn/3-fit", "b57998708db208fe"),
            ("hypersrcnn/damage", "8380a1b9e0eec78b"),
            ("lapan/recipe", "387042115f20c711"),
            ("lapan/x2", "c8aee404abc6d288"),
            ("realdrct-gan/recipe", "dbc46119b3111c69"),
            ("realdrct-gan/small-x2", "5b6c72f513d4c09e"),
            ("realdrct-mse/recipe", "fcaafbbf3e282f20"),
            ("realdrct-mse/small-x2", "b5ffa7ba2a57a010"),
            ("srcnn-rgb/2-colors", "0302e264007fb951"),
            ("srcnn-rgb/recipe", "1552a06f79f5ede7"),
            ("srcnn/x2", "9c83b50fc0c9f120"),
            ("srcnn/x3", "74b485536e37e2da"),
            ("srcnn/x4", "54542a67276356e2"),
            ("srgan/recipe", "e0d0ea5fe099dd17"),
            ("srgan/x4", "5a78bafb6981718e"),
            ("srresnet/2-colors", "a9e796640572cf88"),
            ("srresnet/recipe", "64766de1567e3a5a"),
        ]);
        let folders = std::fs::read_dir(&models).unwrap();
        let files = folders.flat_map(|folder| std::fs::read_dir(folder.unwrap().path()).unwrap());
        let mut found = BTreeMap::new();
        for file in files {
            let path = file.unwrap().path();
            if path.extension().is_some_and(|e| e == "toml") {
                let recipe = Recipe::resolve(Some(&path), &Overrides::default()).unwrap();
                let name = path.strip_prefix(&models).unwrap().with_extension("");
                found.insert(name.display().to_string(), recipe.sha256().unwrap());
            }
        }
        let other = found
            .iter()
            .filter(|(name, hash)| known.get(name.as_str()) != Some(&&hash[..16]));
        assert_eq!(other.collect::<Vec<_>>(), []);
        assert_eq!(found.len(), known.len());
    }
}

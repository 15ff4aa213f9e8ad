//! A run that is killed repeatedly, at any moment, ends as one that was not.

#![cfg(unix)]
#![allow(clippy::unwrap_used)]

use candle_core::Tensor;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use srfilter::weights::Checkpoint;
use srfilter_train::checkpoint::State;
use std::collections::BTreeMap;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// How often the run is killed.
const KILLS: usize = 20;

/// Maximum lifetime of a run in milliseconds: some are killed while they start,
/// most while they train, validate or write.
const LIFE: u64 = 500;

/// Steps after the last kill.
const REST: u64 = 10;

/// So small that hundreds of steps pass between two kills, with a checkpoint
/// or a validation at every other one.
const RECIPE: &str = "
[model]
name = 'srcnn'
config = { kernels = [5, 1, 3], widths = [4, 4], residual = true }
[data]
drawn = 4
patch = 16
validation = 1
[train]
batch_size = 2
schedule = 'plateau'
lr_patience = 2
ema = 0.9
whiten = 0.1
warmup = 0
steps = 1000000
validate_every = 7
checkpoint_every = 3
";

fn train(out: &Path, arguments: &[&str]) -> Child {
    let mut command = Command::new(env!("CARGO_BIN_EXE_train"));
    command.arg("--out").arg(out).args(["--threads", "1"]);
    command.args(arguments).stderr(Stdio::piped());
    command.spawn().unwrap()
}

/// Resumes the run in the folder, if there is one, else starts it.
fn start_or_resume(out: &Path, recipe: &Path, arguments: &[&str]) -> Child {
    let recipe = recipe.to_str().unwrap();
    let base = match out.join("recipe.toml").exists() {
        true => vec!["--resume"],
        false => vec!["--recipe", recipe],
    };
    train(out, &[&base, arguments].concat())
}

fn finish(child: Child) {
    let output = child.wait_with_output().unwrap();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{errors}");
}

fn state(out: &Path) -> State {
    State::load(&out.join("checkpoint/state.safetensors")).unwrap()
}

type Bits = BTreeMap<String, Vec<u32>>;

fn bits<'a>(tensors: impl IntoIterator<Item = (&'a String, &'a Tensor)>) -> Bits {
    let values = |t: &Tensor| t.flatten_all().unwrap().to_vec1::<f32>().unwrap();
    let bits = |t: &Tensor| values(t).into_iter().map(f32::to_bits).collect();
    let tensors = tensors.into_iter();
    tensors.map(|(name, t)| (name.clone(), bits(t))).collect()
}

#[test]
fn twenty_kills_change_no_bit() {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    let seed = now.as_nanos() as u64;
    println!("seed {seed}");
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let dir = tempfile::tempdir().unwrap();
    let (broken, whole) = (dir.path().join("broken"), dir.path().join("whole"));
    let recipe = dir.path().join("recipe.toml");
    std::fs::write(&recipe, RECIPE).unwrap();
    for kill in 0..KILLS {
        let mut child = start_or_resume(&broken, &recipe, &[]);
        std::thread::sleep(Duration::from_millis(rng.random_range(0..LIFE)));
        // Only the kill may end it: a run that fails has ended before.
        assert!(child.try_wait().unwrap().is_none(), "{}", {
            let output = child.wait_with_output().unwrap();
            format!(
                "kill {kill}: {}",
                String::from_utf8_lossy(&output.stderr).into_owned()
            )
        });
        child.kill().unwrap();
        child.wait().unwrap();
    }
    let reached = state(&broken).step;
    println!("{reached} steps in {KILLS} lives");
    assert!(reached > 0);
    let steps = (reached + REST).to_string();
    finish(start_or_resume(&broken, &recipe, &["--steps", &steps]));
    finish(start_or_resume(&whole, &recipe, &["--steps", &steps]));

    let [a, b] = [&broken, &whole].map(|out| state(out));
    assert_eq!((a.step, b.step), (reached + REST, reached + REST));
    assert_eq!(bits(&a.generator.parameters), bits(&b.generator.parameters));
    assert_eq!(bits(&a.ema), bits(&b.ema));
    assert_eq!(
        (a.generator.moments, a.history),
        (b.generator.moments, b.history)
    );
    for name in ["best.safetensors", "last.safetensors"] {
        let [a, b] = [&broken, &whole].map(|out| Checkpoint::open(out.join(name)).unwrap());
        assert_eq!(bits(a.tensors()), bits(b.tensors()), "{name}");
    }
}

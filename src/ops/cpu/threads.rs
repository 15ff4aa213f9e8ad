//! When work is divided among threads.

use rayon::prelude::*;

/// Multiplications, or values moved, below which waking a thread costs more
/// than it saves.
const WORTH_SHARING: usize = 1 << 17;

/// Whether this amount of work is worth several threads.
pub(super) fn shared_work(amount: usize) -> bool {
    amount >= WORTH_SHARING && rayon::current_num_threads() > 1
}

/// Runs tasks, on several threads if the amount of work in them is worth it.
pub(super) fn run_tasks(count: usize, amount: usize, task: impl Fn(usize) + Sync + Send) {
    if count > 1 && shared_work(amount) {
        (0..count).into_par_iter().for_each(task);
    } else {
        (0..count).for_each(task);
    }
}

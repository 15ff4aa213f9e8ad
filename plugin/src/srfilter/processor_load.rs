//! How much of the machine's processor time other programs leave.

use std::time::{Duration, Instant};

/// Time between two looks.
const INTERVAL: Duration = Duration::from_millis(400);

/// Processor time since the start of the machine, in its ticks.
#[derive(Debug, Clone, Copy)]
struct Ticks {
    all: u64,
    idle: u64,
    /// That of this process.
    own: u64,
}

/// Watches the processors; known on Linux.
#[derive(Debug, Default)]
pub(super) struct ProcessorLoad {
    last: Option<(Instant, Option<Ticks>)>,
    free: Option<f64>,
}

impl ProcessorLoad {
    /// The part of the processor time, 0 to 1, that was idle or this process's own between
    /// the last two looks; `None` if that is not known.
    pub(super) fn free(&mut self) -> Option<f64> {
        let now = Instant::now();
        let due = |last: &(Instant, _)| now.duration_since(last.0) >= INTERVAL;
        if self.last.as_ref().is_none_or(due) {
            let ticks = Ticks::now();
            if let (Some((_, Some(before))), Some(ticks)) = (self.last, ticks) {
                self.free = ticks.free_since(before);
            }
            self.last = Some((now, ticks));
        }
        self.free
    }
}

impl Ticks {
    #[cfg(target_os = "linux")]
    fn now() -> Option<Self> {
        use procfs::CurrentSI;
        let total = procfs::KernelStats::current().ok()?.total;
        let own = procfs::process::Process::myself().ok()?.stat().ok()?;
        // Guests are part of user and nice.
        let busy = total.user + total.nice + total.system;
        let rest = [total.irq, total.softirq, total.steal]
            .into_iter()
            .flatten();
        let idle = total.idle + total.iowait.unwrap_or(0);
        Some(Self {
            all: busy + rest.sum::<u64>() + idle,
            idle,
            own: own.utime + own.stime,
        })
    }

    #[cfg(not(target_os = "linux"))]
    fn now() -> Option<Self> {
        None
    }

    fn free_since(self, before: Self) -> Option<f64> {
        let all = self.all.checked_sub(before.all).filter(|&all| all > 0)?;
        // Counters of idle time may go back.
        let free = self.idle.saturating_sub(before.idle) + self.own.saturating_sub(before.own);
        Some((free as f64 / all as f64).min(1.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn idle_and_own_time_is_free() {
        let ticks = |all, idle, own| Ticks { all, idle, own };
        let before = ticks(1000, 500, 100);
        assert_eq!(ticks(1100, 540, 110).free_since(before), Some(0.5));
        assert_eq!(ticks(1100, 490, 350).free_since(before), Some(1.0));
        assert_eq!(before.free_since(before), None);
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn own_work_does_not_count_as_load() {
        let mut load = ProcessorLoad::default();
        assert_eq!(load.free(), None);
        let start = Instant::now();
        while start.elapsed() < 2 * INTERVAL {
            std::hint::spin_loop();
        }
        let free = load.free().unwrap();
        // A core of this process is free for it, whatever the others do.
        let cores = std::thread::available_parallelism().unwrap().get() as f64;
        assert!(free > 0.3 / cores, "{free}");
    }
}

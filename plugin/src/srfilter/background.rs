//! Work in the background, which frames do not wait for.

use super::log::CAT;
use rayon::{ThreadPool, ThreadPoolBuildError, ThreadPoolBuilder};

/// How much nicer than others the threads are: a tenth of a core is left to them where
/// others use all of it.
#[cfg(target_os = "linux")]
const NICER: i32 = 10;

/// The largest niceness.
#[cfg(target_os = "linux")]
const NICEST: i32 = 19;

/// A thread of its own. What divides its work among threads has but that one there, and
/// takes none of those that compute frames.
fn thread(name: &'static str) -> ThreadPoolBuilder {
    ThreadPoolBuilder::new()
        .num_threads(1)
        .thread_name(move |_| name.to_owned())
        // The panic shows as a result that never comes.
        .panic_handler(|_| gst::error!(CAT, "a thread panicked"))
}

/// Runs work on a thread of low priority, and does not wait for it.
pub(super) fn spawn(
    name: &'static str,
    work: impl FnOnce() + Send + 'static,
) -> Result<(), ThreadPoolBuildError> {
    let thread = thread(name).start_handler(|_| lower_priority()).build()?;
    // The thread ends after that.
    thread.spawn(work);
    Ok(())
}

/// Runs work on one thread, and waits for it.
pub(super) fn run<T: Send>(
    name: &'static str,
    work: impl FnOnce() -> T + Send,
) -> Result<T, ThreadPoolBuildError> {
    let thread: ThreadPool = thread(name).build()?;
    Ok(thread.install(work))
}

/// Lowers the priority of the calling thread. Elsewhere than on Linux it stays: the
/// priority there is the whole process's.
fn lower_priority() {
    #[cfg(target_os = "linux")]
    {
        use rustix::process::{getpriority_process, setpriority_process};
        let lowered = getpriority_process(None)
            .and_then(|niceness| setpriority_process(None, (niceness + NICER).min(NICEST)));
        if let Err(error) = lowered {
            gst::debug!(CAT, "cannot lower the priority of a thread: {error}");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc::channel;

    #[test]
    fn work_is_not_divided() {
        gst::init().unwrap();
        assert_eq!(run("test", rayon::current_num_threads).unwrap(), 1);
        let (sender, receiver) = channel();
        let work = move || sender.send(rayon::current_num_threads()).unwrap();
        spawn("test", work).unwrap();
        assert_eq!(receiver.recv(), Ok(1));
        let (sender, receiver) = channel::<()>();
        let panics = move || {
            let _sender = sender;
            panic!("as it should");
        };
        spawn("test", panics).unwrap();
        assert!(receiver.recv().is_err());
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn only_the_background_has_low_priority() {
        gst::init().unwrap();
        let niceness = || rustix::process::getpriority_process(None).unwrap();
        let before = niceness();
        let (sender, receiver) = channel();
        spawn("test", move || sender.send(niceness()).unwrap()).unwrap();
        assert_eq!(receiver.recv(), Ok((before + NICER).min(NICEST)));
        assert_eq!(run("test", niceness).unwrap(), before);
        assert_eq!(niceness(), before);
    }
}

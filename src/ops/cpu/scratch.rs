//! Buffers that are used again.

use std::cell::RefCell;
use std::ops::{Deref, DerefMut};

/// Buffers longer than this go back to the system: 64 MiB hold the planes of
/// a training batch, while those of a whole picture would burden the process
/// for the rest of its life.
const LONGEST_KEPT: usize = 16 << 20;

/// How many buffers a thread keeps: a backward pass uses three at a time.
const KEPT: usize = 4;

thread_local! {
    static POOL: RefCell<Vec<Vec<f32>>> = const { RefCell::new(Vec::new()) };
}

/// A buffer on loan from its thread, with whatever its last user left in it.
///
/// Memory fresh from the system costs a page fault for every 4 KiB, about as
/// much as a small convolution over it.
pub(super) struct Scratch {
    buffer: Vec<f32>,
    len: usize,
}

impl Scratch {
    pub(super) fn take(len: usize) -> Self {
        let kept = POOL.with_borrow_mut(|pool| {
            let fit = (0..pool.len())
                .filter(|&i| pool[i].len() >= len)
                .min_by_key(|&i| pool[i].len());
            fit.map(|i| pool.swap_remove(i))
        });
        Self {
            buffer: kept.unwrap_or_else(|| vec![0.0; len]),
            len,
        }
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let buffer = std::mem::take(&mut self.buffer);
        if buffer.len() > LONGEST_KEPT {
            return;
        }
        // The pool is gone where a thread is just ending.
        let _ = POOL.try_with(|pool| {
            let mut pool = pool.borrow_mut();
            pool.push(buffer);
            if pool.len() > KEPT {
                let shortest = (0..pool.len()).min_by_key(|&i| pool[i].len());
                shortest.map(|i| pool.swap_remove(i));
            }
        });
    }
}

impl Deref for Scratch {
    type Target = [f32];

    fn deref(&self) -> &[f32] {
        &self.buffer[..self.len]
    }
}

impl DerefMut for Scratch {
    fn deref_mut(&mut self) -> &mut [f32] {
        &mut self.buffer[..self.len]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_buffer_is_used_again_and_cut_to_length() {
        std::thread::spawn(|| {
            let first = Scratch::take(1000);
            let address = first.as_ptr();
            drop(first);
            let second = Scratch::take(500);
            assert_eq!((second.as_ptr(), second.len()), (address, 500));
            assert_ne!(Scratch::take(500).as_ptr(), address);
        })
        .join()
        .unwrap();
    }

    #[test]
    fn few_buffers_are_kept() {
        std::thread::spawn(|| {
            drop((0..9).map(|i| Scratch::take(10 + i)).collect::<Vec<_>>());
            drop(Scratch::take(LONGEST_KEPT + 1));
            let kept = POOL.with_borrow(|pool| pool.iter().map(Vec::len).collect::<Vec<_>>());
            assert_eq!(kept.len(), KEPT);
            assert!(kept.iter().all(|&len| len < 100), "{kept:?}");
        })
        .join()
        .unwrap();
    }
}

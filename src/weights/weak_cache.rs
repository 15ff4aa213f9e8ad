//! Values that are shared for as long as someone uses them.

use std::sync::{Arc, Mutex, PoisonError, Weak};

/// Values by key; those that nobody holds any more are dropped.
#[derive(Debug)]
pub(super) struct WeakCache<K, V> {
    entries: Mutex<Vec<(K, Weak<V>)>>,
}

impl<K: PartialEq, V> WeakCache<K, V> {
    pub(super) const fn new() -> Self {
        Self {
            entries: Mutex::new(Vec::new()),
        }
    }

    /// The value of a key, or else the result of `load`, which other threads do not
    /// wait for: of two that load the same, both get the first result.
    pub(super) fn get_or_load<E>(
        &self,
        key: K,
        load: impl FnOnce() -> Result<V, E>,
    ) -> Result<Arc<V>, E> {
        if let Some(value) = self.find(&key) {
            return Ok(value);
        }
        let loaded = Arc::new(load()?);
        let mut entries = self.entries.lock().unwrap_or_else(PoisonError::into_inner);
        entries.retain(|(_, value)| value.strong_count() > 0);
        let first = entries.iter().find(|(known, _)| *known == key);
        if let Some(value) = first.and_then(|(_, value)| value.upgrade()) {
            return Ok(value);
        }
        entries.push((key, Arc::downgrade(&loaded)));
        Ok(loaded)
    }

    fn find(&self, key: &K) -> Option<Arc<V>> {
        let entries = self.entries.lock().unwrap_or_else(PoisonError::into_inner);
        let found = entries.iter().find(|(known, _)| known == key);
        found.and_then(|(_, value)| value.upgrade())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_shared_while_they_are_used() {
        let cache = WeakCache::<u8, String>::new();
        let get = |key, text: &str| cache.get_or_load(key, || Ok::<_, ()>(text.to_owned()));
        let first = get(1, "a").unwrap();
        assert!(Arc::ptr_eq(&first, &get(1, "b").unwrap()));
        assert_eq!(*get(2, "c").unwrap(), "c");
        drop(first);
        assert_eq!(*get(1, "d").unwrap(), "d");
        assert_eq!(cache.get_or_load(3, || Err(5)), Err(5));
    }
}

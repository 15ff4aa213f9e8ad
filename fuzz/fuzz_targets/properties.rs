#![no_main]

#[path = "../element/mod.rs"]
#[allow(dead_code)]
mod element;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| element::run(element::properties::target, bytes));

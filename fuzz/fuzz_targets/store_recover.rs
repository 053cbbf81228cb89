//! A store whose files are changed: see `martlet_fuzzing::store_recover`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| martlet_fuzzing::store_recover(data));

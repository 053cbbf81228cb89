//! Arbitrary bytes as steps on shards: see `martlet_fuzzing::shard_steps`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| martlet_fuzzing::shard_steps(data));

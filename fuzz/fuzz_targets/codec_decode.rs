//! Arbitrary bytes into the decoder: see `martlet_fuzzing::codec_decode`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| martlet_fuzzing::codec_decode(data));

//! What decodes encodes to the same: see `martlet_fuzzing::codec_roundtrip`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| martlet_fuzzing::codec_roundtrip(data));

//! Arbitrary expressions and payloads through the rules: see `martlet_fuzzing::rules_evaluate`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| martlet_fuzzing::rules_evaluate(data));

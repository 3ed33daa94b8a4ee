//! The fuzz target of `cable_fuzz::binary`.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| cable_fuzz::binary(data));

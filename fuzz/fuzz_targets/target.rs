//! The fuzz target of `cable_fuzz::target`.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| cable_fuzz::target(data));

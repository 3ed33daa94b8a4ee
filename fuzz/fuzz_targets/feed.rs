//! The fuzz target of `cable_fuzz::feed`.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| cable_fuzz::feed(data));

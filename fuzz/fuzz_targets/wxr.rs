//! The fuzz target of `cable_fuzz::wxr`.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| cable_fuzz::wxr(data));

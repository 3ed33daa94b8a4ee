//! The fuzz target of `cable_fuzz::page_token`.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| cable_fuzz::page_token(data));

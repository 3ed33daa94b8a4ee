//! The fuzz target of `cable_fuzz::import_feed`.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| cable_fuzz::import_feed(data));

//! The fuzz target of `cable_fuzz::front_matter`.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| cable_fuzz::front_matter(data));

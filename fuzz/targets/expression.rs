//! Fuzzes expressions, templates and version requirements.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| phasework_fuzz::expression(bytes));

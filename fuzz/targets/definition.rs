//! Fuzzes the reader of definitions.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| phasework_fuzz::definition(bytes));

//! Fuzzes the reader of stored runs, and what then happens to them.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| phasework_fuzz::state(bytes));

//! Fuzzes the readers of message bodies.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| phasework_fuzz::message(bytes));

//! Fuzzes a sound run with workers and clients that say anything.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| phasework_fuzz::worker(bytes));

//! Times the pieces of [`pure`](phasework_tests::pure): `cargo bench --package phasework-tests`.

use divan::Bencher;
use phasework_tests::pure::PIECES;

fn main() {
    divan::main();
}

#[divan::bench(args = PIECES.iter().map(|piece| piece.name))]
fn pure(bencher: Bencher<'_, '_>, name: &str) {
    let piece = PIECES.iter().find(|piece| piece.name == name).expect("one of them");
    bencher.with_inputs(piece.ready).bench_local_refs(|work| work());
}

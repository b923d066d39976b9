//! A process that writes is killed at chance moments, over and over: what it was told is there, and nothing is half
//! there.

use phasework_store::sqlite::{SqliteOptions, SqliteStore};
use phasework_workflows::id::SystemIds;

use super::story::{RUNS, Writer, intact, whole};

const KILLS: usize = 40;

#[tokio::test]
async fn what_was_told_survives_its_process() {
    let dir = tempfile::tempdir().unwrap();
    let mut chance = fastrand::Rng::with_seed(7);
    let mut versions = [0; RUNS as usize];
    for kill in 0..KILLS {
        let mut writer = Writer::start(dir.path(), [8, 1, 3][kill % 3]);
        writer.versions = versions;
        assert!(writer.hear(chance.usize(..[3, 40, 120][kill % 3])), "it ended by itself");
        writer.kill();
        let store = SqliteStore::open(&SqliteOptions::new(dir.path()), &SystemIds).unwrap();
        for n in 0..RUNS {
            let (found, told) = (whole(&store, n).await, writer.versions[n as usize]);
            // One commit of a run is under way at a time: it may be done and not told.
            assert!(found == told || found == told + 1, "run {n} is at {found}; told was {told}");
            versions[n as usize] = found;
        }
        drop(store);
        if kill % 8 == 0 {
            intact(dir.path());
        }
    }
    assert!(versions.iter().all(|&version| version > 20), "too little was written: {versions:?}");
}

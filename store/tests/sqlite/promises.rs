//! The promises of a store, kept by one in a directory, and by one that is closed and opened again all the time.

use std::sync::Arc;

use async_trait::async_trait;
use phasework_store::SharedStore;
use phasework_store::conformance::{SharedSubject, Subject, examine};
use phasework_store::sqlite::{FILE, SqliteOptions, SqliteStore};
use phasework_workflows::id::SystemIds;
use rusqlite::Connection;
use tempfile::TempDir;

use super::opened_anew::OpenedAnew;

struct OnSqlite {
    store: SharedStore,
    dir: TempDir,
}

/// How many rows all tables have, as any other program sees them.
fn rows(dir: &TempDir) -> usize {
    let connection = Connection::open(dir.path().join(FILE)).unwrap();
    let mut tables = connection.prepare("SELECT name FROM sqlite_schema WHERE type = 'table'").unwrap();
    let tables: Vec<String> = tables.query_map([], |row| row.get(0)).unwrap().map(Result::unwrap).collect();
    let count =
        |table: &String| connection.query_row(&format!("SELECT count(*) FROM {table}"), [], |row| row.get::<_, u32>(0));
    tables.iter().map(|table| count(table).unwrap()).sum::<u32>() as usize
}

#[async_trait]
impl Subject for OnSqlite {
    fn store(&self) -> SharedStore {
        self.store.clone()
    }

    fn twin(&self) -> SharedStore {
        self.store.clone()
    }

    async fn traces(&self) -> usize {
        rows(&self.dir)
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn it_keeps_the_promises() {
    let subject = || async {
        let dir = tempfile::tempdir().unwrap();
        let store = SqliteStore::open(&SqliteOptions::new(dir.path()), &SystemIds).unwrap();
        Arc::new(OnSqlite { store: Arc::new(store), dir }) as SharedSubject
    };
    examine(subject).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn it_keeps_the_promises_whenever_it_is_opened_again() {
    let subject = || async {
        let dir = tempfile::tempdir().unwrap();
        Arc::new(OnSqlite { store: Arc::new(OpenedAnew::new(dir.path())), dir }) as SharedSubject
    };
    examine(subject).await;
}

//! What only the store itself can see: its statements, its copies, a disk that does not answer.

use phasework_workflows::id::SystemIds;

use super::*;
use crate::SharedStore;
use crate::conformance::{SharedSubject, Subject, examine};

/// How many rows all tables have.
fn rows(connection: &Connection) -> Result<usize, StoreError> {
    let mut tables = connection.prepare("SELECT name FROM sqlite_schema WHERE type = 'table'")?;
    let tables: Vec<String> = tables.query_map([], |row| row.get(0))?.collect::<Result<_, _>>()?;
    let count =
        |table: &String| connection.query_row(&format!("SELECT count(*) FROM {table}"), [], |row| row.get::<_, u32>(0));
    Ok(tables.iter().map(count).sum::<Result<u32, rusqlite::Error>>()? as usize)
}

struct Examined(Arc<SqliteStore>);

#[async_trait]
impl Subject for Examined {
    fn store(&self) -> SharedStore {
        self.0.clone()
    }

    fn twin(&self) -> SharedStore {
        self.0.clone()
    }

    async fn traces(&self) -> usize {
        self.0.read(rows).await.unwrap()
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn in_memory_it_keeps_the_promises() {
    examine(|| async { Arc::new(Examined(Arc::new(SqliteStore::in_memory(&SystemIds).unwrap()))) as SharedSubject })
        .await;
}

#[tokio::test]
async fn a_copy_goes_its_own_way() {
    let store = SqliteStore::in_memory(&SystemIds).unwrap();
    store.replace_marker(None, "a").await.unwrap();
    store.put_epoch(&[Shard(7)], "a/1").await.unwrap();
    let copy = store.copy().await.unwrap();
    store.replace_marker(Some("a"), "b").await.unwrap();
    copy.put_epoch(&[Shard(7)], "a/2").await.unwrap();
    let held = async |store: &SqliteStore| {
        (store.marker().await.unwrap().unwrap(), store.epochs(&[Shard(7)]).await.unwrap()[0].clone().unwrap())
    };
    assert_eq!(held(&store).await, ("b".into(), "a/1".into()));
    assert_eq!(held(&copy).await, ("a".into(), "a/2".into()));
    assert_eq!(copy.lineage().await.unwrap(), store.lineage().await.unwrap());
}

/// What SQLite tells of a page that the disk does not give back.
fn unreadable(_: &Connection) -> Result<(), StoreError> {
    let code = rusqlite::ffi::SQLITE_IOERR_READ;
    Err(rusqlite::Error::SqliteFailure(rusqlite::ffi::Error::new(code), None).into())
}

#[tokio::test]
async fn a_page_that_cannot_be_read_is_damage_only_while_the_disk_is_there() {
    let dir = tempfile::tempdir().unwrap();
    let store = SqliteStore::open(&SqliteOptions::new(dir.path()), &SystemIds).unwrap();
    assert!(matches!(store.read(unreadable).await, Err(StoreError::Corrupt(_))));
    assert!(matches!(store.write(unreadable).await, Err(StoreError::Corrupt(_))));
    // Nothing can be written: for all that is known, the disk is gone.
    std::fs::rename(dir.path().join(FILE), dir.path().join("away")).unwrap();
    let told = store.read(unreadable).await;
    assert!(
        matches!(&told, Err(StoreError::Unavailable(words)) if words.contains("nothing can be written")),
        "{told:?}"
    );
}

#[tokio::test]
async fn a_disk_that_does_not_answer_is_not_waited_for_for_ever() {
    let dir = tempfile::tempdir().unwrap();
    let options = SqliteOptions { timeout: Duration::from_millis(200), ..SqliteOptions::new(dir.path()) };
    let store = SqliteStore::open(&options, &SystemIds).unwrap();
    let (go_on, held) = std::sync::mpsc::channel::<()>();
    let told = store
        .write(move |_| {
            held.recv().ok();
            Ok(())
        })
        .await;
    assert!(
        matches!(&told, Err(StoreError::Unavailable(words)) if words.contains("did not answer in 200ms")),
        "{told:?}"
    );
    assert!(matches!(store.put_epoch(&[Shard(1)], "late").await, Err(StoreError::Unavailable(_))));
    drop(go_on);
    // What was asked for meanwhile is done, though nobody waits any more.
    while store.epochs(&[Shard(1)]).await.ok().is_none_or(|epochs| epochs[0].is_none()) {
        tokio::task::yield_now().await;
    }
}

/// What is asked for must never be looked for row by row.
#[test]
fn every_query_finds_its_rows_by_an_index() {
    let connection = Connection::open_in_memory().unwrap();
    file::make(&connection, &SystemIds).unwrap();
    let sources = [
        include_str!("commit.rs"),
        include_str!("load.rs"),
        include_str!("find.rs"),
        include_str!("catalog.rs"),
        include_str!("timeline.rs"),
    ];
    let texts = sources.iter().flat_map(|source| source.split('"').skip(1).step_by(2));
    let mut seen = 0;
    for sql in texts.filter(|text| ["SELECT ", "UPDATE ", "DELETE "].iter().any(|verb| text.starts_with(verb))) {
        let sql =
            sql.replace("\\\n", " ").replace("{OF}", "FROM outputs WHERE run = ?1 AND entry = ?2 AND handler = ?3");
        let sql = sql.replace("{table}", "history").replace("{key}", "run").replace("{condition}", "WHERE name = ?1");
        let mut plan = connection.prepare(&format!("EXPLAIN QUERY PLAN {sql}")).unwrap();
        let parameters = vec![0_i64; plan.parameter_count()];
        let steps = plan.query_map(rusqlite::params_from_iter(parameters), |row| row.get::<_, String>(3)).unwrap();
        let steps: Vec<_> = steps.map(Result::unwrap).collect();
        let wrong = |step: &String| {
            let whole = ["SELECT count(*)", "SELECT worker"].iter().any(|start| sql.starts_with(start));
            let walks = step.starts_with("SCAN") && !step.contains("CONSTANT") && !whole;
            (walks && !step.contains("USING INDEX dead_letters_by_age")) || step.contains("TEMP B-TREE")
        };
        assert!(!steps.iter().any(wrong), "{sql}: {steps:?}");
        seen += 1;
    }
    assert!(seen > 25, "{seen} queries were found");
}

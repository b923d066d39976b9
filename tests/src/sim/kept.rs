//! What keeps runs in a simulation: the store in memory, or the one on SQLite, without its threads and its file. Which
//! one, the seed says; nothing else may depend on it.

use std::sync::Arc;

use fastrand::Rng;
use phasework_store::SharedStore;
use phasework_store::memory::MemoryStore;
use phasework_store::sqlite::SqliteStore;

use super::time::SimIds;

#[derive(Clone, Debug)]
pub(super) enum Kept {
    Memory(Arc<MemoryStore>),
    Sqlite(Arc<SqliteStore>),
}

impl Kept {
    /// An empty store.
    pub(super) fn new(is_sqlite: bool) -> Self {
        if !is_sqlite {
            return Self::Memory(Arc::default());
        }
        let store = SqliteStore::in_memory(&SimIds::new(Rng::with_seed(0)));
        Self::Sqlite(Arc::new(store.expect("a database in memory can be made")))
    }

    /// An empty store of the same kind.
    pub(super) fn empty(&self) -> Self {
        Self::new(matches!(self, Self::Sqlite(_)))
    }

    pub(super) fn store(&self) -> SharedStore {
        match self {
            Self::Memory(store) => Arc::<MemoryStore>::clone(store),
            Self::Sqlite(store) => Arc::<SqliteStore>::clone(store),
        }
    }

    /// A store that holds what this one holds now.
    pub(super) async fn copy(&self) -> Self {
        match self {
            Self::Memory(store) => Self::Memory(Arc::new(store.copy())),
            Self::Sqlite(store) => {
                Self::Sqlite(Arc::new(store.copy().await.expect("a database in memory can be copied")))
            }
        }
    }
}

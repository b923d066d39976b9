//! A look at a store by somebody who does not use it, also while somebody else does. Writes nothing, judges nothing.

use std::path::Path;
use std::sync::Mutex;

use rusqlite::{Connection, OpenFlags};

use super::file::{FILE, LOG, kind, prepare};
use super::{Place, SqliteStore};
use crate::StoreError;

/// How many places of damage are told at most.
const TOLD: u32 = 5;

/// What a file says of itself.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Looked {
    /// Its size in bytes.
    pub bytes: u64,
    /// How much of that is free, and used for what comes next.
    pub free_bytes: u64,
    /// The size of the log of what is not in the file yet.
    pub log_bytes: u64,
    /// The version of its tables.
    pub format: i32,
    /// What SQLite finds wrong with it.
    pub damage: Vec<String>,
}

impl SqliteStore {
    /// The store in a directory, for looking only, and what is to be seen of its file. Reads all of the file.
    ///
    /// # Errors
    /// [`StoreError::Unusable`] when there is no store there that this program reads.
    pub fn look(dir: &Path) -> Result<(Self, Looked), StoreError> {
        let dir = &std::path::absolute(dir).unwrap_or_else(|_| dir.to_owned());
        let file = dir.join(FILE);
        if !file.exists() {
            return Err(StoreError::Unusable(format!("there is no store in {}", dir.display())));
        }
        let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let connection = Connection::open_with_flags(&file, flags)?;
        prepare(&connection)?;
        kind(&connection)?;
        let looked = looked(&connection, dir)?;
        Ok((Self::at(Place::Here(Mutex::new(connection))), looked))
    }
}

fn looked(connection: &Connection, dir: &Path) -> Result<Looked, StoreError> {
    let number = |pragma: &str| connection.query_row(&format!("PRAGMA {pragma}"), [], |row| row.get::<_, i64>(0));
    let size = |name: &str| std::fs::metadata(dir.join(name)).map_or(0, |found| found.len());
    let mut check = connection.prepare(&format!("PRAGMA quick_check({TOLD})"))?;
    let found = check.query_map([], |row| row.get::<_, String>(0))?.collect::<Result<Vec<_>, _>>();
    // What is damaged badly cannot even be checked.
    let damage = found.unwrap_or_else(|error| vec![error.to_string()]);
    Ok(Looked {
        bytes: size(FILE),
        free_bytes: (number("freelist_count")? * number("page_size")?).unsigned_abs(),
        log_bytes: size(LOG),
        format: number("user_version")? as i32,
        damage: damage.into_iter().filter(|words| words != "ok").collect(),
    })
}

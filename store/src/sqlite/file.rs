//! The directory of a store, its lock, and connections to its file. Nobody but the owner of the directory may read it.
//!
//! Once SQLite has the file open, nothing of this process may open and close it besides: that would drop the locks by
//! which SQLite keeps other programs (a backup, somebody looking) in step.

use std::fs::{DirBuilder, File, OpenOptions, TryLockError};
use std::io::{Error, ErrorKind, Read as _, Seek as _, Write as _};
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use phasework_workflows::id::IdSource;
use rusqlite::{Connection, OpenFlags, OptionalExtension as _};

use super::{find, timeline};
use crate::StoreError;

/// What the file is called in its directory.
pub const FILE: &str = "phasework.db";

/// What SQLite calls the log of what is not yet in the file.
pub(super) const LOG: &str = "phasework.db-wal";

/// What SQLite calls the index of that log.
const LOG_INDEX: &str = "phasework.db-shm";

/// The file that is locked by whoever uses the directory.
const LOCK: &str = "phasework.lock";

/// Every file of a store.
pub const FILES: [&str; 4] = [FILE, LOG, LOG_INDEX, LOCK];

/// Says in the header of a file that it is one of ours ("phwk").
pub(super) const APPLICATION: i32 = 0x7068_776b;

/// The version of the tables. A file of a later one is not touched.
pub(super) const FORMAT: i32 = 1;

/// How long to wait for another program that has the file locked, a backup for one.
const BUSY: Duration = Duration::from_secs(5);

/// How long a process may take to let go of a directory when it ends. A program that a process starts holds what that one
/// had open for a moment, too.
const LETTING_GO: Duration = Duration::from_secs(1);

/// How many prepared statements a connection keeps.
const STATEMENTS: usize = 128;

/// Above this size, in bytes, the log is emptied into the file even if readers must be waited for.
pub(super) const LONGEST_LOG: u64 = 64 << 20;

/// How much room there has to be on a disk that was full before it counts as one that is not: about what one call may
/// need. With less, small calls would be done and large ones refused, in turn.
const ROOM: u32 = 1 << 20;

/// How much is written to see whether anything can be.
const PAGES: u32 = 1 << 16;

/// How long readers are waited for.
const PATIENCE: Duration = Duration::from_millis(200);

/// A directory that is ours as long as this lives.
#[derive(Debug)]
pub(super) struct Home {
    dir: PathBuf,
    /// Whether the file was made just now.
    is_new: bool,
    /// Whether the directory was there before.
    is_old_place: bool,
    /// How many transactions the disk did not let be done.
    failures: AtomicU64,
    /// How many of them there were when there was last found to be room.
    overcome: AtomicU64,
    /// The files that are open.
    opened: OnceLock<Vec<(&'static str, Identity)>>,
    _lock: File,
}

/// What tells a file from another one of the same name.
#[cfg(unix)]
type Identity = (u64, u64);

#[cfg(unix)]
fn identity(path: &Path) -> std::io::Result<Identity> {
    use std::os::unix::fs::MetadataExt as _;
    std::fs::metadata(path).map(|found| (found.dev(), found.ino()))
}

/// Open files cannot be removed or replaced there.
#[cfg(not(unix))]
type Identity = ();

#[cfg(not(unix))]
fn identity(path: &Path) -> std::io::Result<Identity> {
    std::fs::metadata(path).map(drop)
}

/// Whether a file is ours, as its header says.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Empty,
    Ours,
}

/// Why a file or a directory could not be had: because it is wrong, or because of what may be otherwise later.
fn failed(what: &str, path: &Path, error: &Error) -> StoreError {
    let words = format!("{what} {}: {error}", path.display());
    match error.kind() {
        ErrorKind::StorageFull | ErrorKind::QuotaExceeded | ErrorKind::FileTooLarge => StoreError::Full(words),
        ErrorKind::NotFound
        | ErrorKind::AlreadyExists
        | ErrorKind::PermissionDenied
        | ErrorKind::NotADirectory
        | ErrorKind::IsADirectory
        | ErrorKind::ReadOnlyFilesystem
        | ErrorKind::InvalidFilename
        | ErrorKind::InvalidInput
        | ErrorKind::Unsupported => StoreError::Unusable(words),
        // An error of the disk, too many open files…
        _ => StoreError::Unavailable(words),
    }
}

#[cfg(unix)]
fn private(options: &mut OpenOptions) -> &mut OpenOptions {
    use std::os::unix::fs::OpenOptionsExt as _;
    options.mode(0o600)
}

#[cfg(not(unix))]
fn private(options: &mut OpenOptions) -> &mut OpenOptions {
    options
}

fn make_directory(dir: &Path) -> Result<(), StoreError> {
    let mut builder = DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    let is_new = |path: &&Path| !path.as_os_str().is_empty() && !path.exists();
    let made: Vec<_> = dir.ancestors().take_while(is_new).collect();
    builder.create(dir).map_err(|error| failed("cannot make the directory", dir, &error))?;
    for above in made.iter().filter_map(|path| path.parent()) {
        let above = if above.as_os_str().is_empty() { Path::new(".") } else { above };
        if let Err(error) = sync(above) {
            tracing::debug!(%error, "whether a new directory survives a loss of power is up to the system");
        }
    }
    Ok(())
}

/// Has the names in a directory survive a loss of power.
fn sync(dir: &Path) -> Result<(), StoreError> {
    if cfg!(unix) {
        let synced = File::open(dir).and_then(|dir| dir.sync_all());
        synced.map_err(|error| failed("cannot write to the directory", dir, &error))?;
    }
    Ok(())
}

impl Home {
    /// Takes a directory, which is made if it is not there.
    pub(super) fn take(dir: &Path) -> Result<Self, StoreError> {
        // Wherever the program goes, and whatever the name looks like: one that begins with `file:` would be a URI.
        let dir = std::path::absolute(dir).map_err(|error| failed("there cannot be a directory", dir, &error))?;
        let is_old_place = dir.exists();
        make_directory(&dir)?;
        let lock = lock(&dir)?;
        let (file, log) = (dir.join(FILE), dir.join(LOG));
        let length = |path: &Path| std::fs::metadata(path).map_or(0, |found| found.len());
        if length(&file) == 0 && length(&log) > 0 {
            return Err(StoreError::Unusable(format!(
                "there is {} without the file that it is the log of: put {} in its place again, or restore that from a backup \
                 and remove the log, or name another directory",
                log.display(),
                file.display()
            )));
        }
        let is_new = match private(OpenOptions::new().write(true).create_new(true)).open(&file) {
            Ok(made) => {
                made.sync_all().map_err(|error| failed("cannot write", &file, &error))?;
                sync(&dir)?;
                true
            }
            Err(error) if error.kind() == ErrorKind::AlreadyExists => false,
            Err(error) => return Err(failed("cannot make the file", &file, &error)),
        };
        let (failures, overcome, opened) = (AtomicU64::new(0), AtomicU64::new(0), OnceLock::new());
        Ok(Self { dir, is_new, is_old_place, failures, overcome, opened, _lock: lock })
    }

    pub(super) fn dir(&self) -> &Path {
        &self.dir
    }

    /// The connection that writes. What a new store needs is made.
    pub(super) fn writer(&self, ids: &dyn IdSource, max_bytes: Option<u64>) -> Result<Connection, StoreError> {
        let connection = self.connect()?;
        let kind = kind(&connection).map_err(|error| self.located(error))?;
        // Waits for the disk with every commit: the log has it when a commit returns.
        connection.pragma_update(None, "synchronous", "FULL")?;
        let mode: String = connection.query_row("PRAGMA journal_mode = WAL", [], |row| row.get(0))?;
        if mode != "wal" {
            return Err(StoreError::Unusable(format!(
                "the disk of {} cannot hold a store: SQLite has no write-ahead log there; name a directory on a local disk",
                self.dir.display()
            )));
        }
        connection.pragma_update(None, "journal_size_limit", 16 << 20)?;
        connection.pragma_update(None, "cache_size", -32_000)?; // KiB
        if kind == Kind::Empty {
            make(&connection, ids)?;
            let dir = self.dir.display();
            match (self.is_new, self.is_old_place) {
                (false, _) => tracing::info!(%dir, "a store that was begun and never used is made anew"),
                // So looks a disk that is not mounted.
                (true, true) => tracing::warn!(
                    "there was no store in the directory {dir}, so a new and empty one was made; if there should have been one, \
                     stop, and see that its disk is mounted there"
                ),
                (true, false) => tracing::info!(%dir, "a new store was made"),
            }
        }
        // Of a process that died while it looked whether there is room.
        // Somebody may have mended something by hand.
        if let Err(error) = find::count_anew(&connection) {
            tracing::warn!(%error, "runs cannot be counted: how many are told to be there may not be right");
        }
        match give_room(&connection) {
            // It can be looked at all the same, and emptied.
            Err(StoreError::Full(_)) => self.note_writes(false),
            given => given?,
        }
        if let Some(bytes) = max_bytes {
            let page: u64 = connection.query_row("PRAGMA page_size", [], |row| row.get::<_, u32>(0))?.into();
            connection.query_row(&format!("PRAGMA max_page_count = {}", bytes / page), [], |_| Ok(()))?;
        }
        Ok(connection)
    }

    /// A connection that reads.
    pub(super) fn reader(&self) -> Result<Connection, StoreError> {
        let connection = self.connect()?;
        connection.pragma_update(None, "query_only", true)?;
        Ok(connection)
    }

    fn connect(&self) -> Result<Connection, StoreError> {
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let connection = Connection::open_with_flags(self.dir.join(FILE), flags);
        let connection = connection.map_err(|error| self.located(error.into()))?;
        prepare(&connection)?;
        Ok(connection)
    }

    /// The error with the name of the file, for whoever starts the program.
    fn located(&self, error: StoreError) -> StoreError {
        let file = self.dir.join(FILE);
        match error {
            StoreError::Corrupt(words) => StoreError::Unusable(format!(
                "{} cannot be read ({words}); restore it from a backup, or name another directory",
                file.display()
            )),
            StoreError::Unusable(words) => StoreError::Unusable(format!("{}: {words}", file.display())),
            StoreError::Unavailable(words) => StoreError::Unavailable(format!("{}: {words}", file.display())),
            other => other,
        }
    }

    /// Keeps the log from growing for ever: while there is always some reader at work, it is not emptied by itself.
    /// `bound` is how long it may be.
    pub(super) fn bound_log(&self, connection: &Connection, bound: &mut u64) -> Result<(), StoreError> {
        let length = std::fs::metadata(self.dir.join(LOG)).map_or(0, |log| log.len());
        if length <= *bound {
            return Ok(());
        }
        connection.busy_timeout(PATIENCE)?;
        let emptied = connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |row| Ok(!row.get::<_, bool>(0)?));
        connection.busy_timeout(BUSY)?;
        // Whoever reads for long, as a backup does, is not waited for again and again.
        *bound = if emptied? { LONGEST_LOG } else { length + LONGEST_LOG };
        Ok(())
    }

    /// Notes how a transaction went.
    pub(super) fn note_writes(&self, are_done: bool) {
        if !are_done {
            self.failures.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// How many transactions have failed, if any has since there was last found to be room: one that is done later may
    /// only have been smaller.
    pub(super) fn failures(&self) -> Option<u64> {
        let failures = self.failures.load(Ordering::Relaxed);
        (failures > self.overcome.load(Ordering::Relaxed)).then_some(failures)
    }

    /// Notes that there was room after so many had failed.
    pub(super) fn note_room(&self, failures: u64) {
        self.overcome.fetch_max(failures, Ordering::Relaxed);
    }

    /// Remembers which files are open, once they are.
    pub(super) fn note_opened(&self) {
        let there = |name| Some((name, identity(&self.dir.join(name)).ok()?));
        self.opened.get_or_init(|| [FILE, LOG].into_iter().filter_map(there).collect());
    }

    /// Whether the files that are open are those in the directory. What is written to files that nobody finds any more is
    /// gone with the process, so it must not be told as done.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`] when they are not. They may come back.
    pub(super) fn is_there(&self) -> Result<(), StoreError> {
        for (name, opened) in self.opened.get().into_iter().flatten() {
            let path = self.dir.join(name);
            let what = match identity(&path) {
                Ok(found) if found == *opened => continue,
                Ok(_) => "is another file than the one that is in use".to_owned(),
                Err(error) if error.kind() == ErrorKind::NotFound => "is gone while it is in use".to_owned(),
                Err(error) => return Err(StoreError::Unavailable(format!("{}: {error}", path.display()))),
            };
            return Err(StoreError::Unavailable(format!(
                "{} {what}: it was moved, removed or replaced, or its disk was. Nothing is written until it is back; to go on with \
                 what is there now, start again",
                path.display()
            )));
        }
        Ok(())
    }

    /// What is wrong with how the directory is set up.
    pub(super) fn warnings(&self) -> Vec<String> {
        let mut warnings = Vec::new();
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt as _;
            let (dir, file) = (&self.dir, self.dir.join(FILE));
            let is_open =
                |path: &Path, bits| std::fs::metadata(path).is_ok_and(|found| found.permissions().mode() & bits != 0);
            if is_open(dir, 0o011) && is_open(&file, 0o044) {
                let dir = dir.display();
                warnings.push(format!("others on this machine can read the runs in {dir}: `chmod go= {dir} {dir}/*`"));
            }
        }
        warnings
    }
}

/// Locks a file, unless somebody else keeps it locked for longer than it takes to end, or to start another program.
#[expect(clippy::disallowed_methods, reason = "whoever lets go of a lock tells nobody: it has to be tried again")]
fn try_lock(lock: &File) -> Result<(), TryLockError> {
    let begun = Instant::now();
    loop {
        match lock.try_lock() {
            Err(TryLockError::WouldBlock) if begun.elapsed() < LETTING_GO => {
                std::thread::sleep(Duration::from_millis(10));
            }
            end => return end,
        }
    }
}

/// Locks a directory, for as long as the file is open.
fn lock(dir: &Path) -> Result<File, StoreError> {
    let path = dir.join(LOCK);
    let opened = private(OpenOptions::new().read(true).write(true).create(true).truncate(false)).open(&path);
    let mut lock = opened.map_err(|error| failed("cannot open", &path, &error))?;
    match try_lock(&lock) {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => {
            let mut told = String::new();
            let process = match lock.read_to_string(&mut told) {
                Ok(_) if !told.trim().is_empty() => format!(" (process {})", told.trim()),
                _ => String::new(),
            };
            return Err(StoreError::Unusable(format!(
                "the directory {} is in use by another phasework{process}: one at a time can use it; stop that one, or name \
                 another directory",
                dir.display()
            )));
        }
        Err(TryLockError::Error(error)) => return Err(failed("cannot lock", &path, &error)),
    }
    // Who it is, for the next one's message. Nothing depends on it.
    let told = lock.set_len(0).and_then(|()| lock.rewind()).and_then(|()| writeln!(lock, "{}", std::process::id()));
    if let Err(error) = told {
        tracing::debug!(%error, "the lock does not say whose it is");
    }
    Ok(lock)
}

/// Sets a connection up, whatever it is used for.
pub(super) fn prepare(connection: &Connection) -> Result<(), StoreError> {
    connection.busy_timeout(BUSY)?;
    connection.set_prepared_statement_cache_capacity(STATEMENTS);
    // On macOS, where a plain fsync does not reach the disk. Nothing elsewhere.
    connection.pragma_update(None, "fullfsync", true)?;
    connection.pragma_update(None, "checkpoint_fullfsync", true)?;
    connection.pragma_update(None, "trusted_schema", false)?;
    connection.pragma_update(None, "temp_store", "MEMORY")?;
    Ok(())
}

/// What a file is, as far as we may use it.
pub(super) fn kind(connection: &Connection) -> Result<Kind, StoreError> {
    let pragma = |name: &str| connection.query_row(&format!("PRAGMA {name}"), [], |row| row.get::<_, i32>(0));
    let (application, format) = (pragma("application_id")?, pragma("user_version")?);
    let table = connection.query_row("SELECT 1 FROM sqlite_schema LIMIT 1", [], |_| Ok(())).optional()?;
    match (application, format) {
        (0, 0) if table.is_none() => Ok(Kind::Empty),
        (APPLICATION, 1..=FORMAT) => Ok(Kind::Ours),
        (APPLICATION, format) => Err(StoreError::Unusable(format!(
            "the store is of format {format}, this program reads up to {FORMAT}: update the program, or name another \
             directory"
        ))),
        _ => Err(StoreError::Unusable("this is no store of phasework: name another directory".to_owned())),
    }
}

/// Whether there is room: writes something large.
pub(super) fn take_room(connection: &Connection) -> Result<(), StoreError> {
    take(connection, ROOM)
}

/// Whether anything can be written: writes something that does not fit into what the table has already.
pub(super) fn take_pages(connection: &Connection) -> Result<(), StoreError> {
    take(connection, PAGES)
}

fn take(connection: &Connection, bytes: u32) -> Result<(), StoreError> {
    connection.execute("INSERT OR REPLACE INTO store (name, value) VALUES ('room', zeroblob(?1))", [bytes])?;
    Ok(())
}

/// Gives the room back.
pub(super) fn give_room(connection: &Connection) -> Result<(), StoreError> {
    connection.execute("DELETE FROM store WHERE name = 'room'", [])?;
    Ok(())
}

/// Makes the tables of a new store, all or nothing.
pub(super) fn make(connection: &Connection, ids: &dyn IdSource) -> Result<(), StoreError> {
    connection.execute_batch("BEGIN IMMEDIATE")?;
    connection.execute_batch(include_str!("schema.sql"))?;
    find::count_anew(connection)?;
    timeline::begin_lineage(connection, &ids.uuid().simple().to_string())?;
    connection.pragma_update(None, "application_id", APPLICATION)?;
    connection.pragma_update(None, "user_version", FORMAT)?;
    connection.execute_batch("COMMIT")?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use phasework_workflows::id::SystemIds;

    use super::*;

    #[test]
    fn a_commit_waits_for_the_disk() {
        let dir = tempfile::tempdir().unwrap();
        let home = Home::take(dir.path()).unwrap();
        let writer = home.writer(&SystemIds, None).unwrap();
        let asked =
            |pragma: &str| writer.query_row(&format!("PRAGMA {pragma}"), [], |row| row.get::<_, i64>(0)).unwrap();
        assert_eq!((asked("synchronous"), asked("wal_autocheckpoint")), (2, 1000));
        let mode: String = writer.query_row("PRAGMA journal_mode", [], |row| row.get(0)).unwrap();
        assert_eq!(mode, "wal");
        assert!(home.reader().unwrap().execute("DELETE FROM runs", []).is_err(), "readers cannot write");
    }

    #[test]
    fn the_log_is_emptied_and_who_reads_for_long_is_not_waited_for_again_and_again() {
        let dir = tempfile::tempdir().unwrap();
        let home = Home::take(dir.path()).unwrap();
        let writer = home.writer(&SystemIds, None).unwrap();
        let length = || std::fs::metadata(dir.path().join(LOG)).unwrap().len();
        take_pages(&writer).unwrap();
        let reader = home.reader().unwrap();
        reader.execute_batch("BEGIN; SELECT 1 FROM runs").unwrap();
        let mut bound = 1000;
        home.bound_log(&writer, &mut bound).unwrap();
        assert!(length() > 1000 && bound == length() + LONGEST_LOG, "{bound}");
        reader.execute_batch("COMMIT").unwrap();
        home.bound_log(&writer, &mut bound).unwrap();
        assert!(length() > 1000, "below its bound it is left alone");
        bound = 1000;
        home.bound_log(&writer, &mut bound).unwrap();
        assert_eq!((length(), bound), (0, LONGEST_LOG));
    }
}

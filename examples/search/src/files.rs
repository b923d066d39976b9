//! Writes a file so that whoever looks sees all of it or nothing, however often and by whomever it is written.

use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::{fs, io, process};

/// Writes `text` to `path` and makes the folders on the way. Gives the path back.
///
/// # Errors
/// When the file system refuses.
pub async fn write(path: PathBuf, text: String) -> io::Result<PathBuf> {
    static WRITTEN: AtomicU64 = AtomicU64::new(0);
    let blocking = move || {
        if let Some(folder) = path.parent() {
            fs::create_dir_all(folder)?;
        }
        let number = WRITTEN.fetch_add(1, Ordering::Relaxed);
        let unfinished = path.with_extension(format!("{}-{number}.part", process::id()));
        fs::write(&unfinished, text)?;
        fs::rename(&unfinished, &path)?;
        Ok(path)
    };
    tokio::task::spawn_blocking(blocking).await?
}

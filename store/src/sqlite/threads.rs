//! The threads that a store in a file works with: one writes, a few read. The writer takes whatever calls have gathered
//! while it was at work and does them in one transaction, so that many callers share one wait for the disk.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::thread::{Builder, JoinHandle};

use rusqlite::Connection;

use super::call::{self, Call};
use super::file::{Home, LONGEST_LOG};
use crate::StoreError;

/// How many calls one transaction takes at most, so that the first of them does not wait for ever.
const GROUP: usize = 256;

/// After how many transactions the length of the log is looked at.
const LOOK_AT_LOG: u32 = 64;

/// How many calls may wait for a thread. More come only while the disk does not answer: whoever gives up waiting comes
/// again, and what it left is still to be done.
const MOST_WAITING: usize = 4096;

/// A call on its way.
type Boxed = Box<dyn Call>;

/// The way to a thread, or to several.
#[derive(Debug)]
struct Way {
    /// None once it is closed.
    calls: RwLock<Option<Sender<Boxed>>>,
    waiting: Arc<AtomicUsize>,
}

/// Where calls come out.
struct Given {
    calls: Receiver<Boxed>,
    waiting: Arc<AtomicUsize>,
}

fn way() -> (Way, Given) {
    let (sender, receiver) = channel();
    let waiting = Arc::<AtomicUsize>::default();
    (Way { calls: RwLock::new(Some(sender)), waiting: Arc::clone(&waiting) }, Given { calls: receiver, waiting })
}

impl Way {
    /// Passes a call on, or refuses it.
    fn pass(&self, call: Boxed) {
        if self.waiting.fetch_add(1, Ordering::Relaxed) >= MOST_WAITING {
            self.waiting.fetch_sub(1, Ordering::Relaxed);
            let words = format!("the disk does not answer, and {MOST_WAITING} calls wait for it");
            call.tell(Err(StoreError::Unavailable(words)));
            return;
        }
        match &*self.calls.read().unwrap_or_else(PoisonError::into_inner) {
            // A thread that is gone leaves the call to be dropped, and that is noticed by who waits for it.
            Some(calls) => drop(calls.send(call)),
            None => call.tell(Err(StoreError::Unavailable("the store is closed".to_owned()))),
        }
    }

    /// Lets nothing more through. Whoever listens at the other end ends when what is on its way is done.
    fn close(&self) {
        *self.calls.write().unwrap_or_else(PoisonError::into_inner) = None;
    }
}

impl Given {
    /// The next call; none when there will be no more.
    fn next(&self) -> Option<Boxed> {
        let call = self.calls.recv().ok()?;
        self.waiting.fetch_sub(1, Ordering::Relaxed);
        Some(call)
    }

    /// The next call and those that have gathered behind it, `most` in all.
    fn some(&self, most: usize) -> Option<Vec<Boxed>> {
        let mut calls = vec![self.next()?];
        calls.extend(self.calls.try_iter().take(most - 1));
        self.waiting.fetch_sub(calls.len() - 1, Ordering::Relaxed);
        Some(calls)
    }
}

/// The threads. When this is closed or dropped they finish what they were given, and end.
#[derive(Debug)]
pub(super) struct Threads {
    writer: Way,
    readers: Way,
    handles: Mutex<Vec<JoinHandle<()>>>,
}

impl Threads {
    pub(super) fn start(home: &Arc<Home>, writer: Connection, readers: Vec<Connection>) -> Result<Self, StoreError> {
        let spawn = |name: &str, work: Box<dyn FnOnce() + Send>| {
            let thread = Builder::new().name(name.to_owned()).spawn(work);
            thread.map_err(|error| StoreError::Unavailable(format!("no thread for the store: {error}")))
        };
        let (to_writer, given) = way();
        let at = Arc::clone(home);
        let mut handles = vec![spawn("store-writer", Box::new(move || write(&at, writer, &given)))?];
        let (to_readers, given) = way();
        let given = Arc::new(Mutex::new(given));
        for connection in readers {
            let (home, given) = (Arc::clone(home), Arc::clone(&given));
            let work = move || {
                read(&connection, &given);
                close(connection);
                drop(home); // the directory is ours until the last connection is closed
            };
            handles.push(spawn("store-reader", Box::new(work))?);
        }
        Ok(Self { writer: to_writer, readers: to_readers, handles: Mutex::new(handles) })
    }

    pub(super) fn write(&self, call: Boxed) {
        self.writer.pass(call);
    }

    pub(super) fn read(&self, call: Boxed) {
        self.readers.pass(call);
    }

    /// Takes no more calls, and waits until those that were made are done and every connection is closed.
    pub(super) fn close(&self) {
        self.writer.close();
        self.readers.close();
        // Held meanwhile: who closes it at the same time waits, too.
        for handle in self.handles.lock().unwrap_or_else(PoisonError::into_inner).drain(..) {
            if handle.join().is_err() {
                tracing::error!("a thread of the store had panicked, which is a defect");
            }
        }
    }
}

impl Drop for Threads {
    fn drop(&mut self) {
        self.close();
    }
}

fn write(home: &Home, connection: Connection, given: &Given) {
    let (mut transactions, mut bound) = (0_u32, LONGEST_LOG);
    while let Some(calls) = given.some(GROUP) {
        let are_done = match home.is_there() {
            Ok(()) => call::write(&connection, calls),
            Err(error) => call::tell_all(calls, &Err(error)),
        };
        home.note_writes(are_done);
        transactions = transactions.wrapping_add(1);
        if transactions.is_multiple_of(LOOK_AT_LOG)
            && let Err(error) = home.bound_log(&connection, &mut bound)
        {
            tracing::warn!(%error, "the store's log cannot be emptied now, and grows");
        }
    }
    close(connection);
}

fn read(connection: &Connection, given: &Mutex<Given>) {
    loop {
        let next = given.lock().unwrap_or_else(PoisonError::into_inner).next();
        let Some(call) = next else { return };
        call::read(connection, call);
    }
}

fn close(connection: Connection) {
    connection.flush_prepared_statement_cache();
    if let Err((_, error)) = connection.close() {
        tracing::warn!(%error, "a connection of the store was not closed well; nothing is lost by that");
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::*;

    /// Notes what it is told.
    struct Noting(Arc<Mutex<Vec<bool>>>);

    impl Call for Noting {
        fn run(&mut self, _: &Connection) -> Result<(), StoreError> {
            Ok(())
        }

        fn is_wanted(&self) -> bool {
            true
        }

        fn tell(self: Box<Self>, end: Result<(), StoreError>) {
            self.0.lock().unwrap().push(matches!(end, Err(StoreError::Unavailable(_))));
        }
    }

    #[test]
    fn only_so_many_calls_wait_for_a_disk_that_does_not_answer() {
        let (way, given) = way();
        let told = Arc::<Mutex<Vec<bool>>>::default();
        let pass = |count| (0..count).for_each(|_| way.pass(Box::new(Noting(Arc::clone(&told)))));
        pass(MOST_WAITING);
        assert!(told.lock().unwrap().is_empty());
        pass(2);
        assert_eq!(*told.lock().unwrap(), [true, true]);
        assert_eq!(given.some(GROUP).unwrap().len(), GROUP);
        pass(GROUP);
        assert_eq!(told.lock().unwrap().len(), 2);
        pass(1);
        assert_eq!(told.lock().unwrap().len(), 3);
    }
}

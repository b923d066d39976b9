//! A call: something to be done on a connection, and whoever waits for what came of it. Nobody is told before what was
//! written is durable.

use std::panic::{AssertUnwindSafe, catch_unwind};

use rusqlite::Connection;
use tokio::sync::oneshot;

use crate::StoreError;

/// A call, as the threads that carry calls out know it.
pub(super) trait Call: Send {
    /// Does it, perhaps again: what an earlier time wrote was rolled back.
    ///
    /// # Errors
    /// When what was asked for could not be done whole: everything it wrote must be rolled back.
    fn run(&mut self, connection: &Connection) -> Result<(), StoreError>;

    /// Whether somebody still waits for what comes of it.
    fn is_wanted(&self) -> bool;

    /// Tells what came of it. `Ok` only when what it wrote is durable.
    fn tell(self: Box<Self>, end: Result<(), StoreError>);
}

struct Asked<W, T> {
    work: W,
    found: Option<T>,
    reply: oneshot::Sender<Result<T, StoreError>>,
}

/// A call that does `work`, and where its answer comes.
pub(super) fn call<T, W>(work: W) -> (Box<dyn Call>, oneshot::Receiver<Result<T, StoreError>>)
where
    T: Send + 'static,
    W: FnMut(&Connection) -> Result<T, StoreError> + Send + 'static,
{
    let (reply, answer) = oneshot::channel();
    (Box::new(Asked { work, found: None, reply }), answer)
}

impl<T: Send, W: FnMut(&Connection) -> Result<T, StoreError> + Send> Call for Asked<W, T> {
    fn run(&mut self, connection: &Connection) -> Result<(), StoreError> {
        self.found = None;
        self.found = Some((self.work)(connection)?);
        Ok(())
    }

    fn is_wanted(&self) -> bool {
        !self.reply.is_closed()
    }

    fn tell(self: Box<Self>, end: Result<(), StoreError>) {
        let Self { found, reply, .. } = *self;
        let answer = end.and_then(|()| found.ok_or_else(|| StoreError::Unavailable("nothing was done".into())));
        // Who gave up waiting is not told: they know that it may or may not have been done.
        drop(reply.send(answer));
    }
}

/// Why a transaction came to nothing.
enum Failed {
    /// It could not be begun, and no call was made.
    Unbegun(StoreError),
    /// A call failed, or the end of it all.
    Undone(StoreError),
}

/// Carries calls out in one transaction; each is told when that is durable. When one of several fails, nothing of any
/// is left, and each is carried out anew by itself, so that it meets no trouble but its own. Whether the disk let all of
/// them be done: a call may fail by what is wrong with itself.
pub(super) fn write(connection: &Connection, mut calls: Vec<Box<dyn Call>>) -> bool {
    match transact(connection, &mut calls) {
        Ok(()) => tell_all(calls, &Ok(())),
        // All of them, whoever of them fails.
        Err(Failed::Undone(_)) if calls.len() > 1 => write_each(connection, calls),
        // What cannot be begun for all cannot for one: each would only wait as long again.
        Err(Failed::Unbegun(error) | Failed::Undone(error)) => tell_all(calls, &Err(error)),
    }
}

/// Carries each call out in a transaction of its own, until one cannot be begun.
fn write_each(connection: &Connection, calls: Vec<Box<dyn Call>>) -> bool {
    let (mut is_well, mut calls) = (true, calls.into_iter());
    while let Some(call) = calls.next() {
        let mut call = vec![call];
        match transact(connection, &mut call) {
            Ok(()) => is_well &= tell_all(call, &Ok(())),
            Err(Failed::Undone(error)) => is_well &= tell_all(call, &Err(error)),
            Err(Failed::Unbegun(error)) => return tell_all(call.into_iter().chain(calls), &Err(error)),
        }
    }
    is_well
}

/// Tells calls how the transaction ended that they were in. Whether the disk did its part.
pub(super) fn tell_all(calls: impl IntoIterator<Item = Box<dyn Call>>, end: &Result<(), StoreError>) -> bool {
    calls.into_iter().for_each(|call| call.tell(end.clone()));
    !matches!(end, Err(StoreError::Full(_) | StoreError::Unavailable(_)))
}

/// Carries out a call that only reads, on one state of the store, unless nobody waits for it any more.
pub(super) fn read(connection: &Connection, mut call: Box<dyn Call>) {
    if !call.is_wanted() {
        return;
    }
    let end = begin(connection, "BEGIN").and_then(|()| run(connection, &mut *call));
    // There is nothing to commit, and where a damaged page was met, and passed over, that would fail.
    give_up(connection);
    call.tell(end);
}

fn transact(connection: &Connection, calls: &mut [Box<dyn Call>]) -> Result<(), Failed> {
    begin(connection, "BEGIN IMMEDIATE").map_err(Failed::Unbegun)?;
    let end = calls.iter_mut().try_for_each(|call| run(connection, &mut **call));
    let end = end.and_then(|()| order(connection, "COMMIT"));
    if end.is_err() {
        give_up(connection);
    }
    end.map_err(Failed::Undone)
}

/// Begins a transaction; what could not be rolled back before comes first.
fn begin(connection: &Connection, begin: &str) -> Result<(), StoreError> {
    roll_back(connection)?;
    order(connection, begin)
}

/// Leaves nothing of a transaction.
fn give_up(connection: &Connection) {
    if let Err(error) = roll_back(connection) {
        tracing::warn!(%error, "a transaction could not be rolled back; it is tried again");
    }
}

/// Does what a call asks for. Whatever it meets, the thread goes on: all others depend on it.
fn run(connection: &Connection, call: &mut dyn Call) -> Result<(), StoreError> {
    let done = catch_unwind(AssertUnwindSafe(|| call.run(connection)));
    done.unwrap_or_else(|_| Err(StoreError::Corrupt("the store panicked over it, which is a defect".to_owned())))
}

/// Ends the transaction, if there is one: some errors end it by themselves.
fn roll_back(connection: &Connection) -> Result<(), StoreError> {
    if connection.is_autocommit() { Ok(()) } else { order(connection, "ROLLBACK") }
}

fn order(connection: &Connection, order: &str) -> Result<(), StoreError> {
    connection.prepare_cached(order)?.execute([])?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};
    use std::sync::{Arc, Mutex};

    use super::*;

    fn store() -> Connection {
        let connection = Connection::open_in_memory().unwrap();
        connection.execute_batch("CREATE TABLE told (n INTEGER PRIMARY KEY)").unwrap();
        connection
    }

    fn kept(connection: &Connection) -> Vec<i64> {
        let mut find = connection.prepare("SELECT n FROM told ORDER BY n").unwrap();
        find.query_map([], |row| row.get(0)).unwrap().map(Result::unwrap).collect()
    }

    /// Writes its number, then perhaps fails.
    fn writing(n: i64, fails: Option<StoreError>) -> (Box<dyn Call>, oneshot::Receiver<Result<i64, StoreError>>) {
        call(move |connection| {
            connection.execute("INSERT INTO told (n) VALUES (?1)", [n])?;
            fails.clone().map_or(Ok(n), Err)
        })
    }

    #[test]
    fn who_fails_fails_alone_and_leaves_nothing() {
        let connection = store();
        let damaged = Some(StoreError::Corrupt("so the test has it".into()));
        let (calls, mut answers): (Vec<_>, Vec<_>) =
            [writing(1, None), writing(2, damaged), writing(3, None), writing(1, None)].into_iter().unzip();
        assert!(write(&connection, calls), "nothing is wrong with the disk");
        let told: Vec<_> = answers.iter_mut().map(|answer| answer.try_recv().unwrap().ok()).collect();
        assert_eq!(told, [Some(1), None, Some(3), None], "the last one met a number that was there");
        assert_eq!(kept(&connection), [1, 3]);
        assert!(connection.is_autocommit());
    }

    #[test]
    fn nobody_is_told_before_all_is_written() {
        let connection = store();
        let (first, mut told) = writing(1, None);
        let (second, _) = call(move |_| {
            assert!(told.try_recv().is_err(), "told before the transaction was over");
            Ok(())
        });
        assert!(write(&connection, vec![first, second]));
        assert_eq!(kept(&connection), [1]);
    }

    #[test]
    fn a_panic_is_the_trouble_of_who_caused_it() {
        let connection = store();
        let (first, mut wrong) = call(|connection| -> Result<(), StoreError> {
            connection.execute("INSERT INTO told (n) VALUES (9)", [])?;
            panic!("so the test has it")
        });
        let (second, mut told) = writing(1, None);
        assert!(write(&connection, vec![first, second]));
        assert!(matches!(wrong.try_recv().unwrap(), Err(StoreError::Corrupt(_))));
        assert_eq!((told.try_recv().unwrap().unwrap(), kept(&connection)), (1, vec![1]));
    }

    #[test]
    fn a_transaction_that_was_left_open_is_rolled_back() {
        let connection = store();
        connection.execute_batch("BEGIN; INSERT INTO told (n) VALUES (9)").unwrap();
        let (next, mut told) = writing(1, None);
        assert!(write(&connection, vec![next]));
        assert_eq!((told.try_recv().unwrap().unwrap(), kept(&connection)), (1, vec![1]));
    }

    #[test]
    fn who_gave_up_waiting_harms_nobody() {
        let connection = store();
        let ((first, gone), (second, mut told)) = (writing(1, None), writing(2, None));
        drop(gone);
        assert!(write(&connection, vec![first, second]));
        assert_eq!((told.try_recv().unwrap().unwrap(), kept(&connection)), (2, vec![1, 2]));
    }

    #[test]
    fn a_commit_that_fails_is_not_told_as_done() {
        let connection = store();
        connection
            .execute_batch(
                "PRAGMA foreign_keys = ON; CREATE TABLE of (n REFERENCES told (n) DEFERRABLE INITIALLY DEFERRED)",
            )
            .unwrap();
        // What is wrong with this one shows only when the transaction is to be ended.
        let (first, mut wrong) = call(|connection| Ok(connection.execute("INSERT INTO of (n) VALUES (7)", [])?));
        let (second, mut told) = writing(2, None);
        assert!(write(&connection, vec![first, second]));
        assert!(wrong.try_recv().unwrap().is_err());
        assert_eq!((told.try_recv().unwrap().unwrap(), kept(&connection)), (2, vec![2]));
    }
    /// A store in a file, somebody else who uses that, and how often the first was kept from writing by the second, which
    /// it does not wait for.
    fn shared(dir: &tempfile::TempDir) -> (Connection, Connection, Arc<AtomicU32>) {
        let open = || Connection::open(dir.path().join("file")).unwrap();
        let (mut ours, theirs, kept) = (open(), open(), Arc::new(AtomicU32::new(0)));
        ours.execute_batch("PRAGMA journal_mode = WAL; CREATE TABLE told (n INTEGER PRIMARY KEY)").unwrap();
        let count = Arc::clone(&kept);
        let refuse = move |_| {
            count.fetch_add(1, Ordering::Relaxed);
            false
        };
        ours.busy_handler(Some(refuse)).unwrap();
        (ours, theirs, kept)
    }

    #[test]
    fn a_transaction_that_cannot_begin_is_told_to_all_at_once() {
        let dir = tempfile::tempdir().unwrap();
        let (connection, other, kept) = shared(&dir);
        other.execute_batch("BEGIN IMMEDIATE").unwrap();
        let (calls, mut answers): (Vec<_>, Vec<_>) = (1..=20).map(|n| writing(n, None)).unzip();
        assert!(!write(&connection, calls), "the disk is not to be had");
        for answer in &mut answers {
            assert!(matches!(answer.try_recv().unwrap(), Err(StoreError::Unavailable(_))));
        }
        assert_eq!(kept.load(Ordering::Relaxed), 1, "it was tried again for others");
    }

    #[test]
    fn nor_is_it_tried_for_others_when_each_is_carried_out_by_itself() {
        let dir = tempfile::tempdir().unwrap();
        let (connection, other, kept) = shared(&dir);
        let (first, mut done) = writing(1, None);
        let (mut times, other) = (0, Arc::new(Mutex::new(other)));
        let in_between = Arc::clone(&other);
        // The second time it is made, somebody else gets in between.
        let (second, mut wrong) = call(move |connection| -> Result<(), StoreError> {
            times += 1;
            if times == 2 {
                connection.execute_batch("ROLLBACK")?;
                in_between.lock().unwrap().execute_batch("BEGIN IMMEDIATE")?;
            }
            Err(StoreError::Corrupt("so the test has it".into()))
        });
        let (rest, mut answers): (Vec<_>, Vec<_>) = (3..=20).map(|n| writing(n, None)).unzip();
        let calls = [first, second].into_iter().chain(rest).collect();
        assert!(!write(&connection, calls));
        assert_eq!(done.try_recv().unwrap().unwrap(), 1);
        assert!(matches!(wrong.try_recv().unwrap(), Err(StoreError::Corrupt(_))));
        for answer in &mut answers {
            assert!(matches!(answer.try_recv().unwrap(), Err(StoreError::Unavailable(_))));
        }
        assert_eq!(kept.load(Ordering::Relaxed), 1);
    }

    #[test]
    fn a_read_that_nobody_waits_for_is_not_made() {
        let connection = store();
        let made = Arc::new(AtomicU32::new(0));
        let reading = || {
            let made = Arc::clone(&made);
            call(move |_| Ok(made.fetch_add(1, Ordering::Relaxed)))
        };
        let ((first, gone), (second, mut told)) = (reading(), reading());
        drop(gone);
        read(&connection, first);
        read(&connection, second);
        assert_eq!(told.try_recv().unwrap().unwrap(), 0, "it was the first");
    }
}

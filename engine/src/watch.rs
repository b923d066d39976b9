//! A value that others wait to change. As `tokio::sync::watch`, but whoever waits is woken in the order in which they
//! began to: there, chance decides, and a simulated engine would not do the same twice.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

#[derive(Debug)]
struct Shared<T> {
    state: Mutex<State<T>>,
    changed: Notify,
}

#[derive(Debug)]
struct State<T> {
    value: T,
    version: u64,
}

impl<T> Shared<T> {
    fn lock(&self) -> MutexGuard<'_, State<T>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Changes the value.
#[derive(Debug)]
pub(crate) struct Sender<T>(Arc<Shared<T>>);

impl<T: Clone> Sender<T> {
    pub(crate) fn new(value: T) -> Self {
        Self(Arc::new(Shared { state: Mutex::new(State { value, version: 0 }), changed: Notify::new() }))
    }

    /// Whoever has it has seen the value as it is now.
    pub(crate) fn subscribe(&self) -> Receiver<T> {
        Receiver { shared: Arc::clone(&self.0), seen: self.0.lock().version }
    }

    /// Changes the value if it is to be another one, and wakes whoever waits for that.
    pub(crate) fn change(&self, change: impl FnOnce(&mut T) -> bool) {
        let mut state = self.0.lock();
        if change(&mut state.value) {
            state.version += 1;
            drop(state);
            self.0.changed.notify_waiters();
        }
    }
}

/// Sees the value.
#[derive(Debug)]
pub(crate) struct Receiver<T> {
    shared: Arc<Shared<T>>,
    /// The version that was seen last.
    seen: u64,
}

impl<T> Clone for Receiver<T> {
    fn clone(&self) -> Self {
        Self { shared: Arc::clone(&self.shared), seen: self.seen }
    }
}

impl<T: Clone> Receiver<T> {
    /// The value, which does not count as seen by that.
    pub(crate) fn get(&self) -> T {
        self.shared.lock().value.clone()
    }

    /// The value, which is seen by that.
    pub(crate) fn see(&mut self) -> T {
        let state = self.shared.lock();
        self.seen = state.version;
        state.value.clone()
    }

    /// Returns once the value is another one than was seen, and sees it. Never, when nobody changes it. Cancel safe.
    pub(crate) async fn changed(&mut self) {
        loop {
            let mut changed = std::pin::pin!(self.shared.changed.notified());
            changed.as_mut().enable();
            let version = self.shared.lock().version;
            if version != self.seen {
                self.seen = version;
                return;
            }
            changed.await;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::*;

    #[tokio::test]
    async fn those_who_wait_are_woken_in_turn() {
        let sender = Sender::new(0);
        let woken = Arc::new(Mutex::new(Vec::new()));
        let mut tasks = tokio::task::JoinSet::new();
        for number in 0..20 {
            let (mut receiver, woken) = (sender.subscribe(), Arc::clone(&woken));
            tasks.spawn(async move {
                receiver.changed().await;
                woken.lock().unwrap().push((number, receiver.get()));
            });
        }
        tokio::task::yield_now().await;
        sender.change(|_| false);
        sender.change(|value| std::mem::replace(value, 7) != 7);
        tasks.join_all().await;
        let expected: Vec<_> = (0..20).map(|number| (number, 7)).collect();
        assert_eq!(*woken.lock().unwrap(), expected);
    }

    #[tokio::test]
    async fn what_was_seen_is_no_change() {
        let sender = Sender::new('a');
        let mut receiver = sender.subscribe();
        let mut late = receiver.clone();
        sender.change(|value| std::mem::replace(value, 'b') != 'b');
        assert_eq!((receiver.get(), receiver.see()), ('b', 'b'));
        late.changed().await;
        for mut receiver in [receiver, late, sender.subscribe()] {
            let waiting = tokio::time::timeout(std::time::Duration::from_millis(1), receiver.changed());
            assert!(waiting.await.is_err(), "nothing has changed since");
        }
    }
}

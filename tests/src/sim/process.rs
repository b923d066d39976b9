//! A simulated program: it lives, stands still, or is dead. Whatever it does to the outside passes its gate first.

use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::{Notify, mpsc};

/// What a program is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Role {
    Coordinator,
    Worker,
}

/// A program that died by itself.
pub(super) type Death = Arc<Process>;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Life {
    Runs,
    Frozen,
    Dead,
}

/// A simulated program.
#[derive(Debug)]
pub(super) struct Process {
    pub(super) name: String,
    pub(super) role: Role,
    /// Its place among those of its role.
    pub(super) place: usize,
    life: Mutex<Life>,
    changed: Notify,
    deaths: mpsc::UnboundedSender<Death>,
}

impl Process {
    /// A program that runs. Whoever reads `deaths` is told when it dies by itself.
    pub(super) fn start(role: Role, place: usize, generation: u32, deaths: &mpsc::UnboundedSender<Death>) -> Arc<Self> {
        let what = match role {
            Role::Coordinator => "coordinator",
            Role::Worker => "worker",
        };
        let name = format!("{what}-{}.{generation}", place + 1);
        let (life, changed, deaths) = (Mutex::new(Life::Runs), Notify::new(), deaths.clone());
        Arc::new(Self { name, role, place, life, changed, deaths })
    }

    fn life(&self) -> Life {
        *self.life.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn live(&self, life: Life) {
        let mut current = self.life.lock().unwrap_or_else(PoisonError::into_inner);
        if *current != Life::Dead {
            *current = life;
        }
        drop(current);
        self.changed.notify_waiters();
    }

    pub(super) fn runs(&self) -> bool {
        self.life() == Life::Runs
    }

    pub(super) fn is_dead(&self) -> bool {
        self.life() == Life::Dead
    }

    pub(super) fn freeze(&self) {
        self.live(Life::Frozen);
    }

    pub(super) fn thaw(&self) {
        self.live(Life::Runs);
    }

    /// Ends it, from outside.
    pub(super) fn kill(&self) {
        self.live(Life::Dead);
    }

    /// Ends it, from inside: it does nothing any more, and whoever asked for deaths is told.
    pub(super) async fn die(self: &Arc<Self>) -> std::convert::Infallible {
        if !self.is_dead() {
            tracing::info!(process = self.name, "dies");
            self.kill();
            // Nobody is left to tell only when the simulation is over.
            let _over = self.deaths.send(Arc::clone(self));
        }
        std::future::pending().await
    }

    /// Waits until it is dead.
    pub(super) async fn dead(&self) {
        loop {
            let mut changed = std::pin::pin!(self.changed.notified());
            changed.as_mut().enable();
            if self.is_dead() {
                return;
            }
            changed.await;
        }
    }

    /// Passes while it runs; waits while it is frozen, and for ever once it is dead.
    pub(super) async fn gate(&self) {
        loop {
            let mut changed = std::pin::pin!(self.changed.notified());
            changed.as_mut().enable();
            if self.runs() {
                return;
            }
            changed.await;
        }
    }
}

//! The three steps in which a worker stops. Whoever waits for something waits for one of these too.

use tokio_util::sync::CancellationToken;

/// How far a worker has got with stopping. Each step includes those before it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Stop {
    /// Take nothing new; finish what runs, hand back what has not started.
    pub(crate) drain: CancellationToken,
    /// Hand back what still runs.
    pub(crate) abandon: CancellationToken,
    /// Drop everything; what was not acknowledged comes again.
    pub(crate) leave: CancellationToken,
}

impl Stop {
    pub(crate) fn drain(&self) {
        self.drain.cancel();
    }

    pub(crate) fn abandon(&self) {
        self.drain.cancel();
        self.abandon.cancel();
    }

    pub(crate) fn leave(&self) {
        self.abandon();
        self.leave.cancel();
    }
}

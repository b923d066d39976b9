//! Ctrl-C, SIGTERM and the terminal that goes away, as a value that can be waited for. Decides nothing about what then
//! happens.

use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::failure::Failure;

/// Hears SIGINT, SIGTERM and SIGHUP from when it is made.
#[derive(Debug)]
pub(crate) struct Interrupts {
    interrupt: Signal,
    terminate: Signal,
    /// Nothing where SIGHUP is to be ignored, as under `nohup`, and once it was heard.
    hang_up: Option<Signal>,
}

impl Interrupts {
    /// Begins to hear; from now on a signal no longer ends the program by itself.
    pub(crate) fn listen() -> Result<Self, Failure> {
        let open = |kind| signal(kind).map_err(|error| Failure::usage(format!("cannot listen to signals: {error}")));
        let hang_up = if is_hang_up_ignored() { None } else { Some(open(SignalKind::hangup())?) };
        Ok(Self { interrupt: open(SignalKind::interrupt())?, terminate: open(SignalKind::terminate())?, hang_up })
    }

    /// Waits for the next signal, and names it. Cancel safe. A terminal that goes away sends SIGHUP twice, by the shell and
    /// by the kernel: it is one signal.
    pub(crate) async fn next(&mut self) -> &'static str {
        let hang_up = async {
            match &mut self.hang_up {
                Some(hang_up) => hang_up.recv().await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            biased;
            Some(()) = self.interrupt.recv() => "SIGINT",
            Some(()) = self.terminate.recv() => "SIGTERM",
            Some(()) = hang_up => {
                // It goes on being caught, and ends nothing.
                self.hang_up = None;
                "SIGHUP"
            }
            else => std::future::pending().await,
        }
    }
}

/// Whether who started this program has SIGHUP ignored. Only Linux tells; elsewhere it is not taken to be.
fn is_hang_up_ignored() -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    ignores_hang_up(&status)
}

/// What `/proc/self/status` says of it: a bit for each signal, the lowest for number 1, which is SIGHUP.
fn ignores_hang_up(status: &str) -> bool {
    let ignored = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    let ignored = ignored.and_then(|bits| u64::from_str_radix(bits.trim(), 16).ok());
    ignored.is_some_and(|bits| bits & 1 == 1)
}

#[cfg(test)]
mod tests {
    use futures::FutureExt as _;
    use rustix::process::{Signal as Sent, getpid, kill_process};

    use super::*;

    #[tokio::test]
    async fn a_terminal_that_goes_away_is_heard_once() {
        // Signals that stand for the real ones, so that this can still be interrupted.
        let open = |kind| signal(kind).unwrap();
        let (interrupt, terminate) = (open(SignalKind::user_defined1()), open(SignalKind::user_defined2()));
        let hang_up = Some(open(SignalKind::window_change()));
        let mut interrupts = Interrupts { interrupt, terminate, hang_up };
        let mut beside = open(SignalKind::window_change());
        for expected in [Some("SIGHUP"), None, None] {
            kill_process(getpid(), Sent::WINCH).unwrap();
            beside.recv().await.unwrap();
            assert_eq!(interrupts.next().now_or_never(), expected);
        }
        kill_process(getpid(), Sent::USR2).unwrap();
        assert_eq!(interrupts.next().await, "SIGTERM");
    }

    #[test]
    fn a_hang_up_that_is_ignored_stays_so() {
        for (status, expected) in [
            ("Name:\tphasework\nSigIgn:\t0000000000000001\nSigCgt:\t0", true),
            ("SigIgn:\t0000000000001001\n", true),
            ("SigIgn:\t0000000000001000\n", false),
            ("", false),
        ] {
            assert_eq!(ignores_hang_up(status), expected, "{status}");
        }
    }
}

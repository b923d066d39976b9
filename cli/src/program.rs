//! A program of the user's that a command starts, such as a worker to be tried out: started with an environment, ended
//! with a signal, and heard out when it goes wrong. It is ended, with everything that it started, when this is dropped.

use std::collections::VecDeque;
use std::process::{ExitStatus, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process_group, test_kill_process_group};
use tokio::io::{AsyncBufReadExt as _, AsyncRead, AsyncReadExt as _, BufReader};
use tokio::process::{Child, Command};

use crate::failure::Failure;

/// How many of the last lines that it wrote are kept, and how much of each.
const LINES: usize = 20;
const LINE_BYTES: u64 = 10_000;

/// How long the processes that it has started may take to go when it is killed, and how often to look, as nobody tells.
const GOING: Duration = Duration::from_secs(10);
const LOOK: Duration = Duration::from_millis(5);

/// How to start a program.
#[derive(Clone, Debug)]
pub(crate) struct CommandLine(Vec<String>);

impl CommandLine {
    /// Splits a command line into its words, as a shell does; nothing else that a shell does is done.
    pub(crate) fn read(text: &str) -> Result<Self, Failure> {
        let words = shlex::split(text).filter(|words| !words.is_empty());
        let words = words.ok_or_else(|| {
            Failure::usage(format!("`{text}` is no command line"))
                .hint("a quote may be open; for a script, `sh -c '…'`")
        })?;
        Ok(Self(words))
    }

    /// Starts it.
    pub(crate) fn start(&self, environment: &[(String, String)]) -> Result<Program, Failure> {
        let mut command = Command::new(&self.0[0]);
        command.args(&self.0[1..]).envs(environment.iter().map(|(name, value)| (name, value)));
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).process_group(0);
        let started = command.spawn();
        let mut child =
            started.map_err(|error| Failure::usage(format!("`{}` cannot be started: {error}", self.0[0])))?;
        let lines = Lines::default();
        if let Some(stdout) = child.stdout.take() {
            lines.keep(stdout);
        }
        if let Some(stderr) = child.stderr.take() {
            lines.keep(stderr);
        }
        let group = child.id().and_then(|id| i32::try_from(id).ok()).and_then(Pid::from_raw);
        Ok(Program { child, group, lines })
    }
}

/// A program that was started.
#[derive(Debug)]
pub(crate) struct Program {
    child: Child,
    /// The group of processes that it leads.
    group: Option<Pid>,
    lines: Lines,
}

impl Program {
    /// Asks it to stop, as whoever deploys a new version does.
    pub(crate) fn terminate(&self) {
        self.signal(Signal::TERM);
    }

    /// Ends it as a crash does: nothing of it runs any more once this returns, nor of what it has started.
    pub(crate) async fn kill(&mut self) {
        self.signal(Signal::KILL);
        // It can only have ended before.
        self.child.wait().await.ok();
        let Some(group) = self.group else { return };
        let gone = async {
            while is_running(group) {
                // They are no children of ours, so that their end cannot be waited for.
                tokio::time::sleep(LOOK).await;
            }
        };
        // What does not even die of SIGKILL is not waited for.
        tokio::time::timeout(GOING, gone).await.ok();
    }

    /// How it ended; `None` when it still runs after `within`.
    pub(crate) async fn ended(&mut self, within: Duration) -> Option<ExitStatus> {
        let ended = tokio::time::timeout(within, self.child.wait()).await;
        ended.ok().and_then(Result::ok)
    }

    /// How it ended, if it has.
    pub(crate) fn has_ended(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().ok().flatten()
    }

    /// The last lines that it wrote.
    pub(crate) fn last_lines(&self) -> Vec<String> {
        self.lines.get()
    }

    fn signal(&self, signal: Signal) {
        if let Some(group) = self.group {
            // It may have ended by itself.
            kill_process_group(group, signal).ok();
        }
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        self.signal(Signal::KILL);
    }
}

/// Whether any process of a group still runs. One that has ended and that nobody has asked about is still listed, and
/// does nothing any more; only Linux says which.
fn is_running(group: Pid) -> bool {
    if test_kill_process_group(group).is_err() {
        return false;
    }
    let Ok(processes) = std::fs::read_dir("/proc") else { return true };
    let stats = processes.flatten().filter_map(|process| std::fs::read_to_string(process.path().join("stat")).ok());
    let mut of_group = stats.filter_map(|stat| state_in_group(&stat, group)).peekable();
    of_group.peek().is_none() || of_group.any(|state| !matches!(state, 'Z' | 'X'))
}

/// The state of a process that is in a group, of what `/proc/…/stat` says of it. The program's name comes before it in
/// parentheses, and may contain anything.
fn state_in_group(stat: &str, group: Pid) -> Option<char> {
    let mut fields = stat.rsplit_once(')')?.1.split_whitespace();
    let (state, _parent, of) = (fields.next()?, fields.next()?, fields.next()?);
    state.chars().next().filter(|_| of.parse() == Ok(group.as_raw_nonzero().get()))
}

/// The last lines of two streams.
#[derive(Clone, Debug, Default)]
struct Lines(Arc<Mutex<VecDeque<String>>>);

impl Lines {
    fn keep(&self, stream: impl AsyncRead + Send + Unpin + 'static) {
        let kept = Arc::clone(&self.0);
        tokio::spawn(async move {
            let (mut stream, mut line) = (BufReader::new(stream), Vec::new());
            // Read to the end, whatever it writes: whoever closes the pipe ends who writes to it.
            while let Ok(1..) = (&mut stream).take(LINE_BYTES).read_until(b'\n', &mut line).await {
                let text = String::from_utf8_lossy(&line).trim_end_matches(['\n', '\r']).to_owned();
                line.clear();
                let mut kept = kept.lock().unwrap_or_else(PoisonError::into_inner);
                kept.push_back(text);
                if kept.len() > LINES {
                    kept.pop_front();
                }
            }
        });
    }

    fn get(&self) -> Vec<String> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).iter().cloned().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn start(script: &str) -> Program {
        CommandLine(vec!["sh".into(), "-c".into(), script.into()]).start(&[]).unwrap()
    }

    /// Waits until the program has written a line like this one.
    async fn written(program: &Program, wanted: impl Fn(&str) -> bool) -> String {
        let found = async {
            loop {
                if let Some(line) = program.last_lines().into_iter().find(|line| wanted(line)) {
                    return line;
                }
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(GOING, found).await.expect("it is written")
    }

    #[tokio::test]
    async fn what_is_no_text_closes_no_pipe() {
        // More than a pipe holds, so that it ends well only if all of it is read.
        let mut program = start(r"printf 'caf\351\n'; seq 100000 && printf 'th\351\n' && exit 7");
        let ended = program.ended(GOING).await.expect("it ends");
        assert_eq!(ended.code(), Some(7));
        assert_eq!(written(&program, |line| line.starts_with("th")).await, "th\u{fffd}");
    }

    #[tokio::test]
    async fn a_line_without_an_end_is_cut() {
        let mut program = start("head -c 25000 /dev/zero | tr '\\0' x");
        program.ended(GOING).await.expect("it ends");
        written(&program, |line| line.len() == 5000).await;
        assert_eq!(program.last_lines().iter().map(String::len).collect::<Vec<_>>(), [10_000, 10_000, 5000]);
    }

    #[tokio::test]
    async fn a_kill_ends_what_the_program_has_started() {
        // Enough of them that the last is not gone as soon as the first is.
        let mut program = start("for n in $(seq 50); do sleep 600 & done; echo started; wait");
        written(&program, |line| line == "started").await;
        let group = program.group.unwrap();
        assert!(is_running(group));
        program.kill().await;
        assert!(!is_running(group));
    }

    #[test]
    fn the_state_of_a_process_is_found_after_its_name() {
        let group = Pid::from_raw(42).unwrap();
        assert_eq!(state_in_group("7 (a ) b) Z 1 42 42 0", group), Some('Z'));
        assert_eq!(state_in_group("7 (sleep) S 1 43 43 0", group), None);
        assert_eq!(state_in_group("", group), None);
    }
}

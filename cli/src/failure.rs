//! Why a command did not do what it was asked, in the form in which a person is told: a message, perhaps a hint, and
//! the exit code. Nothing is printed here but by [`Failure::tell`].

use std::fmt::Write as _;
use std::process::ExitCode;

use crate::output::{Paint, Stream};
use crate::snippet;
use crate::views::ProblemView;

/// The documented exit codes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Exit {
    /// Done.
    Good = 0,
    /// The run failed, was canceled or halted; or what was asked about is bad.
    Bad = 1,
    /// The command line or its input makes no sense.
    Usage = 2,
    /// The server cannot be reached, or cannot serve now.
    Unreachable = 3,
    /// There is no such thing.
    NotFound = 4,
    /// Ended by Ctrl-C.
    Interrupted = 130,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit as u8)
    }
}

/// What a command comes to.
pub(crate) type Outcome = Result<Exit, Failure>;

/// Why a command did not do what it was asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Failure {
    /// The exit code.
    pub(crate) exit: Exit,
    /// What is wrong; empty when nothing is left to be said.
    pub(crate) message: String,
    /// What to do about it.
    pub(crate) hint: Option<String>,
    /// Everything that is wrong with a definition.
    pub(crate) problems: Vec<ProblemView>,
    /// Source snippets, shown above the message in place of the problems.
    pub(crate) details: String,
}

impl Failure {
    /// A failure that ends with `exit`.
    pub(crate) fn new(exit: Exit, message: impl Into<String>) -> Self {
        Self { exit, message: message.into(), hint: None, problems: Vec::new(), details: String::new() }
    }

    /// The command line or its input makes no sense.
    pub(crate) fn usage(message: impl Into<String>) -> Self {
        Self::new(Exit::Usage, message)
    }

    /// Ends with `exit` and says nothing.
    pub(crate) fn silent(exit: Exit) -> Self {
        Self::new(exit, "")
    }

    /// With something to do about it.
    pub(crate) fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// Shows the problems of the definition `text`, which is called `name`, where they are.
    pub(crate) fn in_source(mut self, name: &str, text: &str) -> Self {
        self.details = snippet::render_all(name, text, &std::mem::take(&mut self.problems), Stream::Err);
        self
    }

    /// The text that a person reads.
    pub(crate) fn words(&self, paint: Paint) -> String {
        let mut words = self.details.clone();
        if !self.message.is_empty() {
            writeln!(words, "{} {}", paint.red("error:"), self.message).expect("writing to memory");
        }
        for problem in &self.problems {
            writeln!(words, "  {}", problem.line()).expect("writing to memory");
        }
        if let Some(hint) = &self.hint {
            writeln!(words, " {} {hint}", paint.cyan("hint:")).expect("writing to memory");
        }
        words
    }

    /// Tells it on stderr.
    pub(crate) fn tell(&self) -> Exit {
        // Where even stderr is gone, the exit code has to say it.
        Stream::Err.write(&self.words(Stream::Err.paint())).ok();
        self.exit
    }
}

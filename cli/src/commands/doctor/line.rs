//! One line of the judgement: how something is, and what to do about it.

use serde::Serialize;

use crate::failure::Exit;

/// How something is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Status {
    /// As it should be.
    Ok,
    /// It works, and deserves a look.
    Warning,
    /// It does not work, or work will be lost.
    Error,
}

/// One line.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(super) struct Line {
    pub(super) status: Status,
    /// What it belongs to: `broker`, `store`, `runs`…
    pub(super) area: &'static str,
    /// What was looked at.
    pub(super) what: &'static str,
    /// What was found.
    pub(super) found: String,
    /// What to do.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) hint: Option<String>,
    /// The exit code that it leads to.
    #[serde(skip)]
    pub(super) exit: Exit,
}

impl Line {
    pub(super) const fn new(status: Status, area: &'static str, what: &'static str, found: String) -> Self {
        let exit = match status {
            Status::Ok | Status::Warning => Exit::Good,
            Status::Error => Exit::Bad,
        };
        Self { status, area, what, found, hint: None, exit }
    }

    pub(super) const fn ok(area: &'static str, what: &'static str, found: String) -> Self {
        Self::new(Status::Ok, area, what, found)
    }

    pub(super) const fn warning(area: &'static str, what: &'static str, found: String) -> Self {
        Self::new(Status::Warning, area, what, found)
    }

    pub(super) const fn error(area: &'static str, what: &'static str, found: String) -> Self {
        Self::new(Status::Error, area, what, found)
    }

    /// With what to do about it.
    pub(super) fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// With an exit code of its own.
    pub(super) const fn exit(mut self, exit: Exit) -> Self {
        self.exit = exit;
        self
    }
}

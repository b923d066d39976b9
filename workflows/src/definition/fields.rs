//! Reads the members of an object by name and reports those that nobody asked for.

use super::node::{Located, Member};
use super::problem::Report;

/// The members of an object while they are read.
pub(super) struct Fields<'n> {
    what: &'static str,
    here: Located<'n>,
    members: &'n [Member],
    known: Vec<&'static str>,
}

impl<'n> Fields<'n> {
    /// The members of `here`, which is a `what`.
    pub(super) fn open(here: &Located<'n>, what: &'static str, report: &mut Report<'_>) -> Option<Self> {
        let members = here.members(what, report)?;
        Some(Self { what, here: here.clone(), members, known: Vec::new() })
    }

    /// The value of `key`, if it is there.
    pub(super) fn get(&mut self, key: &'static str) -> Option<Located<'n>> {
        self.known.push(key);
        let member = self.members.iter().find(|member| member.key == key)?;
        Some(self.here.member(member))
    }

    /// Reports the keys that were not read. Those in `later` are known, but not to this version.
    pub(super) fn finish(self, later: &[&str], report: &mut Report<'_>) {
        for member in self.members.iter().filter(|member| !self.known.contains(&member.key.as_str())) {
            let (key, place) = (member.key.as_str(), self.here.key_place(member));
            if later.contains(&key) {
                report.error(&place, format!("`{key}` is not supported yet in this version"));
                continue;
            }
            let hint = report.did_you_mean(key, self.known.iter().copied().filter(|known| !known.starts_with('$')));
            report.error_with_hint(&place, format!("a {} has no key `{key}`", self.what), hint);
        }
    }
}

//! The handlers that a test gives: those of a worker, and made-up ones, which go before them. Says which ones a workflow
//! needs and does not get.

use std::collections::BTreeMap;
use std::sync::Arc;

use phasework_workflows::definition::{HandlerSpec, VersionRequirement, Workflow, nearest};
use phasework_workflows::id::HandlerName;
use phasework_workflows::{Payload, Version};

use crate::context::Context;
use crate::error::HandlerError;
use crate::handler::{HandlerFn, ListFn};
use crate::hosted::Hosted;

/// A made-up handler takes what there is at once.
const SLOTS: u32 = 1_000_000;

/// A handler that is made up; of whatever version is asked for.
pub(super) struct Mock {
    pub(super) name: HandlerName,
    pub(super) handler: HandlerFn,
}

/// A handler whose jobs fail at first.
pub(super) struct Failing {
    pub(super) name: HandlerName,
    pub(super) tries: u32,
    pub(super) error: HandlerError,
}

/// Everything that a test gives.
pub(super) struct Given {
    pub(super) hosted: Vec<Arc<Hosted>>,
    pub(super) mocks: Vec<Mock>,
    pub(super) failing: Vec<Failing>,
    /// The handlers that a workflow needs, by name and requirement.
    pub(super) found: BTreeMap<(HandlerName, String), Arc<Hosted>>,
}

impl Given {
    /// Finds everything that the workflow needs.
    ///
    /// # Errors
    /// When something is not given, a sentence each.
    pub(super) fn find_all(&mut self, workflow: &Workflow) -> Result<(), Vec<String>> {
        let mut missing = Vec::new();
        for phase in &workflow.phases {
            for spec in &phase.handlers {
                match self.made_up(spec).or_else(|| self.real(spec).cloned()) {
                    Some(found) => {
                        let found = self.failing_at_first(found);
                        self.found.entry(key_of(spec)).or_insert(found);
                    }
                    None => missing.push(format!("phase `{}` needs {}", phase.name, self.what_of(spec))),
                }
            }
        }
        if missing.is_empty() { Ok(()) } else { Err(missing) }
    }

    /// The handler for `spec`.
    pub(super) fn find(&self, spec: &HandlerSpec) -> Option<&Arc<Hosted>> {
        self.found.get(&key_of(spec))
    }

    fn made_up(&self, spec: &HandlerSpec) -> Option<Arc<Hosted>> {
        let mock = self.mocks.iter().rfind(|mock| mock.name == spec.name)?;
        let version = some_version(&spec.version);
        let hosted = Hosted::new(spec.name.clone(), version, Arc::clone(&mock.handler), SLOTS);
        Some(Arc::new(Hosted { enumerate: Some(listing(Arc::clone(&mock.handler))), ..hosted }))
    }

    fn failing_at_first(&self, found: Arc<Hosted>) -> Arc<Hosted> {
        let Some(failing) = self.failing.iter().rfind(|failing| failing.name == found.name) else { return found };
        let (tries, error, then) = (failing.tries, failing.error.clone(), Arc::clone(&found.handler));
        let handler: HandlerFn = Arc::new(move |input: Payload, context: Context| {
            if context.try_number() > tries {
                return then(input, context);
            }
            let error = error.clone();
            Box::pin(async move { Err(error) })
        });
        let hosted = Hosted::new(found.name.clone(), found.version.clone(), handler, found.slots.size());
        Arc::new(Hosted { enumerate: found.enumerate.clone(), ..hosted })
    }

    fn real(&self, spec: &HandlerSpec) -> Option<&Arc<Hosted>> {
        let fits = |hosted: &&Arc<Hosted>| hosted.name == spec.name && spec.version.matches(&hosted.version);
        self.hosted.iter().filter(fits).max_by(|a, b| a.version.cmp(&b.version))
    }

    fn what_of(&self, spec: &HandlerSpec) -> String {
        let versions: Vec<_> = self.hosted.iter().filter(|hosted| hosted.name == spec.name).collect();
        if !versions.is_empty() {
            let versions: Vec<_> = versions.iter().map(|hosted| hosted.version.to_string()).collect();
            return format!("`{}` {}, and is given {}", spec.name, spec.version, versions.join(", "));
        }
        let mut names: Vec<&str> = self.hosted.iter().map(|hosted| hosted.name.as_str()).collect();
        names.extend(self.mocks.iter().map(|mock| mock.name.as_str()));
        names.sort_unstable();
        names.dedup();
        let hint = match nearest(spec.name.as_str(), names.iter().copied()) {
            Some(near) => format!("; did you mean `{near}`?"),
            None if names.is_empty() => String::from("; none is given: see TestRun::handler and TestRun::mock"),
            None => format!("; given are {}", names.join(", ")),
        };
        format!("`{}`, which nobody gives{hint}", spec.name)
    }
}

/// How a made-up handler lists its jobs: what it gives for what it is to list from is the list.
fn listing(handler: HandlerFn) -> ListFn {
    Arc::new(move |input, pages, context| {
        let handler = Arc::clone(&handler);
        Box::pin(async move {
            let output = handler(input, context).await?;
            let jobs: Vec<Payload> = output.read().map_err(|_| {
                HandlerError::output(format!("a made-up handler was to give a list of jobs, not {output}"))
            })?;
            for job in jobs {
                pages.push(job).await?;
            }
            Ok(())
        })
    })
}

fn key_of(spec: &HandlerSpec) -> (HandlerName, String) {
    (spec.name.clone(), spec.version.to_string())
}

/// A version that will do: 1.0.0, or one near those that the requirement names.
fn some_version(required: &VersionRequirement) -> Version {
    let parts = |text: &str| {
        let mut parts = text.split('.').map(|part| part.parse().unwrap_or(0)).chain(std::iter::repeat(0));
        let mut next = || parts.next().unwrap_or(0);
        Version::new(next(), next(), next())
    };
    let named = required.as_str().split(|c: char| !c.is_ascii_digit() && c != '.').filter(|text| !text.is_empty());
    let near = named.map(parts).flat_map(|Version { major, minor, patch, .. }| {
        [(major, minor, patch), (major, minor, patch + 1), (major, minor + 1, 0), (major + 1, 0, 0), (0, 0, 1)]
    });
    let candidates = std::iter::once((1, 0, 0)).chain(near);
    let mut candidates = candidates.map(|(major, minor, patch)| Version::new(major, minor, patch));
    candidates.find(|version| required.matches(version)).unwrap_or_else(|| {
        required.as_str().trim_start_matches(|c: char| !c.is_ascii_digit()).parse().unwrap_or(Version::new(1, 0, 0))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_made_up_handler_has_a_version_that_will_do() {
        for (required, expected) in [
            ("*", "1.0.0"),
            ("~> 1.2", "1.2.0"),
            ("> 1.2, < 2", "1.3.0"),
            ("2", "2.0.0"),
            ("!= 1.0.0", "1.0.1"),
            ("< 1", "0.0.1"),
            ("0.3.7", "0.3.7"),
            ("= 2.0.0-rc.1", "2.0.0-rc.1"),
        ] {
            let required = VersionRequirement::parse(required).unwrap();
            let found = some_version(&required);
            assert!(required.matches(&found), "{required}: {found}");
            assert_eq!(found.to_string(), expected, "{required}");
        }
    }
}

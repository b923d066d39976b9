//! Version requirements.

/// Which versions of a handler will do.
#[derive(Clone, Debug, PartialEq)]
pub struct VersionRequirement {}

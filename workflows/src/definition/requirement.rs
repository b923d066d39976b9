//! Which versions of a handler will do. Takes Cargo's operators (`^1.2`, `~1.2`, `>= 1, < 3`, `1.x`, `*`) and Ruby's
//! (`~> 1.2`, `!= 1.3`). A bare version is exactly that one; with parts left out, any version that has the parts
//! which are there (`1.2` is any 1.2.z). A prerelease matches only when the requirement names one of its own version.

use std::fmt;
use std::sync::Arc;

use semver::{Comparator, Op, Prerelease, Version, VersionReq};

/// The most conditions in one requirement.
const MAX_CONDITIONS: usize = 16;

/// The longest requirement, in bytes.
const MAX_BYTES: usize = 200;

/// Which versions of a handler will do.
#[derive(Clone)]
pub struct VersionRequirement {
    text: Arc<str>,
    required: VersionReq,
    excluded: Arc<[Comparator]>,
}

/// A version requirement that cannot be read, and why.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct RequirementError(String);

impl VersionRequirement {
    /// Any version that is no prerelease: what a definition means that names none.
    pub fn any() -> Self {
        Self { text: "*".into(), required: VersionReq::STAR, excluded: Arc::new([]) }
    }

    /// The requirement that `text` spells.
    ///
    /// # Errors
    /// When `text` is not a requirement; the message says what would be one.
    pub fn parse(text: &str) -> Result<Self, RequirementError> {
        let error = |why: String| RequirementError(format!("`{text}` is not a version requirement: {why}"));
        if text.len() > MAX_BYTES {
            return Err(RequirementError(format!("a version requirement has at most {MAX_BYTES} characters")));
        }
        if text.contains('|') {
            return Err(error("`||` is not supported; use a range such as `>= 1, < 3`".into()));
        }
        let conditions: Vec<&str> = text.split(',').map(str::trim).collect();
        if conditions.len() > MAX_CONDITIONS {
            return Err(error(format!("it has more than {MAX_CONDITIONS} conditions")));
        }
        let (mut required, mut excluded) = (VersionReq::STAR, Vec::new());
        for condition in conditions {
            match read_condition(condition).map_err(error)? {
                Condition::Any => {}
                Condition::Not(comparator) => excluded.push(comparator),
                Condition::All(comparators) => required.comparators.extend(comparators),
            }
        }
        Ok(Self { text: text.trim().into(), required, excluded: excluded.into() })
    }

    /// Whether this is the requirement that every release meets.
    pub fn is_any(&self) -> bool {
        &*self.text == "*"
    }

    /// The requirement as it was written.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// Whether `version` will do.
    pub fn matches(&self, version: &Version) -> bool {
        let excluded = |comparator: &Comparator| {
            // A prerelease is not the version it precedes, so `!= 1.2` says nothing about 1.2.0-rc.1.
            comparator.matches(version) && (version.pre.is_empty() || !comparator.pre.is_empty())
        };
        self.required.matches(version) && !self.excluded.iter().any(excluded)
    }

    /// The highest of `versions` that will do.
    pub fn highest<'a>(&self, versions: impl IntoIterator<Item = &'a Version>) -> Option<&'a Version> {
        versions.into_iter().filter(|version| self.matches(version)).max()
    }
}

impl Default for VersionRequirement {
    fn default() -> Self {
        Self::any()
    }
}

impl PartialEq for VersionRequirement {
    /// Equal when the texts are.
    fn eq(&self, other: &Self) -> bool {
        self.text == other.text
    }
}

impl Eq for VersionRequirement {}

impl fmt::Display for VersionRequirement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.text)
    }
}

impl fmt::Debug for VersionRequirement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "VersionRequirement({:?})", self.text)
    }
}

impl std::str::FromStr for VersionRequirement {
    type Err = RequirementError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::parse(text)
    }
}

/// One condition of a requirement.
enum Condition {
    Any,
    Not(Comparator),
    All(Vec<Comparator>),
}

/// The operators, longer ones before those they begin with.
const OPERATORS: [&str; 10] = ["~>", ">=", "<=", "!=", "==", ">", "<", "=", "^", "~"];

fn read_condition(condition: &str) -> Result<Condition, String> {
    let operator = OPERATORS.into_iter().find(|operator| condition.starts_with(operator)).unwrap_or("");
    let version = condition[operator.len()..].trim();
    match (operator, version) {
        ("", "") => return Err("there is a condition missing; leave `version` out for the highest version".into()),
        (_, "") => return Err(format!("there is no version after `{operator}`")),
        ("" | "=" | "==", "*") => return Ok(Condition::Any),
        _ => {}
    }
    let (parts, wildcard) = read_parts(version)?;
    if wildcard && !matches!(operator, "" | "=" | "==" | "!=") {
        return Err(format!("`{operator}` takes no wildcard; leave the part out: `{operator} {}`", parts.as_text()));
    }
    let comparator = |op| Comparator { op, ..parts.comparator() };
    Ok(match operator {
        "~>" => pessimistic(&parts)?,
        ">=" => Condition::All(vec![comparator(Op::GreaterEq)]),
        "<=" => Condition::All(vec![comparator(Op::LessEq)]),
        ">" => Condition::All(vec![comparator(Op::Greater)]),
        "<" => Condition::All(vec![comparator(Op::Less)]),
        "^" => Condition::All(vec![comparator(Op::Caret)]),
        "~" => Condition::All(vec![comparator(Op::Tilde)]),
        "!=" => Condition::Not(comparator(Op::Exact)),
        _ => Condition::All(vec![comparator(Op::Exact)]),
    })
}

/// Ruby's `~>`: the last part that was written may grow.
fn pessimistic(parts: &Parts) -> Result<Condition, String> {
    let too_large = || "a part of the version is too large".to_owned();
    let below = match (parts.minor, parts.patch) {
        (Some(minor), Some(_)) => (parts.major, Some(minor.checked_add(1).ok_or_else(too_large)?)),
        _ => (parts.major.checked_add(1).ok_or_else(too_large)?, None),
    };
    let below = Comparator { op: Op::Less, major: below.0, minor: below.1, patch: None, pre: Prerelease::EMPTY };
    Ok(Condition::All(vec![Comparator { op: Op::GreaterEq, ..parts.comparator() }, below]))
}

/// A version whose last parts may be missing.
struct Parts {
    major: u64,
    minor: Option<u64>,
    patch: Option<u64>,
    pre: Prerelease,
}

impl Parts {
    fn comparator(&self) -> Comparator {
        Comparator { op: Op::Exact, major: self.major, minor: self.minor, patch: self.patch, pre: self.pre.clone() }
    }

    fn as_text(&self) -> String {
        [Some(self.major), self.minor, self.patch]
            .into_iter()
            .flatten()
            .map(|n| n.to_string())
            .collect::<Vec<_>>()
            .join(".")
    }
}

/// The parts of `version`, and whether a wildcard stood for some of them.
fn read_parts(version: &str) -> Result<(Parts, bool), String> {
    let version_only = version.split_once('+').map_or(version, |(version, _build)| version);
    let (numbers, pre) = match version_only.split_once('-') {
        Some((numbers, pre)) => (numbers, Some(pre)),
        None => (version_only, None),
    };
    let mut found = Vec::new();
    let mut wildcard = false;
    for part in numbers.split('.') {
        match part {
            "x" | "X" | "*" if !found.is_empty() => wildcard = true,
            _ if wildcard => return Err(format!("`{version}` has a number after a wildcard")),
            _ => found.push(read_number(version, part)?),
        }
    }
    let (&[major], rest) = found.split_at(1.min(found.len())) else { return Err(not_a_version(version)) };
    if rest.len() > 2 || (wildcard && rest.len() > 1) {
        return Err(format!("`{version}` has more than three parts"));
    }
    let pre = match pre {
        None => Prerelease::EMPTY,
        Some(_) if rest.len() < 2 => return Err(format!("`{version}` needs three numbers before its `-`")),
        Some("") => return Err(format!("`{version}` has nothing after its `-`")),
        Some(pre) => Prerelease::new(pre).map_err(|error| format!("in `{version}`: {error}"))?,
    };
    Ok((Parts { major, minor: rest.first().copied(), patch: rest.get(1).copied(), pre }, wildcard))
}

fn read_number(version: &str, part: &str) -> Result<u64, String> {
    if part.is_empty() || !part.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(not_a_version(version));
    }
    if part.len() > 1 && part.starts_with('0') {
        return Err(format!("`{version}` has a number with a leading zero"));
    }
    part.parse().map_err(|_| format!("`{part}` is too large"))
}

fn not_a_version(version: &str) -> String {
    if version.strip_prefix(['v', 'V']).is_some_and(|rest| rest.starts_with(|c: char| c.is_ascii_digit())) {
        return format!("write `{version}` without the `v`");
    }
    if version.contains(char::is_whitespace) {
        return "conditions are separated by commas: `>= 1, < 3`".into();
    }
    format!("`{version}` is not a version such as 1.2.3; requirements are written like `~> 1.2`, `^1.2` or `>= 1, < 3`")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(requirement: &str, yes: &[&str], no: &[&str]) {
        let parsed = VersionRequirement::parse(requirement).unwrap_or_else(|error| panic!("{error}"));
        let matches = |version: &&str| parsed.matches(&version.parse().unwrap());
        assert!(yes.iter().all(matches), "`{requirement}` refuses one of {yes:?}");
        assert!(!no.iter().any(matches), "`{requirement}` takes one of {no:?}");
        assert_eq!(parsed.to_string(), requirement);
    }

    #[test]
    fn operators_of_cargo_and_of_ruby() {
        check("*", &["0.0.0", "1.2.3", "99.0.0"], &["1.0.0-rc.1"]);
        check("1.0.0", &["1.0.0", "1.0.0+build"], &["1.0.1", "1.1.0", "0.9.9", "1.0.0-rc.1"]);
        check("= 1.2.3", &["1.2.3"], &["1.2.4"]);
        check("== 1.2.3", &["1.2.3"], &["1.2.4"]);
        check("1.2", &["1.2.0", "1.2.9"], &["1.3.0", "2.0.0", "1.2.0-rc.1"]);
        check("1", &["1.0.0", "1.9.9"], &["2.0.0", "0.9.0"]);
        check("=1.2", &["1.2.0", "1.2.9"], &["1.3.0"]);
        check("1.x", &["1.0.0", "1.9.0"], &["2.0.0"]);
        check("1.2.X", &["1.2.0", "1.2.9"], &["1.3.0"]);
        check("1.*", &["1.0.0", "1.9.0"], &["2.0.0"]);
        check("1.x.x", &["1.0.0", "1.9.0"], &["2.0.0"]);
        check("^1.2", &["1.2.0", "1.9.0"], &["1.1.9", "2.0.0"]);
        check("^0.2.3", &["0.2.3", "0.2.9"], &["0.2.2", "0.3.0"]);
        check("^0.0.3", &["0.0.3"], &["0.0.4"]);
        check("~1.2", &["1.2.0", "1.2.9"], &["1.3.0", "1.1.9"]);
        check("~1.2.3", &["1.2.3", "1.2.9"], &["1.2.2", "1.3.0"]);
        check("~1", &["1.0.0", "1.9.0"], &["2.0.0"]);
        check("~> 1.2", &["1.2.0", "1.9.9"], &["1.1.9", "2.0.0", "2.0.0-rc.1"]);
        check("~>1.2", &["1.2.0", "1.9.9"], &["2.0.0"]);
        check("~> 1.2.3", &["1.2.3", "1.2.9"], &["1.2.2", "1.3.0", "1.3.0-rc.1"]);
        check("~> 1", &["1.0.0", "1.9.9"], &["2.0.0", "0.9.0"]);
        check("~> 0.1", &["0.1.0", "0.9.0"], &["1.0.0"]);
        check(">= 1, < 3", &["1.0.0", "2.9.9"], &["0.9.9", "3.0.0"]);
        check(">1.2.3,<=2", &["1.2.4", "2.9.9"], &["1.2.3", "3.0.0"]);
        check("!= 1.2.3", &["1.2.2", "1.2.4"], &["1.2.3"]);
        check("~> 1.2, != 1.3", &["1.2.0", "1.4.0"], &["1.3.0", "1.3.9"]);
        check("!= 1.x", &["2.0.0", "0.1.0"], &["1.0.0", "1.9.0"]);
    }

    #[test]
    fn a_prerelease_matches_only_when_asked_for() {
        check(">= 1.2.0-beta.1", &["1.2.0-beta.1", "1.2.0-rc.1", "1.2.0", "2.0.0"], &["1.2.0-alpha", "1.3.0-rc.1"]);
        check("~> 1.2.0-beta", &["1.2.0-beta", "1.2.0-rc.1", "1.2.9"], &["1.3.0", "1.3.0-alpha"]);
        check("1.2.0-beta", &["1.2.0-beta"], &["1.2.0", "1.2.0-beta.1"]);
        check(">= 1.2.0-beta, != 1.2.0-rc.1", &["1.2.0-beta", "1.2.0-rc.2"], &["1.2.0-rc.1"]);
        check(">= 1", &["1.0.0"], &["1.5.0-rc.1"]);
    }

    #[test]
    fn what_cannot_be_read_says_why() {
        for (text, why) in [
            ("", "leave `version` out"),
            ("latest", "`~> 1.2`"),
            ("v1.2.3", "without the `v`"),
            (">= 1 < 3", "separated by commas"),
            ("1.2.3.4", "more than three parts"),
            ("~>", "no version after `~>`"),
            (">= 1,", "condition missing"),
            ("1 || 2", "`>= 1, < 3`"),
            ("^1.x", "`^ 1`"),
            ("1.02.3", "leading zero"),
            ("1.2-beta", "three numbers"),
            ("1.2.3-", "nothing after"),
            ("1.2.3-é", "in `1.2.3-é`"),
            ("99999999999999999999", "too large"),
            ("~> 18446744073709551615", "too large"),
            ("1.x.3", "after a wildcard"),
            ("x.1", "not a version"),
            (".", "not a version"),
            (&"1,".repeat(150), "at most 200"),
        ] {
            let error = VersionRequirement::parse(text).unwrap_err().to_string();
            assert!(error.contains(why), "{text}: {error}");
        }
    }

    #[test]
    fn the_highest_that_will_do_is_taken() {
        let versions: Vec<Version> =
            ["1.2.0", "2.0.0", "1.10.0", "1.9.3", "2.1.0-rc.1"].iter().map(|text| text.parse().unwrap()).collect();
        for (requirement, highest) in [
            ("~> 1.2", Some("1.10.0")),
            ("*", Some("2.0.0")),
            ("< 1.10", Some("1.9.3")),
            ("2.1.0-rc.1", Some("2.1.0-rc.1")),
            ("3", None),
        ] {
            let requirement = VersionRequirement::parse(requirement).unwrap();
            assert_eq!(requirement.highest(&versions).map(ToString::to_string).as_deref(), highest);
        }
        assert_eq!(VersionRequirement::default(), VersionRequirement::parse("*").unwrap());
    }
}

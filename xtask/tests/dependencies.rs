//! What may come in as a dependency, as `deny.toml` has it, checked where cargo-deny is not installed: licences, banned
//! crates, and where crates come from. `cargo deny` looks closer, and at known vulnerabilities too.

#![expect(clippy::unwrap_used, reason = "all of this file is tests")]

use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

/// A crate of the workspace, or one that it is built with.
struct Package {
    name: String,
    version: String,
    licence: String,
    source: Option<String>,
}

#[test]
fn every_dependency_is_allowed() {
    let (rules, packages) = (Rules::read(), packages());
    assert!(packages.len() > 200 && rules.licences.len() > 5 && rules.banned.len() > 3, "{rules:?}");
    let wrong: Vec<_> = packages.iter().flat_map(|package| rules.complaints(package)).collect();
    assert!(wrong.is_empty(), "Against deny.toml:\n  {}", wrong.join("\n  "));
}

#[test]
fn what_is_not_allowed_is_found() {
    #[track_caller]
    fn check(name: &str, licence: &str, source: Option<&str>, expected: &[&str]) {
        let package = Package {
            name: name.to_owned(),
            version: String::from("1.0.0"),
            licence: licence.to_owned(),
            source: source.map(str::to_owned),
        };
        let found = Rules::read().complaints(&package);
        assert_eq!(found.len(), expected.len(), "{found:?}");
        for (found, expected) in found.iter().zip(expected) {
            assert!(found.contains(expected), "{expected} in {found}");
        }
    }
    let registry = Some(REGISTRY);
    for fine in ["MIT", "MIT OR Apache-2.0", "MIT/Apache-2.0", "GPL-3.0 OR MIT", "(MIT OR Apache-2.0) AND Unicode-3.0"]
    {
        check("fine", fine, registry, &[]);
    }
    check("fine", "Apache-2.0 WITH LLVM-exception OR GPL-2.0", registry, &[]);
    for wrong in ["GPL-3.0", "MIT AND GPL-3.0", "", "(MIT OR ISC) AND GPL-3.0", "GPL-3.0 OR (MIT AND LGPL-3.0)"] {
        check("wrong", wrong, registry, &["licence"]);
    }
    check("openssl-sys", "MIT", registry, &["banned"]);
    check("native-tls", "AGPL-3.0", Some("git+https://example.org/x"), &["banned", "licence", "comes from"]);
    check("ours", "MIT", None, &[]);
}

/// Where crates may come from.
const REGISTRY: &str = "registry+https://github.com/rust-lang/crates.io-index";

#[derive(Debug)]
struct Rules {
    licences: Vec<String>,
    banned: Vec<String>,
}

impl Rules {
    /// What `deny.toml` says: the quoted lines of its list of licences, the names of its crates.
    fn read() -> Self {
        let text = std::fs::read_to_string(root().join("deny.toml")).unwrap();
        let quoted = |line: &str| line.split('"').nth(1).map(str::to_owned);
        let licences = text.lines().skip_while(|line| *line != "allow = [").skip(1).take_while(|line| *line != "]");
        let banned = text.lines().filter(|line| line.trim_start().starts_with("{ crate = "));
        Self { licences: licences.filter_map(quoted).collect(), banned: banned.filter_map(quoted).collect() }
    }

    fn complaints(&self, package: &Package) -> Vec<String> {
        let Package { name, version, licence, source } = package;
        let mut complaints = Vec::new();
        if self.banned.contains(name) {
            complaints.push(format!("{name} {version} is banned; `cargo tree -i {name}` says who brings it"));
        }
        if !self.allows(licence) {
            complaints.push(format!("{name} {version} has the licence `{licence}`"));
        }
        if let Some(source) = source.as_ref().filter(|source| *source != REGISTRY) {
            complaints.push(format!("{name} {version} comes from {source}"));
        }
        complaints
    }

    /// Whether an SPDX expression can be met with the licences of the list. Older crates write `/` for `OR`.
    fn allows(&self, expression: &str) -> bool {
        let spaced =
            expression.replace('/', " OR ").replace('(', " ( ").replace(')', " ) ").replace(" WITH ", "+WITH+");
        let words: Vec<_> = spaced.split_whitespace().map(|word| word.replace("+WITH+", " WITH ")).collect();
        let mut rest = words.as_slice();
        self.any(&mut rest) && rest.is_empty()
    }

    fn any(&self, words: &mut &[String]) -> bool {
        let mut allowed = self.all(words);
        while take(words, "OR") {
            allowed |= self.all(words);
        }
        allowed
    }

    fn all(&self, words: &mut &[String]) -> bool {
        let mut allowed = self.one(words);
        while take(words, "AND") {
            allowed &= self.one(words);
        }
        allowed
    }

    fn one(&self, words: &mut &[String]) -> bool {
        if take(words, "(") {
            let allowed = self.any(words);
            return take(words, ")") && allowed;
        }
        let Some((licence, rest)) = words.split_first() else { return false };
        *words = rest;
        self.licences.contains(licence)
    }
}

fn take(words: &mut &[String], word: &str) -> bool {
    let is_next = words.first().is_some_and(|next| next == word);
    if is_next {
        *words = &words[1..];
    }
    is_next
}

/// The whole workspace with all that it is built with, on any platform.
fn packages() -> Vec<Package> {
    let mut cargo = Command::new(env!("CARGO"));
    let output = cargo.args(["metadata", "--format-version", "1"]).current_dir(root()).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let metadata: Value = serde_json::from_slice(&output.stdout).unwrap();
    let package = |package: &Value| {
        let text = |field: &str| package[field].as_str().unwrap_or("").to_owned();
        let source = package["source"].as_str().map(str::to_owned);
        Package { name: text("name"), version: text("version"), licence: text("license"), source }
    };
    metadata["packages"].as_array().unwrap().iter().map(package).collect()
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_owned()
}

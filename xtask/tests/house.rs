//! The rules of this house that a program can check: which crate may import which, and what every file looks like.
//! The lints in `Cargo.toml` and `clippy.toml` hold the rest; this repeats none of them.

#![expect(clippy::unwrap_used, reason = "all of this file is tests")]

use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

/// Each crate and the crates of ours it may import. Imports point down; what has no path of arrows between it never
/// meets: `store` and `broker`, `engine` and `handler-sdk`, whose only common ground is the wire.
const MAY_IMPORT: [(&str, &[&str]); 10] = [
    ("phasework-workflows", &[]),
    ("phasework-store", &["phasework-workflows"]),
    ("phasework-broker", &["phasework-workflows"]),
    ("phasework-engine", &["phasework-workflows", "phasework-store", "phasework-broker"]),
    ("phasework-sdk", &["phasework-workflows", "phasework-broker"]),
    ("phasework-example-greeter", &["phasework-sdk"]),
    ("phasework-example-search", &["phasework-workflows", "phasework-broker", "phasework-sdk"]),
    ("phasework", &ALL_BELOW_THE_TOP),
    ("phasework-tests", &ALL_BELOW_THE_TOP),
    // Compiled before everything else, so that it can test what does not compile. Its library starts RabbitMQ and Redis
    // and reads the book, for tests.
    ("xtask", &[]),
];

const ALL_BELOW_THE_TOP: [&str; 7] = [
    "phasework-workflows",
    "phasework-store",
    "phasework-broker",
    "phasework-engine",
    "phasework-sdk",
    "phasework-example-search",
    "xtask",
];

/// Names that say nothing about what is inside, so that everything ends up there.
const EMPTY_NAMES: [&str; 8] = ["util", "utils", "helper", "helpers", "common", "misc", "manager", "managers"];

const LONGEST_FILE: usize = 600;

/// Every kind of dependency counts, those of tests and build scripts too.
#[test]
fn imports_point_down() {
    let mut wrong = Vec::new();
    for package in packages() {
        let name = text(&package["name"]);
        let Some((_, allowed)) = MAY_IMPORT.iter().find(|(known, _)| *known == name) else {
            wrong.push(format!("{name} is new: say in MAY_IMPORT what it may import"));
            continue;
        };
        for dependency in package["dependencies"].as_array().unwrap() {
            let imported = text(&dependency["name"]);
            let is_ours = MAY_IMPORT.iter().any(|(known, _)| *known == imported);
            if is_ours && !allowed.contains(&imported) {
                wrong.push(format!("{name} imports {imported}"));
            }
        }
    }
    assert_none(&wrong, "Imports that point the wrong way:");
}

#[test]
fn every_file_says_what_it_is_for_and_is_short() {
    let mut wrong = Vec::new();
    for path in source_files() {
        let content = std::fs::read_to_string(root().join(&path)).unwrap();
        let complaints = complaints(&path, &content);
        wrong.extend(complaints.into_iter().map(|complaint| format!("{}: {complaint}", path.display())));
    }
    assert_none(&wrong, "Files that strangers would not find their way in:");
}

fn complaints(path: &Path, content: &str) -> Vec<String> {
    let mut complaints = Vec::new();
    if !content.starts_with("//! ") {
        complaints.push(String::from("does not open with `//!`, what it is for and what it never does"));
    }
    let lines = content.lines().count();
    if lines > LONGEST_FILE {
        complaints.push(format!("{lines} lines are over {LONGEST_FILE}: where is the seam?"));
    }
    let declared = content.lines().filter_map(declared_module);
    let named = path.iter().filter_map(|part| part.to_str()).map(|part| part.trim_end_matches(".rs"));
    for name in named.chain(declared) {
        if EMPTY_NAMES.contains(&name) {
            complaints.push(format!("`{name}` is no name for a module"));
        }
    }
    complaints
}

/// The `name` of `mod name;` or `pub(crate) mod name {`.
fn declared_module(line: &str) -> Option<&str> {
    let (visibility, rest) = line.trim_start().split_once("mod ")?;
    let is_declaration = visibility.is_empty() || visibility.starts_with("pub");
    is_declaration.then(|| rest.trim_end_matches([';', '{', ' ']))
}

#[test]
fn the_rules_for_files_can_be_broken() {
    #[track_caller]
    fn check(path: &str, content: &str, want: &[&str]) {
        let got = complaints(Path::new(path), content);
        assert_eq!(got.len(), want.len(), "{got:?}");
        for (got, want) in got.iter().zip(want) {
            assert!(got.contains(want), "{want} in {got}");
        }
    }
    check("store/src/lib.rs", "//! Remembers.\nmod redis;\n", &[]);
    check("store/src/lib.rs", "use std::fmt;\n", &["does not open"]);
    check("store/src/lib.rs", "", &["does not open"]);
    check("store/src/lib.rs", &format!("//! Long.{}", "\n".repeat(600)), &[]);
    check("store/src/lib.rs", &format!("//! Long.{}\n1", "\n".repeat(600)), &["602 lines"]);
    check("store/src/utils.rs", "//! Things.\n", &["`utils`"]);
    check("store/common/mod.rs", "//! Things.\n", &["`common`"]);
    let nested = "//! Has more.\n    pub(crate) mod helpers {\n    // the common mod utils\n}\n";
    check("store/src/lib.rs", nested, &["`helpers`"]);
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_owned()
}

fn packages() -> Vec<Value> {
    let mut cargo = Command::new(env!("CARGO"));
    let output = cargo.args(["metadata", "--no-deps", "--format-version", "1"]).current_dir(root()).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let metadata: Value = serde_json::from_slice(&output.stdout).unwrap();
    metadata["packages"].as_array().unwrap().clone()
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap()
}

/// All Rust files of the workspace, relative to its root.
fn source_files() -> Vec<PathBuf> {
    let mut files = Vec::new();
    let mut directories = vec![root()];
    while let Some(directory) = directories.pop() {
        for entry in std::fs::read_dir(directory).unwrap() {
            let entry = entry.unwrap();
            let (path, name) = (entry.path(), entry.file_name());
            let is_source = !name.to_string_lossy().starts_with('.') && name != "target" && name != "node_modules";
            if entry.file_type().unwrap().is_dir() {
                directories.extend(is_source.then_some(path));
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                files.push(path.strip_prefix(root()).unwrap().to_owned());
            }
        }
    }
    files.sort();
    assert!(files.len() > 10, "found only {files:?}");
    files
}

#[track_caller]
fn assert_none(wrong: &[String], what: &str) {
    assert!(wrong.is_empty(), "{what}\n  {}", wrong.join("\n  "));
}

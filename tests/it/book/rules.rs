//! Every block of the book says by its language what is done with it. A block of which nothing is said is refused, and so
//! is one more block that is not run: their number is fixed here.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde_json::Value;
use xtask::book::{Block, Page, pages, root};

/// How many blocks of commands there are that cannot be run here, as they need a host, an account or hours. `phasework`'s
/// own tests see to it that the commands in them can be read (`cli/src/book.rs`). The reference of the command line is not
/// counted: it is made from the program.
const NOT_RUN: &[(&str, usize)] = &[
    ("README.md", 1),
    ("docs/api.md", 1),
    ("docs/certify.md", 1),
    ("docs/guides/drill.md", 1),
    ("docs/guides/production.md", 1),
    ("docs/operations.md", 1),
    ("docs/simulator.md", 1),
    ("docs/tutorial.md", 1),
];

/// Between these two a page is made by a test.
const MADE: [&str; 2] = ["<!-- commands: made from the command line -->\n", "<!-- end of commands -->\n"];

/// Files of the project below `folder`, by their ending.
pub(super) fn files(folder: &str, extension: &str) -> Vec<PathBuf> {
    let mut files = Vec::new();
    let mut folders = vec![root().join(folder)];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).expect("a folder can be read") {
            let path = entry.expect("a folder can be read").path();
            let is_made = path.file_name().is_some_and(|name| name == "node_modules" || name == "target");
            if path.is_dir() && !is_made {
                folders.push(path);
            } else if path.extension().is_some_and(|ending| ending == extension) {
                files.push(path);
            }
        }
    }
    files
}

fn text(path: &Path) -> String {
    std::fs::read_to_string(path).expect("a file can be read")
}

/// What is wrong with a block, as its language has it.
fn complaint(page: &Page, block: &Block, guides: &str, examples: &[String]) -> Option<String> {
    let said = |complaint: &str| Some(complaint.to_owned());
    let allowed: &[&str] = match block.language.as_str() {
        "console" => &["needs"],
        "json" | "toml" | "python" => &["file"],
        _ => &[],
    };
    let is_allowed =
        |word: &String| allowed.iter().any(|name| word.strip_prefix(name).is_some_and(|rest| rest.starts_with('=')));
    if let Some(word) = block.words.iter().find(|word| !is_allowed(word)) {
        return Some(format!("`{word}` says nothing of {}", block.language));
    }
    match block.language.as_str() {
        "console" if !block.text.starts_with("$ ") => said("begins with no command"),
        // The commands in both, and what stands in TOML, are read by tests of `phasework`.
        "console" | "sh" | "toml" => None,
        "json" => serde_json::from_str::<Value>(&block.text).err().map(|error| error.to_string()),
        "rust" | "rust,no_run" => {
            let name = page.path.trim_start_matches("docs/");
            let is_guide = guides.contains(&format!("include_str!(\"../../{}\")", page.path));
            if is_guide { None } else { Some(format!("{name} is not among the guides in handler-sdk/src/lib.rs")) }
        }
        "rust,ignore" => {
            let is_quoted = examples.iter().any(|example| example.contains(&block.text));
            if is_quoted { None } else { said("is in no example, word for word") }
        }
        "text" if block.text.contains("$ ") || block.text.contains("phasework ") => said("has commands in it"),
        "text" => None,
        language => Some(format!("nothing is done with `{language}`: CONTRIBUTING.md has what there is")),
    }
}

#[test]
fn every_block_says_what_is_done_with_it() {
    let guides = text(&root().join("handler-sdk/src/lib.rs"));
    let examples: Vec<_> = files("examples", "rs").iter().map(|path| text(path)).collect();
    let mut wrong = Vec::new();
    let mut count = 0;
    for page in pages().expect("the book can be read") {
        wrong.extend(
            page.indented()
                .iter()
                .map(|line| format!("{}:{line}: a block by indentation cannot say what is done with it", page.path)),
        );
        for block in page.blocks() {
            count += 1;
            let complaint = complaint(&page, &block, &guides, &examples);
            wrong.extend(complaint.map(|words| format!("{}:{}: {words}", page.path, block.line)));
        }
    }
    assert!(count > 100, "only {count} blocks were found");
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn no_more_blocks_are_left_unrun() {
    let mut found = BTreeMap::new();
    for mut page in pages().expect("the book can be read") {
        if let Some((before, rest)) = page.text.split_once(MADE[0]) {
            let (_, after) = rest.split_once(MADE[1]).expect("it ends");
            page.text = format!("{before}{after}");
        }
        let count = page.blocks().iter().filter(|block| block.language == "sh").count();
        if count > 0 {
            found.insert(page.path.clone(), count);
        }
    }
    let expected: BTreeMap<_, _> = NOT_RUN.iter().map(|(page, count)| ((*page).to_owned(), *count)).collect();
    assert_eq!(found, expected, "blocks `sh` are read, not run: can they be run as `console`?");
}

#[test]
fn what_has_no_rule_is_refused() {
    let check = |text: &str, expected: Option<&str>| {
        let page = Page { path: "docs/a.md".into(), text: text.into() };
        let found = complaint(&page, &page.blocks()[0], "include_str!(\"../../docs/b.md\")", &["fn a() {}".into()]);
        assert_eq!(
            found.as_deref().map(|found| expected.is_some_and(|words| found.contains(words))),
            expected.map(|_| true),
            "{text}: {found:?}"
        );
    };
    check("```console\n$ a\n```", None);
    check("```console needs=services\n$ a\n```", None);
    check("```console nohow\n$ a\n```", Some("`nohow`"));
    check("```console\na\n```", Some("no command"));
    check("```json\n{\"a\": 1}\n```", None);
    check("```json\n{\"a\": …}\n```", Some("expected value"));
    check("```rust,no_run\n```", Some("not among the guides"));
    check("```rust,ignore\nfn a() {}\n```", None);
    check("```rust,ignore\nfn b() {}\n```", Some("no example"));
    check("```text\nphasework runs\n```", Some("commands"));
    check("```\na\n```", Some("nothing is done"));
    check("```yaml\na: 1\n```", Some("nothing is done"));
}

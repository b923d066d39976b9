//! The book in docs/: every page is in its table of contents, every link leads somewhere, every definition is valid.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Component, Path, PathBuf};

use phasework_workflows::definition::parse;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_owned()
}

/// Every page below `directory`, by its path from the root, with its text.
fn pages(directory: &str) -> BTreeMap<PathBuf, String> {
    let mut pages = BTreeMap::new();
    for entry in std::fs::read_dir(root().join(directory)).unwrap() {
        let path = entry.unwrap().path();
        let name = path.strip_prefix(root()).unwrap().to_owned();
        if path.is_dir() {
            pages.extend(pages_below(&name));
        } else if path.extension().is_some_and(|extension| extension == "md") {
            pages.insert(name, std::fs::read_to_string(&path).unwrap());
        }
    }
    pages
}

fn pages_below(directory: &Path) -> BTreeMap<PathBuf, String> {
    pages(&directory.to_string_lossy())
}

/// A page without its blocks of code.
fn prose(text: &str) -> String {
    let mut is_code = false;
    let mut lines = Vec::new();
    for line in text.lines() {
        if line.trim_start().starts_with("```") {
            is_code = !is_code;
        } else if !is_code {
            lines.push(line);
        }
    }
    lines.join("\n")
}

/// Where the links of a page lead: what stands between `](` and `)`, and after `]: `.
fn links(text: &str) -> Vec<String> {
    let prose = prose(text);
    let inline = prose.split("](").skip(1).filter_map(|rest| rest.split_once(')')).map(|(target, _)| target.to_owned());
    inline.filter(|target| !target.contains("://") && !target.starts_with("mailto:")).collect()
}

/// The anchors of a page's headings, as mdBook, GitHub and rustdoc make them.
fn anchors(text: &str) -> BTreeSet<String> {
    let prose = prose(text);
    let headings = prose.lines().filter(|line| line.starts_with('#')).map(|line| line.trim_start_matches('#').trim());
    let mut seen = BTreeMap::<String, u32>::new();
    let mut anchors = BTreeSet::new();
    for heading in headings {
        let kept = heading
            .to_lowercase()
            .chars()
            .filter(|c| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_'))
            .collect::<String>();
        let anchor = kept.replace(' ', "-");
        let times = seen.entry(anchor.clone()).or_default();
        anchors.insert(if *times == 0 { anchor } else { format!("{anchor}-{times}") });
        *times += 1;
    }
    anchors
}

/// `target`, seen from `page`, as a path from the root.
fn resolve(page: &Path, target: &str) -> PathBuf {
    let mut path = page.parent().unwrap().to_owned();
    for part in Path::new(target).components() {
        match part {
            Component::ParentDir => assert!(path.pop(), "{target} in {} leads out of the project", page.display()),
            Component::Normal(name) => path.push(name),
            _ => {}
        }
    }
    path
}

#[test]
fn every_link_leads_somewhere() {
    let mut pages = pages("docs");
    for name in ["README.md", "ARCHITECTURE.md", "CONTRIBUTING.md", "CHANGELOG.md"] {
        pages.insert(name.into(), std::fs::read_to_string(root().join(name)).unwrap());
    }
    let mut count = 0;
    let mut broken = Vec::new();
    for (page, text) in &pages {
        for link in links(text) {
            count += 1;
            let (target, anchor) = link.split_once('#').unwrap_or((&link, ""));
            let target = if target.is_empty() { page.clone() } else { resolve(page, target) };
            let has_anchor = || pages.get(&target).is_none_or(|text| anchors(text).contains(anchor));
            if !root().join(&target).exists() || (!anchor.is_empty() && !has_anchor()) {
                broken.push(format!("{}: {link}", page.display()));
            }
        }
    }
    assert!(count > 100, "only {count} links were found");
    assert!(broken.is_empty(), "these links lead nowhere:\n{}", broken.join("\n"));
}

#[test]
fn every_page_is_in_the_table_of_contents() {
    let summary = Path::new("docs/SUMMARY.md");
    let pages = pages("docs");
    let listed: Vec<_> = links(&pages[summary]).iter().map(|link| resolve(summary, link)).collect();
    let unique: BTreeSet<_> = listed.iter().cloned().collect();
    assert_eq!(listed.len(), unique.len(), "a page is listed twice");
    let there: BTreeSet<_> = pages.into_keys().filter(|page| page != summary).collect();
    assert_eq!(unique, there, "docs/SUMMARY.md lists other pages than there are");
}

#[test]
fn every_definition_in_the_book_is_valid() {
    let mut count = 0;
    for (page, text) in pages("docs") {
        let blocks = text.split("\n```json").skip(1).filter_map(|rest| rest.split_once('\n'));
        for block in blocks.filter_map(|(_, rest)| rest.split_once("\n```")).map(|(block, _)| block) {
            if block.contains("\"phases\":") && block.contains("\"is_initial\"") {
                count += 1;
                let document =
                    parse(block).unwrap_or_else(|problems| panic!("{}: {problems}\n{block}", page.display()));
                assert_eq!(document.warnings, [], "{}: {block}", page.display());
            }
        }
    }
    assert!(count >= 8, "only {count} definitions were found");
}

#[test]
fn what_is_no_link_or_heading_is_not_taken_for_one() {
    let text = "# A `b` & c\n[x](y.md#z) and [u](https://v)\n```\n# no\n[n](o)\n```\n## A `b` & c\n";
    assert_eq!(links(text), ["y.md#z"]);
    assert_eq!(anchors(text), BTreeSet::from(["a-b--c".to_owned(), "a-b--c-1".to_owned()]));
}

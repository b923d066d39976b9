//! The book as its tests read it: the pages of docs/ and the README, their blocks of code with what is to be done with
//! each, and the commands in them. `CONTRIBUTING.md` has the rules in words. Reads files, and does nothing of what they say.

use std::path::{Path, PathBuf};

/// A page.
#[derive(Clone, Debug)]
pub struct Page {
    /// Its path from the root of the project: `docs/tutorial.md`.
    pub path: String,
    /// All of it.
    pub text: String,
}

/// A block of code.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Block {
    /// The line on which it begins.
    pub line: usize,
    /// What it is: `console`, `json`, `rust,no_run`…
    pub language: String,
    /// What else is said of it: `file=greetings.json`, `needs=services`.
    pub words: Vec<String>,
    /// What is in it.
    pub text: String,
}

impl Block {
    /// What stands behind `name=`.
    #[must_use]
    pub fn word(&self, name: &str) -> Option<&str> {
        self.words.iter().find_map(|word| word.strip_prefix(name)?.strip_prefix('='))
    }
}

/// Where the project is.
///
/// # Panics
/// Never: this crate is one folder below.
#[must_use]
pub fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the workspace").to_owned()
}

/// Every page of the book, and the README.
///
/// # Errors
/// When one cannot be read.
pub fn pages() -> std::io::Result<Vec<Page>> {
    let mut paths = vec![root().join("README.md")];
    let mut folders = vec![root().join("docs")];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder)? {
            let path = entry?.path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "md") {
                paths.push(path);
            }
        }
    }
    paths.sort();
    let name = |path: &Path| path.strip_prefix(root()).unwrap_or(path).display().to_string();
    paths.iter().map(|path| Ok(Page { path: name(path), text: std::fs::read_to_string(path)? })).collect()
}

/// One page, by its path from the root.
///
/// # Errors
/// When it cannot be read.
pub fn page(path: &str) -> std::io::Result<Page> {
    Ok(Page { path: path.to_owned(), text: std::fs::read_to_string(root().join(path))? })
}

impl Page {
    /// Its blocks of code, in order.
    #[must_use]
    pub fn blocks(&self) -> Vec<Block> {
        let mut blocks = Vec::new();
        let mut lines = self.text.lines().enumerate();
        while let Some((number, line)) = lines.next() {
            let Some(opening) = line.strip_prefix("```") else { continue };
            let mut words = opening.split_whitespace().map(str::to_owned);
            let language = words.next().unwrap_or_default();
            let text = lines.by_ref().map(|(_, line)| line).take_while(|line| *line != "```").collect::<Vec<_>>();
            blocks.push(Block { line: number + 1, language, words: words.collect(), text: text.join("\n") });
        }
        blocks
    }

    /// Its lines outside of blocks, with their numbers.
    #[must_use]
    pub fn prose(&self) -> Vec<(usize, &str)> {
        let mut is_code = false;
        let mut prose = Vec::new();
        for (number, line) in self.text.lines().enumerate() {
            if line.starts_with("```") {
                is_code = !is_code;
            } else if !is_code {
                prose.push((number + 1, line));
            }
        }
        prose
    }

    /// The lines on which blocks begin that are told by indentation, which cannot say what is done with them.
    #[must_use]
    pub fn indented(&self) -> Vec<usize> {
        let prose = self.prose();
        let begins = |pair: &[(usize, &str)]| pair[0].1.trim().is_empty() && pair[1].1.starts_with("    ");
        prose.windows(2).filter(|pair| begins(pair)).map(|pair| pair[1].0).collect()
    }

    /// What stands between backquotes outside of blocks, on one line each.
    #[must_use]
    pub fn quoted(&self) -> Vec<String> {
        // A paragraph ends a quotation that was not ended, so that one slip does not turn the page inside out.
        let mut paragraphs = vec![String::new()];
        for (_, line) in self.prose() {
            match paragraphs.last_mut() {
                Some(last) if !line.trim().is_empty() => *last += &format!("{line}\n"),
                _ => paragraphs.push(String::new()),
            }
        }
        let quoted = |paragraph: &String| {
            let odd = paragraph.split('`').skip(1).step_by(2);
            odd.map(|text| text.split_whitespace().collect::<Vec<_>>().join(" ")).collect::<Vec<_>>()
        };
        paragraphs.iter().flat_map(quoted).collect()
    }

    /// What a page says to its tests alone, in a comment: `<!-- typed with: dev greeter -->`.
    #[must_use]
    pub fn note(&self, name: &str) -> Option<&str> {
        let opening = format!("<!-- {name}: ");
        let (_, rest) = self.text.split_once(&opening)?;
        rest.split_once(" -->").map(|(note, _)| note)
    }
}

/// A command, and what it writes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Typed {
    /// The command, of as many lines as the page has.
    pub command: String,
    /// What stands behind it.
    pub answer: Vec<String>,
}

impl Typed {
    /// Whether its next line still belongs to the command: after a `\`, or in the midst of a quotation.
    fn goes_on(&self) -> bool {
        let command = self.command.split(" # ").next().unwrap_or_default();
        self.answer.is_empty() && (command.ends_with('\\') || command.matches('\'').count() % 2 == 1)
    }
}

/// The commands of a block: of a `console` what stands behind `$ `, of any other every line.
#[must_use]
pub fn commands(block: &Block) -> Vec<Typed> {
    let mut commands = Vec::<Typed>::new();
    for line in block.text.lines() {
        let is_console = block.language == "console";
        let typed =
            if is_console { line.strip_prefix("$ ") } else { Some(line).filter(|line| !line.trim().is_empty()) };
        match (commands.last_mut(), typed) {
            (Some(last), _) if last.goes_on() => last.command += &format!("\n{line}"),
            (_, Some(line)) => commands.push(Typed { command: line.to_owned(), answer: Vec::new() }),
            (Some(last), None) if is_console => last.answer.push(line.to_owned()),
            _ => {}
        }
    }
    commands
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "# A\n<!-- typed with: dev -->\nSee `a\nb` and `c`.\n\n    no\n\n```console needs=x\n$ one \\\n    two '\n$ 3'\nthree\n$ four\n```\n\
                        - a\n\n  b\n```sh\nfive \\\n  six\n\nseven # it's\neight\n```\n";

    fn page() -> Page {
        Page { path: "a.md".into(), text: TEXT.into() }
    }

    #[test]
    fn a_page_is_taken_apart() {
        let page = page();
        let blocks = page.blocks();
        assert_eq!(blocks.iter().map(|block| block.language.as_str()).collect::<Vec<_>>(), ["console", "sh"]);
        assert_eq!((blocks[0].line, blocks[0].word("needs"), blocks[1].word("needs")), (8, Some("x"), None));
        assert_eq!(page.quoted(), ["a b", "c"]);
        assert_eq!(page.indented(), [6]);
        assert_eq!((page.note("typed with"), page.note("typed")), (Some("dev"), None));
    }

    #[test]
    fn commands_are_found() {
        let blocks = page().blocks();
        let typed = |command: &str, answer: &[&str]| Typed {
            command: command.to_owned(),
            answer: answer.iter().map(|line| (*line).to_owned()).collect(),
        };
        assert_eq!(commands(&blocks[0]), [typed("one \\\n    two '\n$ 3'", &["three"]), typed("four", &[])]);
        assert_eq!(
            commands(&blocks[1]),
            [typed("five \\\n  six", &[]), typed("seven # it's", &[]), typed("eight", &[])]
        );
    }

    #[test]
    fn the_book_is_found() {
        let pages = pages().unwrap();
        for path in ["README.md", "docs/tutorial.md", "docs/guides/errors.md"] {
            assert!(pages.iter().any(|page| page.path == path), "{path}");
        }
    }
}

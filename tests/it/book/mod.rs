//! The pages of the book: what stands in a block `console` is typed into a shell, one command after the other, and answers
//! what the page says. `CONTRIBUTING.md` says what is done with blocks of other languages; `rules` sees to it that each
//! has one. `alike` compares, `shell` types, `names` holds the tables to the code.

mod alike;
mod names;
mod rules;
mod shell;

use xtask::book::{Page, Typed, commands, page};

use self::alike::{Renamed, is_answer};
use self::shell::Shell;

#[derive(Debug, PartialEq)]
enum Step {
    /// A file that the reader is told to save.
    File { name: String, text: String },
    /// A command that the reader is told to type, and what it writes.
    Command { typed: Typed, needs: Option<String> },
}

/// What a page tells its reader to do.
fn steps(page: &Page) -> Vec<Step> {
    let mut steps = Vec::new();
    for block in page.blocks() {
        if let Some(name) = block.word("file") {
            steps.push(Step::File { name: name.to_owned(), text: block.text.clone() });
        }
        if block.language != "console" {
            continue;
        }
        let needs = block.word("needs").map(str::to_owned);
        steps.extend(commands(&block).into_iter().map(|typed| Step::Command { typed, needs: needs.clone() }));
    }
    steps
}

/// Takes every step of a page.
fn play(path: &str) {
    let page = page(path).expect("the page can be read");
    let mut shell = Shell::start();
    let mut renamed = Renamed::new();
    for before in page.note("typed with").unwrap_or_default().split_whitespace() {
        prepare(before, &mut shell);
    }
    for step in steps(&page) {
        match step {
            Step::File { name, text } => shell.save(&name, &text, &renamed),
            Step::Command { needs: Some(needs), .. } if !shell.has(&needs) => {}
            Step::Command { typed, .. } => take(&typed, &mut shell, &mut renamed, path),
        }
    }
}

/// Has what a reader has who comes to the page.
fn prepare(before: &str, shell: &mut Shell) {
    let lines: &[&str] = match before {
        "clone" => return shell.clone_project(),
        "greetings" => {
            let tutorial = page("docs/tutorial.md").expect("the page can be read").blocks();
            let file = tutorial.iter().find(|block| block.word("file") == Some("greetings.json"));
            return shell.save("greetings.json", &file.expect("the tutorial has it").text, &Renamed::new());
        }
        "dev" => &["phasework dev &"],
        "greeter" => &["PHASEWORK_URL=$PHASEWORK_API greeter-worker &", "hosted"],
        _ => panic!("a page is typed with {before}, whatever that is"),
    };
    for line in lines {
        assert_eq!(shell.type_in(line, &Renamed::new()).1, "0", "{line}\n{}", shell.background());
    }
}

/// Types a command, and compares. What only looks at something looks again for a while, as a reader would.
fn take(typed: &Typed, shell: &mut Shell, renamed: &mut Renamed, path: &str) {
    let (line, patience) = (&typed.command, if is_look(&typed.command) { LOOKS } else { 1 });
    let expected: Vec<_> = typed.answer.iter().map(|line| line.trim_end()).collect();
    // An empty line before the next command is for the eye.
    let expected = expected.strip_suffix(&[""]).unwrap_or(&expected);
    let (mut answer, mut code) = (String::new(), String::new());
    for _ in 0..patience {
        let written;
        (written, code) = shell.type_in(line, renamed);
        answer = written.join("\n");
        let written: Vec<_> = written.iter().map(String::as_str).collect();
        if code == "0" && (expected.is_empty() || is_answer(&written, expected, renamed)) {
            return;
        }
        shell.type_in("sleep 0.2", renamed);
    }
    let (expected, background) = (expected.join("\n"), shell.background());
    assert_eq!(code, "0", "{path}: `{line}` failed:\n{answer}\n\nin the background:\n{background}");
    panic!("{path}: `{line}` wrote\n{answer}\nand the page says\n{expected}");
}

/// How often a reader looks.
const LOOKS: usize = 50;

fn is_look(line: &str) -> bool {
    let looks = ["runs list", "runs show", "dead list", "workers", "status", "metrics", "doctor", "top"];
    let is_get = line.starts_with("curl -s ") && !line.contains(" -d ");
    is_get || looks.iter().any(|look| line.starts_with(&format!("phasework {look}")))
}

/// Makes a test of each page that is typed, and a list of them.
macro_rules! typed {
    ($($name:ident: $page:literal),* $(,)?) => {
        /// The pages that are typed.
        const TYPED: &[&str] = &[$($page),*];
        mod typed {
            $(#[test] fn $name() { super::play($page); })*
        }
    };
}

typed! {
    readme: "README.md",
    api: "docs/api.md",
    certify: "docs/certify.md",
    cli: "docs/cli.md",
    operations: "docs/operations.md",
    production: "docs/guides/production.md",
    tutorial: "docs/tutorial.md",
    wire_format: "docs/wire-format.md",
}

#[test]
fn every_page_with_commands_is_typed() {
    let has_commands = |page: &Page| page.blocks().iter().any(|block| block.language == "console");
    let pages = xtask::book::pages().expect("the book can be read");
    let mut expected: Vec<_> = pages.iter().filter(|page| has_commands(page)).map(|page| page.path.as_str()).collect();
    let mut typed = TYPED.to_vec();
    expected.sort_unstable();
    typed.sort_unstable();
    assert_eq!(typed, expected);
}

#[test]
fn a_page_is_read_as_steps() {
    let text =
        "```json file=a.json\n{}\n```\n```console needs=x\n$ one &\n$ two \\\n    more\nx …\n```\n```text\n$ no\n```\n";
    let page = Page { path: "a.md".into(), text: text.into() };
    let command = |line: &str, answer: &[&str]| {
        let answer = answer.iter().map(|line| (*line).to_owned()).collect();
        Step::Command { typed: Typed { command: line.to_owned(), answer }, needs: Some("x".to_owned()) }
    };
    let file = Step::File { name: "a.json".into(), text: "{}".into() };
    assert_eq!(steps(&page), [file, command("one &", &[]), command("two \\\n    more", &["x …"])]);
}

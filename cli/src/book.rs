//! What the book says of the command line is what the command line takes: every command in it can be read, every option
//! that it names exists, and so does every setting. Nothing is run: `tests/it/book` does that.

use std::collections::BTreeSet;
use std::path::Path;

use clap::error::ErrorKind;
use clap::{Command, CommandFactory as _, Parser as _};
use xtask::book::{Page, commands, page, pages, root};

use crate::args::Cli;
use crate::contexts::{ContextsFile, KEYS_OF_FILE};
use crate::settings;

/// Pages beside the book that show commands.
const BESIDES: [&str; 6] = [
    "ARCHITECTURE.md",
    "CONTRIBUTING.md",
    "docker-compose.yml",
    "examples/greeter/README.md",
    "examples/python/README.md",
    "examples/search/README.md",
];

/// Options of other programs.
const OF_OTHERS: [&str; 8] =
    ["--break", "--breaks", "--dir", "--lib", "--no-services", "--seeds", "--trace", "--workspace"];

/// The id of a run.
const RUN: &str = "0199a2b3-c4d5-7e6f-8a9b-0c1d2e3f4a5b";

/// What ends a command within a line of the shell.
const ENDS: [&str; 9] = ["|", "||", "&&", "&", ";", ">", ">>", "<", "2>"];

/// The commands of `phasework` in a line of the shell, each as its arguments.
fn phasework(line: &str) -> Vec<Vec<String>> {
    let mut found = Vec::new();
    // Those within another: `$(phasework …)` and `<(phasework …)`.
    let mut line = line.to_owned();
    while let Some(at) = line.find("(phasework ") {
        let end = line[at..].find(')').map_or(line.len(), |length| at + length);
        found.extend(phasework(&line[at + 1..end]));
        line.replace_range(at..end, "");
    }
    let Some(words) = shlex::split(&line) else { panic!("{line}: a quotation does not end") };
    let words = words.into_iter().flat_map(|word| match word.strip_suffix(';') {
        Some(word) => vec![word.to_owned(), ";".to_owned()],
        None => vec![word],
    });
    let words: Vec<_> = words.collect();
    let simple = words.split(|word| ENDS.contains(&word.as_str()));
    for mut words in simple {
        while words
            .first()
            .is_some_and(|word| is_assignment(word) || ["until", "while", "!", "do"].contains(&word.as_str()))
        {
            words = &words[1..];
        }
        if words.first().is_some_and(|word| word == "phasework") {
            found.push(words.to_vec());
        }
    }
    found
}

fn is_assignment(word: &str) -> bool {
    word.split_once('=').is_some_and(|(name, _)| name.chars().all(|c| c.is_ascii_uppercase() || c == '_'))
}

/// Why a command cannot be read. One that is only named need not be whole.
fn refusal(arguments: &[String], is_named: bool) -> Option<String> {
    use ErrorKind::{
        DisplayHelp, DisplayHelpOnMissingArgumentOrSubcommand, DisplayVersion, MissingRequiredArgument,
        MissingSubcommand,
    };
    // What stands for the id of a run.
    let is_run = |word: &str| ["ID", "RUN"].contains(&word) || word.starts_with('$');
    let arguments = arguments.iter().map(|word| if is_run(word) { RUN } else { word });
    let error = Cli::try_parse_from(arguments).err()?;
    let is_fine = match error.kind() {
        DisplayHelp | DisplayVersion => true,
        MissingRequiredArgument | MissingSubcommand | DisplayHelpOnMissingArgumentOrSubcommand => is_named,
        _ => false,
    };
    (!is_fine).then(|| error.to_string())
}

fn besides() -> Vec<Page> {
    BESIDES.iter().map(|path| page(path).unwrap()).collect()
}

#[test]
fn every_command_can_be_read() {
    let (mut count, mut wrong) = (0, Vec::new());
    for page in pages().unwrap().into_iter().chain(besides()) {
        let blocks = page.blocks();
        let shell = blocks.iter().filter(|block| ["console", "sh"].contains(&block.language.as_str()));
        let typed = shell.flat_map(commands).map(|typed| (typed.command.replace("\\\n", ""), false));
        let indented = page.prose().into_iter().map(|(_, line)| line);
        let indented = indented.filter(|line| line.starts_with("    ") && line.contains("phasework "));
        let indented = indented.map(|line| (line.trim_end_matches('\\').to_owned(), false));
        let named =
            page.quoted().into_iter().filter(|text| text.starts_with("phasework ") || text.contains(" phasework "));
        // Placeholders that stand for a command.
        let named = named.filter(|text| !text.contains("COMMAND") && !text.contains('…') && !text.contains('<'));
        for (line, is_named) in typed.chain(indented).chain(named.map(|text| (text, true))) {
            for arguments in phasework(&line) {
                count += 1;
                wrong.extend(refusal(&arguments, is_named).map(|why| format!("{}: {line}\n{why}", page.path)));
            }
        }
    }
    assert!(count > 150, "only {count} commands were found");
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// The long options of a command and of those below it.
fn options(command: &Command) -> BTreeSet<String> {
    let own = command.get_arguments().filter_map(|argument| Some(format!("--{}", argument.get_long()?)));
    own.chain(command.get_subcommands().flat_map(options)).collect()
}

#[test]
fn every_option_that_is_named_exists() {
    let mut program = Cli::command();
    program.build();
    let mut known = options(&program);
    known.extend(OF_OTHERS.map(str::to_owned));
    let mut count = 0;
    for page in pages().unwrap() {
        let quoted = page.quoted();
        let options = quoted.iter().filter(|text| text.starts_with("--"));
        for option in options {
            count += 1;
            let name = &option[..option.find([' ', '=', '[', ',']).unwrap_or(option.len())];
            assert!(known.contains(name), "{}: there is no option `{option}`", page.path);
        }
    }
    assert!(count > 30, "only {count} options were found");
}

#[test]
fn the_table_of_settings_has_each_with_its_flag_variable_and_default() {
    let operations = page("docs/operations.md").unwrap().text;
    let (_, part) = operations.split_once("### Of `serve`").unwrap();
    let (part, _) = part.split_once("### ").unwrap();
    let rows: Vec<_> = part.lines().filter(|line| line.starts_with("| `")).collect();
    let expected = settings::documented();
    assert_eq!(rows.len(), expected.len(), "{rows:?}");
    let mut program = Cli::command();
    program.build();
    let known = options(&program);
    for (row, (key, flag, variable, default)) in rows.iter().zip(&expected) {
        let names = format!("| `{key}` | `{flag}` | `{variable}` | ");
        assert!(row.starts_with(&names), "{row} does not begin with {names}");
        assert!(known.contains(flag), "{flag}");
        let cell = row[names.len()..].split('|').next().unwrap().trim();
        match default {
            Some(default) => assert_eq!(cell.trim_matches('`'), *default, "{row}"),
            None => assert!(!cell.starts_with('`'), "{row}"),
        }
    }
}

#[test]
fn exit_codes_are_those_that_the_program_tells() {
    let page = page("docs/cli.md").unwrap().text;
    let (_, part) = page.split_once("## Exit codes").unwrap();
    let (part, _) = part.split_once("\n## ").unwrap();
    let rows = part.lines().filter(|line| line.starts_with("| ") && !line.starts_with("| code"));
    let told: Vec<_> = rows.map(|row| row.trim_matches(['|', ' ']).replace(" | ", "  ")).collect();
    let help = Cli::command().get_after_help().unwrap().to_string();
    let (_, help) = help.split_once("Exit codes:\n").unwrap();
    assert_eq!(told, help.lines().map(str::trim).collect::<Vec<_>>());
}

#[test]
fn what_files_of_settings_say_is_taken() {
    let mut count = 0;
    for page in pages().unwrap() {
        for block in page.blocks().iter().filter(|block| block.language == "toml") {
            count += 1;
            let place = format!("{}:{}", page.path, block.line);
            let is_contexts = KEYS_OF_FILE.iter().any(|key| block.text.contains(key));
            let read = if is_contexts {
                ContextsFile::read(Path::new(&place), &block.text, None).map(drop)
            } else {
                settings::check_file(Path::new(&place), &block.text)
            };
            assert!(read.is_ok(), "{place}: {:?}", read.err().map(|failure| failure.message));
        }
    }
    assert!(count >= 2, "only {count} files were found");
}

#[test]
fn a_command_that_does_not_exist_is_found() {
    let check = |line: &str, is_named: bool, expected: bool| {
        let found = phasework(line);
        assert_eq!(found.len(), 1, "{line}: {found:?}");
        assert_eq!(refusal(&found[0], is_named).is_none(), expected, "{line}");
    };
    check("PHASEWORK_LOG=info phasework runs list --state live | jq .", false, true);
    check("RUN=$(phasework run a.json --key k)", false, true);
    check("until phasework status; do sleep 1; done", false, true);
    check("phasework runs lost", false, false);
    check("phasework runs list --stat live", false, false);
    check("phasework runs show  # what it is", true, true);
    check("phasework runs retry", false, false);
    check("phasework runs retry", true, true);
    assert!(root().join("docs").exists() && phasework("cargo run").is_empty());
}

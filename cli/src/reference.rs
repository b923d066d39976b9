//! The reference of the command line, made from the command line itself: what docs/cli.md has between its two marks.

use std::fmt::Write as _;

use clap::{Arg, Command};

/// The commands below one, each with its path and with what it takes and shows.
fn write_commands(command: &Command, path: &str, text: &mut String) {
    let below: Vec<_> = command.get_subcommands().filter(|command| command.get_name() != "help").collect();
    if below.is_empty() {
        write_command(command, path, text);
    }
    for command in below {
        write_commands(command, &format!("{path} {}", command.get_name()), text);
    }
}

fn write_command(command: &Command, path: &str, text: &mut String) {
    let about = command.get_about().map(ToString::to_string).unwrap_or_default();
    let own: Vec<_> = command.get_arguments().filter(|argument| is_own(argument)).collect();
    let mut line = |line: String| writeln!(text, "{line}").expect("writing to memory");
    line(format!("\n### {path}\n\n{about}.\n"));
    for argument in own.iter().filter(|argument| argument.is_positional()) {
        line(format!("- `{}`: {}", positional(argument), help(argument)));
    }
    for argument in own.iter().filter(|argument| !argument.is_positional()) {
        line(format!("- `{}`: {}", option(argument), help(argument)));
    }
    if let Some(after) = command.get_after_help() {
        let after = after.to_string();
        let (before, examples) = after.split_once("Examples:\n").unwrap_or((&after, ""));
        let (examples, behind) = examples.split_once("\n\n").unwrap_or((examples, ""));
        let gap = if own.is_empty() { "" } else { "\n" };
        let examples = examples.lines().map(|line| example(line.trim_start())).collect::<String>();
        line(format!("{gap}```sh\n{examples}```"));
        for prose in [before, behind].iter().filter(|prose| !prose.is_empty()) {
            line(format!("\n{}", prose.trim_end()));
        }
    }
}

/// An example on a line of its own. What stands behind two spaces says what it does.
fn example(line: &str) -> String {
    match line.split_once("  ") {
        Some((command, words)) => format!("{command}  # {}\n", words.trim_start()),
        None => format!("{line}\n"),
    }
}

/// Whether an argument belongs to a command and not to many.
fn is_own(argument: &Arg) -> bool {
    let shared = ["help", "version", "output", "watch"];
    let heading = argument.get_help_heading();
    !argument.is_hide_set()
        && !argument.is_global_set()
        && heading != Some("Server")
        && !shared.contains(&argument.get_id().as_str())
}

fn positional(argument: &Arg) -> String {
    argument.to_string()
}

fn option(argument: &Arg) -> String {
    let long = argument.to_string();
    match argument.get_short() {
        Some(short) if !long.starts_with(&format!("-{short}")) => format!("-{short}, {long}"),
        _ => long,
    }
}

fn help(argument: &Arg) -> String {
    let mut help = argument.get_help().map(ToString::to_string).unwrap_or_default();
    let possible: Vec<_> = argument.get_possible_values().iter().map(|value| value.get_name().to_owned()).collect();
    if !possible.is_empty() && argument.get_action().takes_values() {
        write!(help, " ({})", possible.join(", ")).expect("writing to memory");
    }
    let defaults: Vec<_> = argument.get_default_values().iter().map(|value| value.to_string_lossy()).collect();
    if !defaults.is_empty() && argument.get_action().takes_values() {
        write!(help, "; {} if not given", defaults.join(" ")).expect("writing to memory");
    }
    help
}

/// Between these two the page is made by a test.
const MARKS: [&str; 2] = ["<!-- commands: made from the command line -->\n", "<!-- end of commands -->\n"];

#[test]
fn the_reference_has_every_command_as_it_is() {
    use clap::CommandFactory as _;
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/cli.md");
    let page = std::fs::read_to_string(&path).unwrap();
    let (before, rest) = page.split_once(MARKS[0]).expect("the page has a mark where commands begin");
    let (is, after) = rest.split_once(MARKS[1]).expect("the page has a mark where commands end");
    let mut program = crate::args::Cli::command();
    program.build();
    let mut expected = String::new();
    write_commands(&program, "phasework", &mut expected);
    if is != expected && std::env::var_os("PHASEWORK_WRITE_DOCS").is_some() {
        std::fs::write(&path, [before, MARKS[0], &expected, MARKS[1], after].concat()).unwrap();
        return;
    }
    assert!(
        is == expected,
        "docs/cli.md is behind the command line; PHASEWORK_WRITE_DOCS=1 cargo test -p phasework writes it"
    );
}

//! `cargo xtask new-handler`: a small crate to begin with: one handler, its tests, a workflow. A copy of
//! `examples/greeter`, which the tests build and run, with another name.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{ExitCode, Stdio};

use anyhow::{Context as _, Result, bail};
use xtask::tied::Tied;

use crate::beside::politely;

/// Where everything is.
const ROOT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/..");

/// Where the new crate finds the SDK.
const SDK: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../handler-sdk");

/// The files of the template, but for its manifest.
const FILES: [(&str, &str); 5] = [
    ("src/lib.rs", include_str!("../../examples/greeter/src/lib.rs")),
    ("src/main.rs", include_str!("../../examples/greeter/src/main.rs")),
    ("tests/greeter.rs", include_str!("../../examples/greeter/tests/greeter.rs")),
    ("workflow.json", include_str!("../../examples/greeter/workflow.json")),
    ("README.md", include_str!("../../examples/greeter/README.md")),
];

/// What it may be told.
#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// The handler's name, such as `PageDownloader`
    name: String,
    /// The folder to make; the name, in lower case, here unless said otherwise
    #[arg(long)]
    dir: Option<PathBuf>,
}

/// Writes the crate, and says what to do next.
pub(crate) fn run(arguments: &Arguments) -> Result<ExitCode> {
    let names = Names::of(&arguments.name)?;
    let dir = arguments.dir.clone().unwrap_or_else(|| PathBuf::from(&names.package));
    write(&names, &dir)?;
    let shown = dir.display();
    println!("{shown} is there. Next: write your handler in {shown}/src/lib.rs, and try it:");
    println!("    cd {shown} && cargo test");
    Ok(ExitCode::SUCCESS)
}

/// Begins to build such a crate, as its test will, so that the test finds compiled what the crate is built with. What
/// comes of it is for the test to say.
pub(crate) fn build_beside() -> Result<Tied> {
    let target = fs::canonicalize(ROOT).context("this has to run where it was built")?.join("target/new-handler");
    let dir = target.join("template");
    if dir.exists() {
        fs::remove_dir_all(&dir).with_context(|| format!("cannot remove {}", dir.display()))?;
    }
    write(&Names::of("Template")?, &dir)?;
    fs::copy(Path::new(ROOT).join("Cargo.lock"), dir.join("Cargo.lock")).context("cannot copy Cargo.lock")?;
    let mut cargo = politely();
    cargo.arg(env!("CARGO")).args(["test", "--no-run", "--offline"]).current_dir(&dir);
    cargo.envs([("CARGO_PROFILE_DEV_DEBUG", "0"), ("CARGO_INCREMENTAL", "0")]).env_remove("RUSTFLAGS");
    cargo.env("CARGO_TARGET_DIR", &target).stdout(Stdio::null()).stderr(Stdio::null());
    Tied::spawn(&mut cargo).context("cannot run cargo")
}

/// The handler's name, in each place where it stands.
struct Names {
    handler: String,
    package: String,
    library: String,
}

impl Names {
    fn of(name: &str) -> Result<Self> {
        let is_good = name.len() <= 60
            && name.starts_with(|c: char| c.is_ascii_alphabetic())
            && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '-' || c == '_');
        if !is_good {
            bail!("`{name}` is no name for a handler here: a letter, then letters, digits, `-` and `_`, 60 at most");
        }
        let mut package = String::new();
        for (place, c) in name.char_indices() {
            let after = &name[..place];
            if c.is_ascii_uppercase() && after.ends_with(|c: char| c.is_ascii_lowercase() || c.is_ascii_digit()) {
                package.push('-');
            }
            package.push(if c == '_' { '-' } else { c.to_ascii_lowercase() });
        }
        let library = package.replace('-', "_");
        Ok(Self { handler: name.to_owned(), package, library })
    }

    /// A text of the template, with these names.
    fn in_text(&self, text: &str) -> String {
        let text = text.replace("Greeter", &self.handler);
        let text = text.replace("tests/greeter.rs", &format!("tests/{}.rs", self.library));
        text.replace("\"greeter\"", &format!("\"{}\"", self.package))
            .replace("greeter::", &format!("{}::", self.library))
    }
}

fn write(names: &Names, dir: &Path) -> Result<()> {
    if dir.exists() {
        bail!("{} is there already", dir.display());
    }
    for (path, text) in FILES {
        put(&dir.join(names.in_text(path)), &names.in_text(text))?;
    }
    put(&dir.join("Cargo.toml"), &manifest(names)?)
}

/// A manifest of its own: the template's leans on the workspace.
fn manifest(names: &Names) -> Result<String> {
    let sdk =
        fs::canonicalize(SDK).with_context(|| format!("{SDK} is not there: this has to run where it was built"))?;
    let Names { package, library, .. } = names;
    Ok(format!(
        r#"[package]
name = "{package}"
version = "0.1.0"
edition = "2024"
publish = false

[lib]
name = "{library}"

[[bin]]
name = "{package}-worker"
path = "src/main.rs"

[dependencies]
phasework-sdk = {{ path = {sdk:?} }}
serde = {{ version = "1", features = ["derive"] }}
tokio = {{ version = "1", features = ["macros", "rt-multi-thread"] }}

[dev-dependencies]
serde_json = "1"

# A workspace of its own, wherever it lies.
[workspace]
"#
    ))
}

fn put(path: &Path, text: &str) -> Result<()> {
    let folder = path.parent().unwrap_or(Path::new("."));
    fs::create_dir_all(folder).with_context(|| format!("cannot make {}", folder.display()))?;
    fs::write(path, text).with_context(|| format!("cannot write {}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_fit_their_places() {
        for (name, package, library) in [
            ("PageDownloader", "page-downloader", "page_downloader"),
            ("mail", "mail", "mail"),
            ("HTTPGet2Xml", "httpget2-xml", "httpget2_xml"),
            ("send_Mail", "send-mail", "send_mail"),
        ] {
            let names = Names::of(name).unwrap();
            assert_eq!((names.package.as_str(), names.library.as_str()), (package, library));
        }
        for wrong in ["", "7up", "a b", "é", &"a".repeat(61)] {
            assert!(Names::of(wrong).is_err(), "{wrong}");
        }
        let names = Names::of("PageDownloader").unwrap();
        assert_eq!(
            names.in_text("use greeter::Input; // \"Greeter\""),
            "use page_downloader::Input; // \"PageDownloader\""
        );
    }
}

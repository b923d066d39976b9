//! What the example workers in other languages need to be run by the tests: their libraries, in a directory under
//! `target`, from what stands beside the workers. Nothing of this machine's own is changed.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, bail};

use crate::install::{self, Needed};

/// Where tests look for the libraries of the workers in Python.
pub const PYTHON_LIBRARIES: &str = "PHASEWORK_TEST_PYTHON_LIBRARIES";

/// Where tests look for the worker in TypeScript, compiled.
pub const TYPESCRIPT_WORKER: &str = "PHASEWORK_TEST_TYPESCRIPT_WORKER";

/// Python 3.10 or later, and what installs libraries for it.
const PYTHON: [Needed; 2] = [
    Needed { program: "python3", package: "python3", first: &[], otherwise: "install Python 3.10 or later" },
    Needed { program: "pip3", package: "python3-pip", first: &[], otherwise: "install pip for Python 3" },
];

/// Node 18 or later, and what installs libraries for it.
const NODE: [Needed; 2] = [
    Needed { program: "node", package: "nodejs", first: &[], otherwise: "install Node.js 18 or later" },
    Needed { program: "npm", package: "npm", first: &[], otherwise: "install npm" },
];

/// The libraries, where they are.
pub struct Languages {
    python: PathBuf,
    typescript: PathBuf,
}

impl Languages {
    /// Brings what is not there yet.
    pub fn prepare(workspace: &Path) -> Result<Self> {
        let (from, to) = (workspace.join("examples"), workspace.join("target/languages"));
        std::fs::create_dir_all(&to).with_context(|| format!("cannot make {}", to.display()))?;
        let (python, typescript) = (to.join("python"), to.join("typescript"));
        prepare_python(&from.join("python/requirements.txt"), &python)?;
        prepare_typescript(&from.join("typescript"), &typescript)?;
        Ok(Self { python, typescript: typescript.join("dist/worker.js") })
    }

    /// Tells `command` where they are.
    pub fn announce_to(&self, command: &mut Command) {
        command.env(PYTHON_LIBRARIES, &self.python).env(TYPESCRIPT_WORKER, &self.typescript);
    }
}

fn prepare_python(requirements: &Path, to: &Path) -> Result<()> {
    // What was brought for other requirements is brought again.
    let wanted = read(requirements)?;
    let brought = to.join("requirements.txt");
    if std::fs::read(&brought).is_ok_and(|brought| brought == wanted) {
        return Ok(());
    }
    eprintln!("xtask: fetching what the workers in Python import");
    let mut pip = Command::new(install::find_or_install(&PYTHON)?.remove(0));
    pip.args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--root-user-action=ignore"]);
    run(pip.args(["--upgrade", "--target"]).arg(to).arg("-r").arg(requirements), "pip")?;
    write(&brought, &wanted)
}

/// A copy of the worker, so that nothing is written beside the original; compiled, which also checks its types.
fn prepare_typescript(from: &Path, to: &Path) -> Result<()> {
    let files = [".npmrc", "package.json", "package-lock.json", "tsconfig.json", "handlers.ts", "jobs.ts", "worker.ts"];
    let files = files.map(|name| (name, from.join(name)));
    let texts = files.iter().map(|(_, path)| read(path)).collect::<Result<Vec<_>>>()?;
    let is_brought = |(name, _): &(&str, _), text: &Vec<u8>| std::fs::read(to.join(name)).is_ok_and(|it| it == *text);
    if to.join("dist/worker.js").exists() && files.iter().zip(&texts).all(|(file, text)| is_brought(file, text)) {
        return Ok(());
    }
    eprintln!("xtask: fetching what the worker in TypeScript is compiled with");
    let npm = install::find_or_install(&NODE)?.remove(1);
    std::fs::create_dir_all(to).with_context(|| format!("cannot make {}", to.display()))?;
    for ((name, _), text) in files.iter().zip(&texts) {
        write(&to.join(name), text)?;
    }
    run(Command::new(&npm).args([OsStr::new("ci"), OsStr::new("--silent")]).current_dir(to), "npm ci")?;
    run(Command::new(&npm).args(["run", "--silent", "build"]).current_dir(to), "tsc")
}

fn read(path: &Path) -> Result<Vec<u8>> {
    std::fs::read(path).with_context(|| format!("cannot read {}", path.display()))
}

fn write(path: &Path, text: &[u8]) -> Result<()> {
    std::fs::write(path, text).with_context(|| format!("cannot write {}", path.display()))
}

fn run(command: &mut Command, name: &str) -> Result<()> {
    let status = command.status().with_context(|| format!("cannot run {name}"))?;
    if !status.success() {
        bail!("{name} has failed ({status})");
    }
    Ok(())
}

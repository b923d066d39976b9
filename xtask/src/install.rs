//! Finds RabbitMQ and Redis on this machine, and installs them where that is one command: with apt-get, as root or
//! with sudo, saying so. It never starts, stops or configures what it finds.

use std::ffi::OsString;
use std::io::IsTerminal as _;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Result, bail};

/// A program the services need.
#[derive(Clone, Copy)]
pub struct Needed {
    /// Its file name.
    pub program: &'static str,
    /// The package it comes in, on Debian and Ubuntu.
    pub package: &'static str,
    /// Where it is besides `PATH`; these come first.
    pub first: &'static [&'static str],
    /// What to do without apt-get.
    pub otherwise: &'static str,
}

/// The file of each of the programs, in their order. Installs what is missing where it can.
pub fn find_or_install(needed: &[Needed]) -> Result<Vec<PathBuf>> {
    let missing: Vec<&Needed> = needed.iter().filter(|needed| find(needed).is_none()).collect();
    if !missing.is_empty() {
        let packages: Vec<&str> = missing.iter().map(|needed| needed.package).collect();
        match apt_get() {
            Some(apt_get) => install(&apt_get, &packages)?,
            None => bail!("{}", words(&missing)),
        }
    }
    let mut found = Vec::new();
    for needed in needed {
        match find(needed) {
            Some(file) => found.push(file),
            None => bail!("apt-get has not brought it.\n{}", words(&[needed])),
        }
    }
    Ok(found)
}

/// The first executable file of that name: in the known places, then on `PATH`.
fn find(needed: &Needed) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let known = needed.first.iter().map(PathBuf::from);
    known.chain(on_path(needed.program, &path)).find(|file| is_executable(file))
}

/// The program on this machine's `PATH`.
pub fn find_on_path(program: &str) -> Option<PathBuf> {
    on_path(program, &std::env::var_os("PATH").unwrap_or_default()).find(|file| is_executable(file))
}

/// Where the program could be; the places for administrators are often not on a user's `PATH`.
fn on_path(program: &str, path: &OsString) -> impl Iterator<Item = PathBuf> {
    let more = ["/usr/sbin", "/usr/local/sbin", "/opt/homebrew/bin", "/opt/homebrew/sbin"].map(PathBuf::from);
    let all: Vec<PathBuf> = std::env::split_paths(path).chain(more).map(|directory| directory.join(program)).collect();
    all.into_iter()
}

fn is_executable(file: &Path) -> bool {
    file.metadata().is_ok_and(|metadata| metadata.is_file() && metadata.permissions().mode() & 0o111 != 0)
}

/// The beginning of a command line that may install packages, if there is one: apt-get for root, sudo apt-get for others.
fn apt_get() -> Option<Vec<&'static str>> {
    find_on_path("apt-get")?;
    // The owner of a process's own entry is the user it acts for.
    if Path::new("/proc/self").metadata().is_ok_and(|entry| entry.uid() == 0) {
        return Some(vec!["apt-get"]);
    }
    find_on_path("sudo")?;
    // Without a terminal nobody could type a password. The variable would not get through by itself.
    let with_password = if std::io::stdin().is_terminal() { &[][..] } else { &["-n"] };
    Some([&["sudo"], with_password, &["env", "DEBIAN_FRONTEND=noninteractive", "apt-get"]].concat())
}

fn install(apt_get: &[&str], packages: &[&str]) -> Result<()> {
    let line = apt_get.join(" ");
    eprintln!("xtask: not on this machine: {}. Installing with `{line} install`.", packages.join(", "));
    eprintln!("xtask: the tests start instances of their own; a service that the package starts is not used.");
    let options = ["--quiet", "--yes", "-o", "DPkg::Lock::Timeout=300"];
    // An update that could not reach one of several sources can still be enough, and so can an install in which only
    // starting the packaged service failed. Whether the programs are there is what counts.
    for (verb, packages) in [("update", &[][..]), ("install", packages)] {
        let mut command = Command::new(apt_get[0]);
        command.args(&apt_get[1..]).args(options).arg(verb);
        if verb == "install" {
            command.arg("--no-install-recommends").args(packages);
        }
        command.env("DEBIAN_FRONTEND", "noninteractive");
        if apt_get.len() == 1 {
            command.stdin(Stdio::null());
        }
        let status = command.status()?;
        if !status.success() {
            eprintln!("xtask: `{line} {verb}` ended with {status}; going on to see what is there");
        }
    }
    Ok(())
}

fn words(missing: &[&Needed]) -> String {
    let mut words = String::from("The tests run on a real RabbitMQ and a real Redis, and this is missing:\n");
    for needed in missing {
        words += &format!("  {}: {}\n", needed.program, needed.otherwise);
    }
    words += "Or point PHASEWORK_TEST_BROKER_URL and PHASEWORK_TEST_STORE_URL at running ones (their content is lost),\n\
              or leave them out with --no-services.";
    words
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_executable_files_in_the_order_of_the_path() {
        let root = crate::tied::Directory::create(false).unwrap();
        let file = |directory: &str, mode: u32| {
            let file = root.path().join(directory).join("thing");
            std::fs::create_dir_all(file.parent().unwrap()).unwrap();
            std::fs::write(&file, "").unwrap();
            std::fs::set_permissions(&file, std::fs::Permissions::from_mode(mode)).unwrap();
            file
        };
        file("plain", 0o644);
        let (second, third) = (file("second", 0o755), file("third", 0o755));
        let check = |directories: &[&str], want: Option<&PathBuf>| {
            let path = std::env::join_paths(directories.iter().map(|directory| root.path().join(directory))).unwrap();
            let found = on_path("thing", &path).find(|file| is_executable(file));
            assert_eq!(found.as_ref(), want, "{directories:?}");
        };
        check(&["plain"], None);
        check(&["absent", "plain", "second", "third"], Some(&second));
        check(&["third", "second"], Some(&third));
        check(&[""], None);
    }

    #[test]
    fn says_what_to_install() {
        let needed = Needed { program: "thing", package: "things", first: &[], otherwise: "get a thing" };
        let said = words(&[&needed]);
        for part in ["thing: get a thing", "PHASEWORK_TEST_BROKER_URL", "--no-services"] {
            assert!(said.contains(part), "{part} in {said}");
        }
    }
}

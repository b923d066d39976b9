//! What `cargo xtask new-handler` makes is a crate that builds, and whose tests pass.

#![expect(clippy::unwrap_used, reason = "all of this file is tests")]

use std::path::Path;
use std::process::{Command, Output};

fn run(command: &mut Command) -> Output {
    let output = command.output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?}\n{said}\n{}", String::from_utf8_lossy(&output.stdout));
    output
}

#[test]
fn a_new_handler_builds_and_passes_its_tests() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let folder = tempfile::tempdir().unwrap();
    let dir = folder.path().join("mine");
    let xtask = || {
        let mut xtask = Command::new(env!("CARGO_BIN_EXE_xtask"));
        xtask.args(["new-handler", "PageCounter", "--dir"]).arg(&dir);
        xtask
    };
    run(&mut xtask());
    let again = xtask().output().unwrap();
    assert!(
        !again.status.success() && String::from_utf8_lossy(&again.stderr).contains("is there already"),
        "{again:?}"
    );
    // What the workspace is built with will do, and is at hand.
    std::fs::copy(root.join("Cargo.lock"), dir.join("Cargo.lock")).unwrap();
    let mut cargo = Command::new(env!("CARGO"));
    let cargo =
        cargo.current_dir(&dir).args(["test", "--offline"]).env("CARGO_TARGET_DIR", root.join("target/new-handler"));
    let cargo = cargo.env("CARGO_PROFILE_DEV_DEBUG", "0").env("CARGO_INCREMENTAL", "0").env_remove("RUSTFLAGS");
    let output = run(cargo);
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(said.contains("test it_does_its_job ... ok") && said.contains("4 passed"), "{said}");
    assert!(!said.to_lowercase().contains("greeter"), "{said}");
    for entry in ["src/lib.rs", "src/main.rs", "tests/page_counter.rs", "workflow.json"] {
        let text = std::fs::read_to_string(dir.join(entry)).unwrap();
        assert!(!text.contains("reeter"), "{entry}: {text}");
    }
}

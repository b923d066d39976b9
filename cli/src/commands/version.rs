//! `phasework version`: what this program is, and which wire protocol and state format it speaks.

use clap::Args;
use serde_json::json;

use crate::failure::{Exit, Outcome};
use crate::output::{Format, say, say_json};
use crate::session::{Form, Session};

const EXAMPLES: &str = "\
Examples:
  phasework version
  phasework version --output json | jq .protocol";

/// Print the version
#[derive(Args, Debug)]
#[command(after_help = EXAMPLES)]
pub(crate) struct VersionArgs {
    #[command(flatten)]
    form: Form,
}

/// Prints the version.
pub(crate) fn run(args: &VersionArgs, session: &Session) -> Outcome {
    let version = env!("CARGO_PKG_VERSION");
    let protocol = phasework_workflows::message::PROTOCOL;
    let state_format = phasework_workflows::run::STATE_FORMAT;
    match session.format(&args.form)? {
        Format::Table => {
            say(&format!("phasework {version}\nwire protocol {protocol}, state format {state_format}\n"))?;
        }
        format => say_json(
            &json!({ "name": "phasework", "version": version, "protocol": protocol, "state_format": state_format }),
            format,
        )?,
    }
    Ok(Exit::Good)
}

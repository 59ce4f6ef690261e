//! `bfb schema`: the JSON Schema of a domain file, for editors.

use std::process::ExitCode;

use super::exit;
use crate::domain;

pub(super) fn run() -> ExitCode {
    print!("{}", domain::SCHEMA);
    exit::OK
}

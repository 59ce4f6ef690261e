//! `bfb schema`: the JSON Schema of a domain file, for editors.

use std::process::ExitCode;

use super::out;
use crate::domain;

pub(super) fn run() -> ExitCode {
    out::print(domain::SCHEMA.trim_end())
}

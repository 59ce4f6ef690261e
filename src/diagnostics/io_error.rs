//! Why a file cannot be read, for people.

use std::io::{self, ErrorKind};

/// An I/O error in words, lower case.
pub(crate) fn io_error_text(error: &io::Error) -> String {
    if let Some(ours) = error.get_ref() {
        return ours.to_string();
    }
    match error.kind() {
        ErrorKind::NotFound => "it does not exist".into(),
        ErrorKind::PermissionDenied => "permission denied".into(),
        ErrorKind::InvalidData => "it is not UTF-8 text".into(),
        kind => kind.to_string(),
    }
}

/// The hint for an I/O error.
pub(crate) fn io_error_hint(error: &io::Error) -> &'static str {
    match error.kind() {
        ErrorKind::NotFound => "check its name, and that it is mounted here",
        ErrorKind::PermissionDenied => {
            "let this process's user read it, and search the folders above it"
        }
        ErrorKind::InvalidData => "check that it is the right file, and save it as UTF-8",
        ErrorKind::InvalidInput => {
            "name a file that can be read again and again; symbolic links are followed"
        }
        ErrorKind::Interrupted | ErrorKind::TimedOut | ErrorKind::WouldBlock => "try again",
        _ => "look at it with `ls -lL`, as this process's user",
    }
}

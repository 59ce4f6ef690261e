//! The errors of the identity's files. A text names the file, the value found and the value
//! expected; it never quotes a key.

use std::path::Path;

use rustls::pki_types::pem;

use super::IdentityError;
use super::certificate::escape_bounded;

/// Names the PEM blocks that a file does hold.
pub(super) fn describe_pem_blocks(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(bytes);
    let labels = text
        .lines()
        .filter_map(|line| line.strip_prefix("-----BEGIN ")?.trim_end().strip_suffix("-----"));
    let labels: Vec<_> =
        labels.take(3).map(|label| format!("`{}`", escape_bounded(label))).collect();
    match labels.is_empty() {
        _ if bytes.is_empty() => "the file is empty".to_owned(),
        true => "no PEM block".to_owned(),
        false => format!("holds {}", labels.join(", ")),
    }
}

pub(super) fn malformed_pem_error(
    path: &Path,
    error: &pem::Error,
    expected: &str,
) -> IdentityError {
    let defect = match error {
        pem::Error::MissingSectionEnd { .. } => {
            "a PEM block has no end (is the file half-written?)"
        }
        pem::Error::IllegalSectionStart { .. } => "a PEM block begins wrongly",
        pem::Error::Base64Decode(_) => "a PEM block is not base64",
        _ => "not PEM",
    };
    file_error(path, &format!("{defect}; expected {expected}"))
}

pub(super) fn file_error(path: &Path, what: &str) -> IdentityError {
    IdentityError { message: format!("`{}`: {what}", path.display()), is_missing: false }
}

//! The layout that all parts of the text share: signs, folded lines, findings, certificates.

use std::fmt::Write as _;
use std::time::SystemTime;

use owo_colors::OwoColorize as _;

use super::super::findings::{Finding, FindingLevel};
use super::super::report::CertificateReport;
use super::super::units::span;

/// How far the lines below a source are indented.
const INDENT: &str = "    ";

/// The sign before a line whose worst finding is of this level.
pub(super) fn level_sign(level: Option<FindingLevel>) -> String {
    match level {
        Some(FindingLevel::Error) => "✗".red().bold().to_string(),
        Some(FindingLevel::Warning) => "!".yellow().bold().to_string(),
        _ => "✓".green().to_string(),
    }
}

/// The name that was expected where the certificate carries it, else those that it carries.
pub(super) fn certificate_identity(certificate: &CertificateReport, expected: &str) -> String {
    match certificate.names.iter().find(|name| name.as_str() == expected) {
        Some(name) => format!("is {name}"),
        None if certificate.names.is_empty() => "has no name".to_owned(),
        None => format!(
            "is {}",
            certificate.names.iter().take(3).cloned().collect::<Vec<_>>().join(" or ")
        ),
    }
}

/// How long a certificate is still valid.
pub(super) fn expires_in(certificate: &CertificateReport) -> String {
    certificate.ends.duration_since(SystemTime::now()).map_or_else(|_| "expired".to_owned(), span)
}

/// Writes findings, the worst first, each with the name that it is about.
pub(super) fn draw_findings(text: &mut String, mut findings: Vec<(Option<&str>, &Finding)>) {
    findings.sort_by_key(|(_, finding)| finding.level);
    for (source, finding) in findings {
        let level = match finding.level {
            FindingLevel::Error => "error:".red().bold().to_string(),
            FindingLevel::Warning => "warning:".yellow().bold().to_string(),
            FindingLevel::Note => "note:".dimmed().to_string(),
        };
        let source = source.map(|source| format!("{source}: ")).unwrap_or_default();
        let expected =
            finding.expected.as_ref().map(|it| format!("; expected {it}")).unwrap_or_default();
        let _ = writeln!(text, "{level} {source}{}{expected}", finding.met);
        if let Some(hint) = &finding.hint {
            let _ = writeln!(text, "  {} {hint}", "hint:".cyan());
        }
    }
}

/// Writes `words` with commas between them, indented, on as few lines as fit.
pub(super) fn write_folded(
    text: &mut String,
    words: impl IntoIterator<Item = String>,
    width: usize,
) {
    let mut line = String::new();
    for word in words.into_iter().filter(|word| !word.is_empty()) {
        if line.is_empty() {
            line = word;
        } else if INDENT.len() + line.chars().count() + 2 + word.chars().count() < width {
            line = format!("{line}, {word}");
        } else {
            let _ = writeln!(text, "{INDENT}{line},");
            line = word;
        }
    }
    if !line.is_empty() {
        let _ = writeln!(text, "{INDENT}{line}");
    }
}

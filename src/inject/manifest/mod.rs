//! Manifests: the text of YAML or JSON files in, the same with sidecars out.
//!
//! What is not added is not touched: every byte of the text, comments, blanks and all, is in the
//! result, in its order. The text is read again afterwards, and is handed out only if it says
//! exactly what was meant. What cannot be written without guessing is refused with its place.

mod cut;
mod edit;
mod error;
mod json_value;
mod kinds;
mod lenient;
mod rewrite;
mod splice;
mod tree;
mod write;

use std::path::Path as FilePath;

use serde_json::Value;

use super::decide::SkipReason;
use super::pod_annotations::Defaults;
use crate::diagnostics::Problem;
use rewrite::ManifestRewriter;
use tree::ManifestDocument;

/// The largest file, in bytes.
pub const FILE_MAX_BYTES: usize = 32 << 20;

/// What is done to the pods of a manifest.
#[derive(Debug, Clone, Copy)]
pub enum RewriteMode<'a> {
    /// They get sidecars.
    Inject(&'a Defaults),
    /// Their sidecars are taken away.
    Uninject,
}

/// A manifest, rewritten.
#[derive(Debug, Clone)]
pub struct RewrittenManifest {
    /// The text.
    pub text: String,
    /// Each pod template in it, and what became of it.
    pub pods: Vec<PodReport>,
    /// What asks for a sidecar and is passed as it is, since its kind is not known.
    pub unknown_kinds: Vec<Problem>,
}

/// A pod template of a manifest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PodReport {
    /// Whose it is: `Deployment shop/web`.
    pub owner: String,
    /// What became of it.
    pub outcome: PodOutcome,
}

/// What became of a pod template.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PodOutcome {
    /// It has a sidecar now, with these domains.
    Injected(Vec<String>),
    /// It has none any more.
    Uninjected,
    /// It had none to take away.
    HadNone,
    /// It is as it was.
    Skipped(SkipReason),
}

/// The value of each document of `text`, as Kubernetes would read it.
pub fn documents(file: &FilePath, text: &str) -> Result<Vec<Value>, Vec<Problem>> {
    let documents = read_documents(file, text)?;
    let value = |document: &ManifestDocument| {
        json_value::to_json(document).map_err(|error| vec![error.into_problem(file, text)])
    };
    documents.iter().map(value).collect()
}

/// Does `work` to every pod template of `text`, or says everything that is in its way.
pub fn rewrite(
    file: &FilePath,
    text: &str,
    mode: RewriteMode<'_>,
) -> Result<RewrittenManifest, Vec<Problem>> {
    let documents = read_documents(file, text)?;
    let mut rewriting = ManifestRewriter::new(file, text);
    for document in &documents {
        rewriting.rewrite_document(document, mode);
    }
    rewriting.finish()
}

fn read_documents(file: &FilePath, text: &str) -> Result<Vec<ManifestDocument>, Vec<Problem>> {
    tree::read(text).map_err(|error| vec![error.into_problem(file, text)])
}

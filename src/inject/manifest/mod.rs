//! Manifests: adds sidecars to the pods in the text of a YAML or JSON file, and removes them again.
//!
//! Injection only inserts: every byte of the original text, also of comments and blanks, stands in
//! the result, in the same order. The result is parsed again, and returned only if its value is the
//! one that was decided on. A place into which nothing can be inserted without guessing is a
//! problem with its line and column.

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

/// The change that is made to the pods of a manifest.
#[derive(Debug, Clone, Copy)]
pub enum RewriteMode<'a> {
    /// Pods get sidecars, by these defaults.
    Inject(&'a Defaults),
    /// Sidecars are removed.
    Uninject,
}

/// A rewritten manifest.
#[derive(Debug, Clone)]
pub struct RewrittenManifest {
    /// The text.
    pub text: String,
    /// The pod templates in it, each with its outcome.
    pub pods: Vec<PodReport>,
    /// Warnings about objects that ask for a sidecar and stay unchanged, since their kind is not
    /// known.
    pub unknown_kinds: Vec<Problem>,
}

/// A pod template of a manifest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PodReport {
    /// The object that holds it: `Deployment shop/web`.
    pub owner: String,
    /// Its outcome.
    pub outcome: PodOutcome,
}

/// The outcome of a pod template.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PodOutcome {
    /// A sidecar with these domains was added.
    Injected(Vec<String>),
    /// Its sidecar was removed.
    Uninjected,
    /// It had no sidecar to remove.
    HadNone,
    /// It stays unchanged.
    Skipped(SkipReason),
}

/// The value of each document of `text`, as Kubernetes would parse it.
pub fn documents(file: &FilePath, text: &str) -> Result<Vec<Value>, Vec<Problem>> {
    let documents = read_documents(file, text)?;
    let value = |document: &ManifestDocument| {
        json_value::to_json(document).map_err(|error| vec![error.into_problem(file, text)])
    };
    documents.iter().map(value).collect()
}

/// Injects or uninjects every pod template of `text`. The error is every problem found.
pub fn rewrite(
    file: &FilePath,
    text: &str,
    mode: RewriteMode<'_>,
) -> Result<RewrittenManifest, Vec<Problem>> {
    let documents = read_documents(file, text)?;
    let mut rewriter = ManifestRewriter::new(file, text);
    for document in &documents {
        rewriter.rewrite_document(document, mode);
    }
    rewriter.finish()
}

fn read_documents(file: &FilePath, text: &str) -> Result<Vec<ManifestDocument>, Vec<Problem>> {
    tree::read(text).map_err(|error| vec![error.into_problem(file, text)])
}

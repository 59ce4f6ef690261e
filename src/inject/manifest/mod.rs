//! Manifests: the text of YAML or JSON files in, the same with sidecars out.
//!
//! What is not added is not touched: every byte of the text, comments, blanks and all, is in the
//! result, in its order. The text is read again afterwards, and is handed out only if it says
//! exactly what was meant. What cannot be written without guessing is refused with its place.

mod cut;
mod edit;
mod kinds;
mod lenient;
mod problems;
mod rewrite;
mod splice;
mod tree;
mod trouble;
mod value;
mod write;

use std::path::Path as FilePath;

use serde_json::Value;

use super::decide::Left;
use super::settings::Defaults;
use crate::domain::Problem;
use rewrite::Rewriting;
use tree::Document;

/// The largest file, in bytes.
pub const FILE_MAX: usize = 32 << 20;

/// What is done to the pods of a manifest.
#[derive(Debug, Clone, Copy)]
pub enum Work<'a> {
    /// They get sidecars.
    Inject(&'a Defaults),
    /// Their sidecars are taken away.
    Uninject,
}

/// A manifest, rewritten.
#[derive(Debug, Clone)]
pub struct Rewritten {
    /// The text.
    pub text: String,
    /// Each pod template in it, and what became of it.
    pub pods: Vec<Pod>,
    /// What asks for a sidecar and is passed as it is, since its kind is not known.
    pub passed: Vec<Problem>,
}

/// A pod template of a manifest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pod {
    /// Whose it is: `Deployment shop/web`.
    pub owner: String,
    /// What became of it.
    pub fate: Fate,
}

/// What became of a pod template.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fate {
    /// It has a sidecar now, with these domains.
    Injected(Vec<String>),
    /// It has none any more.
    Uninjected,
    /// It had none to take away.
    HadNone,
    /// It is as it was.
    Left(Left),
}

/// The value of each document of `text`, as Kubernetes would read it.
pub fn documents(file: &FilePath, text: &str) -> Result<Vec<Value>, Vec<Problem>> {
    let documents = read(file, text)?;
    let value = |document: &Document| {
        value::of(document).map_err(|trouble| vec![trouble.problem(file, text)])
    };
    documents.iter().map(value).collect()
}

/// Does `work` to every pod template of `text`, or says everything that is in its way.
pub fn rewrite(file: &FilePath, text: &str, work: Work<'_>) -> Result<Rewritten, Vec<Problem>> {
    let documents = read(file, text)?;
    let mut rewriting = Rewriting::new(file, text);
    for document in &documents {
        rewriting.document(document, work);
    }
    rewriting.finish()
}

fn read(file: &FilePath, text: &str) -> Result<Vec<Document>, Vec<Problem>> {
    tree::read(text).map_err(|trouble| vec![trouble.problem(file, text)])
}

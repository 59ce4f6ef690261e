//! Rewrites one manifest: decides on the pods of each document, collects the edits of the text, and
//! verifies the value of the result.

use std::collections::HashSet;
use std::ops::Range;
use std::path::Path as FilePath;

use serde_json::Value;

use super::edit::{self, Edit};
use super::error::ManifestError;
use super::json_value;
use super::kinds::{self, PodTemplate};
use super::splice::{DocumentText, EXPECTED_BLOCK, PLAIN_HINT};
use super::tree::{self, ManifestDocument};
use super::{PodOutcome, PodReport, RewriteMode, RewrittenManifest};
use crate::diagnostics::yaml::{YamlKind, YamlNode};
use crate::diagnostics::{Problem, ProblemList, quote};
use crate::inject::change::{self, FieldPath, PathStep};
use crate::inject::decide::{self, InjectOutcome, Injection};
use crate::inject::pod_annotations::Defaults;
use crate::inject::refusal::{InjectionRefusal, RefusalReason};

/// The message if the value of the result is not the one that was decided on.
const RESULT_MISMATCH: &str = "what would be written is not what is meant";

/// The hint after the first of many problems.
const RETRY: &str = "try again";

/// The value that a document must have once it is rewritten.
struct ExpectedDocument {
    /// `None` for a document that has no JSON value, and stays unchanged.
    value: Option<Value>,
    /// Collections that stay empty. Whether as `null` or in brackets makes no difference.
    empty_collections: Vec<FieldPath>,
}

pub(super) struct ManifestRewriter<'t> {
    text: &'t str,
    newline: &'static str,
    edits: Vec<Edit>,
    expected: Vec<ExpectedDocument>,
    pods: Vec<PodReport>,
    unknown_kinds: ProblemList<'t>,
    problems: ProblemList<'t>,
}

impl<'t> ManifestRewriter<'t> {
    pub(super) fn new(file: &'t FilePath, text: &'t str) -> Self {
        Self {
            text,
            newline: edit::line_ending(text),
            edits: Vec::new(),
            expected: Vec::new(),
            pods: Vec::new(),
            unknown_kinds: ProblemList::new(file, text),
            problems: ProblemList::new(file, text),
        }
    }

    pub(super) fn rewrite_document(&mut self, document: &ManifestDocument, mode: RewriteMode<'_>) {
        let Some(root) = &document.root else {
            let value = Some(Value::Null);
            let empty_collections = Vec::new();
            return self.expected.push(ExpectedDocument { value, empty_collections });
        };
        let mut value = match json_value::to_json(document) {
            Ok(value) => value,
            Err(error) => {
                // A document without a `kind` is no object of Kubernetes, and stays unchanged.
                if root.entry("kind").is_some() {
                    self.problems.push(|file, text| error.into_problem(file, text));
                }
                let empty_collections = Vec::new();
                return self.expected.push(ExpectedDocument { value: None, empty_collections });
            }
        };
        let templates = kinds::find_templates(&value);
        for (owner, at) in &templates.unknown {
            let kind = owner.split(' ').next().unwrap_or_default();
            let message = format!(
                "it is not known where a {} keeps its pods: {} is passed as it is",
                quote(kind),
                quote(owner)
            );
            let expected = "a kind of Kubernetes' own";
            let hint = "its pods can get their sidecar from the webhook";
            self.unknown_kinds.push_at(span_of_path(root, at, false), message, expected, hint);
        }
        let document_text = DocumentText::new(self.text, document, self.newline);
        let edit_count = self.edits.len();
        let mut empty_collections = Vec::new();
        for template in &templates.templates {
            match mode {
                RewriteMode::Inject(defaults) => {
                    self.inject(&document_text, root, template, &mut value, defaults);
                }
                RewriteMode::Uninject => {
                    let uninjected = self.uninject(&document_text, root, template, &mut value);
                    empty_collections.extend(uninjected);
                }
            }
        }
        if self.edits.len() > edit_count {
            self.report_duplicate_keys(root);
        }
        self.expected.push(ExpectedDocument { value: Some(value), empty_collections });
    }

    /// Injects into one pod template of the text, and of the document's value.
    fn inject(
        &mut self,
        document_text: &DocumentText<'_>,
        root: &YamlNode,
        template: &PodTemplate,
        document: &mut Value,
        defaults: &Defaults,
    ) {
        for misplaced in &template.misplaced {
            let name = misplaced.steps().last().map(step_name).unwrap_or_default();
            let message = format!("{} means nothing here", quote(&name));
            let annotations = template.at.key("metadata").key("annotations").to_string();
            let expected = "it among the annotations of the pod";
            let hint = format!("move it to `{}`", dotted_path(&annotations));
            self.problems.push_at(span_of_path(root, misplaced, false), message, expected, hint);
        }
        let pod = document.pointer_mut(&template.at.to_string());
        let Some(pod) = pod else { return };
        let outcome = match decide::inject(pod, defaults) {
            Ok(InjectOutcome::Skip(reason)) => PodOutcome::Skipped(reason),
            Ok(InjectOutcome::Inject(Injection { domains, additions })) => {
                let dashes_below_key = document_text.dashes_below_key(&template.at);
                let edits = additions.list().iter().map(|addition| {
                    let into = template.at.join(&addition.into);
                    let edit = document_text.addition_edit(
                        &change::Addition { into, ..addition.clone() },
                        dashes_below_key,
                    );
                    edit.map(|edit| vec![edit])
                });
                self.collect_edits(edits);
                if !additions.apply(pod) {
                    self.report_mismatch(root);
                }
                PodOutcome::Injected(domains)
            }
            Err(refusals) => {
                for InjectionRefusal { at, reason } in refusals {
                    self.problems.push(|file, text| {
                        let is_about_value = matches!(
                            reason,
                            RefusalReason::BadValue { .. } | RefusalReason::NotText { .. }
                        );
                        let place = span_of_path(root, &template.at.join(&at), is_about_value);
                        let problem = Problem::of_file(
                            file,
                            reason.to_string(),
                            reason.expected(),
                            reason.hint(),
                        );
                        let mut problem = problem.place(text, place);
                        if matches!(reason, RefusalReason::BadValue { value: None, .. }) {
                            // The line holds a password or a key, which no message may show.
                            problem.source = None;
                        }
                        problem
                    });
                }
                return;
            }
        };
        self.pods.push(PodReport { owner: template.owner.clone(), outcome });
    }

    /// Uninjects one pod template of the text, and of the document's value. Returns the collections
    /// that stay empty.
    fn uninject(
        &mut self,
        document_text: &DocumentText<'_>,
        root: &YamlNode,
        template: &PodTemplate,
        document: &mut Value,
    ) -> Vec<FieldPath> {
        let Some(pod) = document.pointer_mut(&template.at.to_string()) else { return Vec::new() };
        let owner = template.owner.clone();
        let Some(removals) = decide::uninject(pod) else {
            self.pods.push(PodReport { owner, outcome: PodOutcome::HadNone });
            return Vec::new();
        };
        let edits = removals.list().iter().map(|removal| {
            let from = template.at.join(&removal.from);
            document_text.removal_edits(&change::Removal { from, entries: removal.entries.clone() })
        });
        self.collect_edits(edits);
        if !removals.apply(pod) {
            self.report_mismatch(root);
        }
        self.pods.push(PodReport { owner, outcome: PodOutcome::Uninjected });
        removals.empty_collections().iter().map(|path| template.at.join(path)).collect()
    }

    fn collect_edits(&mut self, edits: impl Iterator<Item = Result<Vec<Edit>, ManifestError>>) {
        for edit in edits {
            match edit {
                Ok(edits) => self.edits.extend(edits),
                Err(error) => self.problems.push(|file, text| error.into_problem(file, text)),
            }
        }
    }

    /// Reports duplicate keys in a document that is changed: which of the two is meant is unknown.
    fn report_duplicate_keys(&mut self, root: &YamlNode) {
        let mut pending = vec![root];
        while let Some(node) = pending.pop() {
            match &node.kind {
                YamlKind::Map { entries, .. } => {
                    let mut keys = HashSet::new();
                    for (key, value) in entries {
                        if key.text().is_some_and(|text| !keys.insert(text))
                            && !json_value::is_merge(key)
                        {
                            let message =
                                format!("{} is given twice", quote(key.text().unwrap_or_default()));
                            let expected = "each key once";
                            let hint = "remove one of the two";
                            self.problems.push_at(key.span.clone(), message, expected, hint);
                        }
                        pending.push(value);
                    }
                }
                YamlKind::List { items, .. } => pending.extend(items),
                YamlKind::Scalar { .. } | YamlKind::Alias(_) => {}
            }
        }
    }

    fn report_mismatch(&mut self, root: &YamlNode) {
        self.problems.push_at(root.span.clone(), RESULT_MISMATCH, EXPECTED_BLOCK, PLAIN_HINT);
    }

    /// The rewritten manifest, or every problem found.
    pub(super) fn finish(mut self) -> Result<RewrittenManifest, Vec<Problem>> {
        let text = edit::apply(self.text, std::mem::take(&mut self.edits));
        if self.problems.is_empty() && !self.is_as_expected(&text) {
            self.problems.push(|file, _| {
                Problem::of_file(file, RESULT_MISMATCH, EXPECTED_BLOCK, PLAIN_HINT)
            });
        }
        if self.problems.is_empty() {
            return Ok(RewrittenManifest {
                text,
                pods: self.pods,
                unknown_kinds: self.unknown_kinds.into_problems(RETRY),
            });
        }
        Err(self.problems.into_problems(RETRY))
    }

    /// Whether the documents of `text` have the expected values.
    fn is_as_expected(&self, text: &str) -> bool {
        let Ok(documents) = tree::read(text) else { return false };
        documents.len() == self.expected.len()
            && documents.iter().zip(&self.expected).all(
                |(document, ExpectedDocument { value, empty_collections })| {
                    let Some(mut expected) = value.clone() else { return true };
                    let Ok(mut actual) = json_value::to_json(document) else { return false };
                    for path in empty_collections {
                        edit::set_null(&mut actual, path);
                        edit::set_null(&mut expected, path);
                    }
                    actual == expected
                },
            )
    }
}

/// The span of the key or the value at `path`, or at the longest part of it that exists.
fn span_of_path(root: &YamlNode, path: &FieldPath, is_about_value: bool) -> Range<usize> {
    let mut span = root.span.clone();
    let mut node = root;
    for step in path.steps() {
        let next = match (step, &node.kind) {
            (PathStep::Key(key), _) => node.entry(key).map(|(key, value)| (&key.span, value)),
            (PathStep::Item(index), YamlKind::List { items, .. }) => {
                items.get(*index).map(|item| (&item.span, item))
            }
            _ => None,
        };
        let Some((at, below)) = next else { return span };
        span = at.clone();
        node = below;
    }
    if is_about_value && !node.span.is_empty() { node.span.clone() } else { span }
}

fn step_name(step: &PathStep) -> String {
    match step {
        PathStep::Key(key) => key.clone(),
        PathStep::Item(index) => index.to_string(),
    }
}

/// A JSON Pointer with dots, for a message.
fn dotted_path(pointer: &str) -> String {
    pointer.trim_start_matches('/').replace('/', ".")
}

#[cfg(test)]
mod tests {
    use super::*;

    const POD: &str = "kind: Pod\napiVersion: v1\nspec:\n  containers: [{name: app}]\n";

    /// The result of an injection with one more edit, which is wrong.
    fn rewrite_with(edit: Edit) -> Result<RewrittenManifest, Vec<Problem>> {
        let defaults = Defaults::new(&["customer".to_owned()], &[]).unwrap_or_default();
        let documents = tree::read(POD).unwrap_or_default();
        let mut rewriter = ManifestRewriter::new(FilePath::new("pod.yaml"), POD);
        for document in &documents {
            rewriter.rewrite_document(document, RewriteMode::Inject(&defaults));
        }
        rewriter.edits.push(edit);
        rewriter.finish()
    }

    #[test]
    fn a_text_that_does_not_say_what_is_meant_is_not_handed_out() {
        let edit = |at: usize, text: &str| Edit { at: at..at, text: text.to_owned() };
        for (at, text) in [
            (POD.len(), "more: [\n"),
            (POD.len(), "more: true\n"),
            (POD.len(), "---\nkind: Pod\n"),
            (POD.len() - 2, ", {name: other}"),
            (POD.len() - 3, ", image: x"),
        ] {
            let problems = rewrite_with(edit(at, text)).err().unwrap_or_default();
            assert_eq!(problems.len(), 1, "{text}");
            assert_eq!(problems[0].message, RESULT_MISMATCH);
        }
        assert!(rewrite_with(edit(POD.len(), "# a comment\n")).is_ok());
    }
}

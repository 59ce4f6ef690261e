//! One manifest on its way: its documents one by one, the edits that come of them, and what they
//! must say in the end.

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

/// The text, read again, says something else.
const RESULT_MISMATCH: &str = "what would be written is not what is meant";

/// What to do once the first ones of many problems are mended.
const RETRY: &str = "try again";

/// What a document shall say once it is rewritten.
struct ExpectedDocument {
    /// `None` where we make no sense of it, and change nothing.
    value: Option<Value>,
    /// Collections that are left empty: whether as `null` or in brackets does not matter.
    emptied: Vec<FieldPath>,
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
            return self
                .expected
                .push(ExpectedDocument { value: Some(Value::Null), emptied: Vec::new() });
        };
        let mut value = match json_value::to_json(document) {
            Ok(value) => value,
            Err(error) => {
                // What has keys that are no text is nothing of Kubernetes', and no business of
                // ours.
                if root.entry("kind").is_some() {
                    self.problems.push(|file, text| error.into_problem(file, text));
                }
                return self.expected.push(ExpectedDocument { value: None, emptied: Vec::new() });
            }
        };
        let found = kinds::find_templates(&value);
        for (owner, at) in &found.unknown {
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
        let before = self.edits.len();
        let mut emptied = Vec::new();
        for template in &found.templates {
            match mode {
                RewriteMode::Inject(defaults) => {
                    self.inject(&document_text, root, template, &mut value, defaults);
                }
                RewriteMode::Uninject => {
                    emptied.extend(self.uninject(&document_text, root, template, &mut value));
                }
            }
        }
        if self.edits.len() > before {
            self.report_duplicate_keys(root);
        }
        self.expected.push(ExpectedDocument { value: Some(value), emptied });
    }

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
            let below = template.at.key("metadata").key("annotations").to_string();
            let expected = "it among the annotations of the pod";
            let hint = format!("move it to `{}`", dotted_path(&below));
            self.problems.push_at(span_of_path(root, misplaced, false), message, expected, hint);
        }
        let pod = document.pointer_mut(&template.at.to_string());
        let Some(pod) = pod else { return };
        let outcome = match decide::inject(pod, defaults) {
            Ok(InjectOutcome::Skip(left)) => PodOutcome::Skipped(left),
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
                        let of_value = matches!(
                            reason,
                            RefusalReason::BadValue { .. } | RefusalReason::NotText { .. }
                        );
                        let place = span_of_path(root, &template.at.join(&at), of_value);
                        let problem = Problem::of_file(
                            file,
                            reason.to_string(),
                            reason.expected(),
                            reason.hint(),
                        );
                        let mut problem = problem.place(text, place);
                        if matches!(reason, RefusalReason::BadValue { value: None, .. }) {
                            // The line holds what no message may: a password, or a key.
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
        removals.emptied().iter().map(|path| template.at.join(path)).collect()
    }

    fn collect_edits(&mut self, edits: impl Iterator<Item = Result<Vec<Edit>, ManifestError>>) {
        for edit in edits {
            match edit {
                Ok(edits) => self.edits.extend(edits),
                Err(error) => self.problems.push(|file, text| error.into_problem(file, text)),
            }
        }
    }

    /// Reports keys that stand twice in a document that is changed: which of the two is meant
    /// cannot be told.
    fn report_duplicate_keys(&mut self, root: &YamlNode) {
        let mut waiting = vec![root];
        while let Some(node) = waiting.pop() {
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
                        waiting.push(value);
                    }
                }
                YamlKind::List { items, .. } => waiting.extend(items),
                YamlKind::Scalar { .. } | YamlKind::Alias(_) => {}
            }
        }
    }

    fn report_mismatch(&mut self, root: &YamlNode) {
        self.problems.push_at(root.span.clone(), RESULT_MISMATCH, EXPECTED_BLOCK, PLAIN_HINT);
    }

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

    /// Whether `text`, read again, is what was decided on.
    fn is_as_expected(&self, text: &str) -> bool {
        let Ok(documents) = tree::read(text) else { return false };
        documents.len() == self.expected.len()
            && documents.iter().zip(&self.expected).all(
                |(document, ExpectedDocument { value: expected, emptied })| {
                    let (Some(expected), actual) = (expected, json_value::to_json(document)) else {
                        return true;
                    };
                    let Ok(mut actual) = actual else { return false };
                    let mut expected = expected.clone();
                    for path in emptied {
                        edit::set_null(&mut actual, path);
                        edit::set_null(&mut expected, path);
                    }
                    actual == expected
                },
            )
    }
}

/// The place of a path, or of as much of it as is written: of its key, or of its value.
fn span_of_path(root: &YamlNode, path: &FieldPath, of_value: bool) -> Range<usize> {
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
    if of_value && !node.span.is_empty() { node.span.clone() } else { span }
}

fn step_name(step: &PathStep) -> String {
    match step {
        PathStep::Key(key) => key.clone(),
        PathStep::Item(index) => index.to_string(),
    }
}

/// A JSON Pointer as people write it.
fn dotted_path(pointer: &str) -> String {
    pointer.trim_start_matches('/').replace('/', ".")
}

#[cfg(test)]
mod tests {
    use super::*;

    const POD: &str = "kind: Pod\napiVersion: v1\nspec:\n  containers: [{name: app}]\n";

    /// What comes out where `edit` goes wrong.
    fn spoilt(edit: Edit) -> Result<RewrittenManifest, Vec<Problem>> {
        let defaults = Defaults::new(&["customer".to_owned()], &[]).unwrap_or_default();
        let documents = tree::read(POD).unwrap_or_default();
        let mut rewriting = ManifestRewriter::new(FilePath::new("pod.yaml"), POD);
        for document in &documents {
            rewriting.rewrite_document(document, RewriteMode::Inject(&defaults));
        }
        rewriting.edits.push(edit);
        rewriting.finish()
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
            let problems = spoilt(edit(at, text)).err().unwrap_or_default();
            assert_eq!(problems.len(), 1, "{text}");
            assert_eq!(problems[0].message, RESULT_MISMATCH);
        }
        assert!(spoilt(edit(POD.len(), "# a comment\n")).is_ok());
    }
}

//! One manifest on its way: its documents one by one, the edits that come of them, and what they
//! must say in the end.

use std::collections::HashSet;
use std::ops::Range;
use std::path::Path as FilePath;

use serde_json::Value;

use super::edit::{self, Edit};
use super::kinds::{self, Template};
use super::problems::Problems;
use super::splice::{BLOCK, PLAINLY, Page};
use super::tree::{self, Document, Kind, Node};
use super::trouble::Trouble;
use super::value;
use super::{Fate, Pod, Rewritten, Work};
use crate::domain::{Problem, quote};
use crate::inject::change::{self, Path, Step};
use crate::inject::decide::{self, Injection, Outcome};
use crate::inject::refusal::{Refusal, Why};
use crate::inject::settings::Defaults;

/// The text, read again, says something else.
const NOT_MEANT: &str = "what would be written is not what is meant";

/// What a document shall say once it is rewritten.
struct Expected {
    /// `None` where we make no sense of it, and change nothing.
    value: Option<Value>,
    /// Collections that are left empty: whether as `null` or in brackets does not matter.
    emptied: Vec<Path>,
}

pub(super) struct Rewriting<'t> {
    text: &'t str,
    newline: &'static str,
    edits: Vec<Edit>,
    expected: Vec<Expected>,
    pods: Vec<Pod>,
    passed: Problems<'t>,
    problems: Problems<'t>,
}

impl<'t> Rewriting<'t> {
    pub(super) fn new(file: &'t FilePath, text: &'t str) -> Self {
        Self {
            text,
            newline: edit::newline(text),
            edits: Vec::new(),
            expected: Vec::new(),
            pods: Vec::new(),
            passed: Problems::new(file, text),
            problems: Problems::new(file, text),
        }
    }

    pub(super) fn document(&mut self, document: &Document, work: Work<'_>) {
        let Some(root) = &document.root else {
            return self.expected.push(Expected { value: Some(Value::Null), emptied: Vec::new() });
        };
        let mut value = match value::of(document) {
            Ok(value) => value,
            Err(error) => {
                // What has keys that are no text is nothing of Kubernetes', and no business of
                // ours.
                if root.entry("kind").is_some() {
                    self.problems.push(|file, text| error.problem(file, text));
                }
                return self.expected.push(Expected { value: None, emptied: Vec::new() });
            }
        };
        let found = kinds::find(&value);
        for (owner, at) in &found.unknown {
            let kind = owner.split(' ').next().unwrap_or_default();
            let message = format!(
                "it is not known where a {} keeps its pods: {} is passed as it is",
                quote(kind),
                quote(owner)
            );
            let (expected, hint) =
                ("a kind of Kubernetes' own", "its pods can get their sidecar from the webhook");
            self.passed.place(place(root, at, false), message, expected, hint);
        }
        let page = Page::new(self.text, document, self.newline);
        let before = self.edits.len();
        let mut emptied = Vec::new();
        for template in &found.templates {
            match work {
                Work::Inject(defaults) => self.inject(&page, root, template, &mut value, defaults),
                Work::Uninject => emptied.extend(self.uninject(&page, root, template, &mut value)),
            }
        }
        if self.edits.len() > before {
            self.doubled(root);
        }
        self.expected.push(Expected { value: Some(value), emptied });
    }

    fn inject(
        &mut self,
        page: &Page<'_>,
        root: &Node,
        template: &Template,
        document: &mut Value,
        defaults: &Defaults,
    ) {
        for astray in &template.astray {
            let name = astray.steps().last().map(name_of).unwrap_or_default();
            let message = format!("{} means nothing here", quote(&name));
            let below = template.at.key("metadata").key("annotations").to_string();
            let (expected, hint) =
                ("it among the annotations of the pod", format!("move it to `{}`", dotted(&below)));
            self.problems.place(place(root, astray, false), message, expected, hint);
        }
        let pod = document.pointer_mut(&template.at.to_string());
        let Some(pod) = pod else { return };
        let fate = match decide::inject(pod, defaults) {
            Ok(Outcome::Leave(left)) => Fate::Left(left),
            Ok(Outcome::Inject(Injection { domains, additions })) => {
                let dashes_below_key = page.dashes_below_key(&template.at);
                let edits = additions.list().iter().map(|addition| {
                    let into = template.at.join(&addition.into);
                    let edit =
                        page.add(&change::Addition { into, ..addition.clone() }, dashes_below_key);
                    edit.map(|edit| vec![edit])
                });
                self.collect(edits);
                if !additions.apply(pod) {
                    self.not_meant(root);
                }
                Fate::Injected(domains)
            }
            Err(refusals) => {
                for Refusal { at, why } in refusals {
                    self.problems.push(|file, text| {
                        let of_value = matches!(why, Why::BadValue { .. } | Why::NotText { .. });
                        let place = place(root, &template.at.join(&at), of_value);
                        let problem =
                            Problem::of_file(file, why.to_string(), why.expected(), why.hint());
                        let mut problem = problem.place(text, place);
                        if matches!(why, Why::BadValue { value: None, .. }) {
                            // The line holds what no message may: a password, or a key.
                            problem.source = None;
                        }
                        problem
                    });
                }
                return;
            }
        };
        self.pods.push(Pod { owner: template.owner.clone(), fate });
    }

    fn uninject(
        &mut self,
        page: &Page<'_>,
        root: &Node,
        template: &Template,
        document: &mut Value,
    ) -> Vec<Path> {
        let Some(pod) = document.pointer_mut(&template.at.to_string()) else { return Vec::new() };
        let owner = template.owner.clone();
        let Some(removals) = decide::uninject(pod) else {
            self.pods.push(Pod { owner, fate: Fate::HadNone });
            return Vec::new();
        };
        let edits = removals.list().iter().map(|removal| {
            let from = template.at.join(&removal.from);
            page.remove(&change::Removal { from, which: removal.which.clone() })
        });
        self.collect(edits);
        if !removals.apply(pod) {
            self.not_meant(root);
        }
        self.pods.push(Pod { owner, fate: Fate::Uninjected });
        removals.emptied().iter().map(|path| template.at.join(path)).collect()
    }

    fn collect(&mut self, edits: impl Iterator<Item = Result<Vec<Edit>, Trouble>>) {
        for edit in edits {
            match edit {
                Ok(edits) => self.edits.extend(edits),
                Err(trouble) => self.problems.push(|file, text| trouble.problem(file, text)),
            }
        }
    }

    /// Reports keys that stand twice in a document that is changed: which of the two is meant
    /// cannot be told.
    fn doubled(&mut self, root: &Node) {
        let mut waiting = vec![root];
        while let Some(node) = waiting.pop() {
            match &node.kind {
                Kind::Map { entries, .. } => {
                    let mut known = HashSet::new();
                    for (key, value) in entries {
                        if key.text().is_some_and(|text| !known.insert(text))
                            && !value::is_merge(key)
                        {
                            let message =
                                format!("{} is given twice", quote(key.text().unwrap_or_default()));
                            let (expected, hint) = ("each key once", "remove one of the two");
                            self.problems.place(key.span.clone(), message, expected, hint);
                        }
                        waiting.push(value);
                    }
                }
                Kind::List { items, .. } => waiting.extend(items),
                Kind::Scalar { .. } | Kind::Alias(_) => {}
            }
        }
    }

    fn not_meant(&mut self, root: &Node) {
        self.problems.place(root.span.clone(), NOT_MEANT, BLOCK, PLAINLY);
    }

    pub(super) fn finish(mut self) -> Result<Rewritten, Vec<Problem>> {
        let text = edit::apply(self.text, std::mem::take(&mut self.edits));
        if self.problems.is_empty() && !self.says_what_is_meant(&text) {
            self.problems.push(|file, _| Problem::of_file(file, NOT_MEANT, BLOCK, PLAINLY));
        }
        if self.problems.is_empty() {
            return Ok(Rewritten { text, pods: self.pods, passed: self.passed.into_list() });
        }
        Err(self.problems.into_list())
    }

    /// Whether `text`, read again, is what was decided on.
    fn says_what_is_meant(&self, text: &str) -> bool {
        let Ok(documents) = tree::read(text) else { return false };
        documents.len() == self.expected.len()
            && documents.iter().zip(&self.expected).all(
                |(document, Expected { value: expected, emptied })| {
                    let (Some(expected), said) = (expected, value::of(document)) else {
                        return true;
                    };
                    let Ok(mut said) = said else { return false };
                    let mut expected = expected.clone();
                    for path in emptied {
                        edit::blank(&mut said, path);
                        edit::blank(&mut expected, path);
                    }
                    said == expected
                },
            )
    }
}

/// The place of a path, or of as much of it as is written: of its key, or of its value.
fn place(root: &Node, path: &Path, of_value: bool) -> Range<usize> {
    let (mut span, mut node) = (root.span.clone(), root);
    for step in path.steps() {
        let next = match (step, &node.kind) {
            (Step::Key(key), _) => node.entry(key).map(|(key, value)| (&key.span, value)),
            (Step::Item(index), Kind::List { items, .. }) => {
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

fn name_of(step: &Step) -> String {
    match step {
        Step::Key(key) => key.clone(),
        Step::Item(index) => index.to_string(),
    }
}

/// A JSON Pointer as people write it.
fn dotted(pointer: &str) -> String {
    pointer.trim_start_matches('/').replace('/', ".")
}

#[cfg(test)]
mod tests {
    use super::*;

    const POD: &str = "kind: Pod\napiVersion: v1\nspec:\n  containers: [{name: app}]\n";

    /// What comes out where `edit` goes wrong.
    fn spoilt(edit: Edit) -> Result<Rewritten, Vec<Problem>> {
        let defaults = Defaults::new(&["customer".to_owned()], &[]).unwrap_or_default();
        let documents = tree::read(POD).unwrap_or_default();
        let mut rewriting = Rewriting::new(FilePath::new("pod.yaml"), POD);
        for document in &documents {
            rewriting.document(document, Work::Inject(&defaults));
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
            assert_eq!(problems[0].message, NOT_MEANT);
        }
        assert!(spoilt(edit(POD.len(), "# a comment\n")).is_ok());
    }
}

//! The errors of names that a program may not use, or that do not exist.
//!
//! Each names what was found, what was expected there, and a next step.

use super::super::syntax::errors::{self, error, modules_error, span};
use super::super::{CompileError, builtins, text, unsupported};
use super::{MAX_SCOPE, NameResolver, ScopeName};

impl NameResolver<'_> {
    pub(super) fn recursive(&self, name: &str) -> CompileError {
        let hint = "use `reduce` or `foreach`, or `..` to visit every value";
        let message = format!("`{name}` calls itself, which may not end");
        error(span(self.text, name), message, "a definition that calls only those before it", hint)
    }

    pub(super) fn too_deep(&self) -> CompileError {
        errors::too_deep(self.text)
    }

    pub(super) fn wrong_argument_count(&self, name: &str, arguments: usize) -> CompileError {
        let message = format!("`{name}` does not take {arguments} arguments");
        let (expected, hint) = match name {
            "reduce" => (
                "2 arguments: the first value and what becomes of it",
                "write `reduce .[] as $x (0; . + $x)`",
            ),
            _ => (
                "2 or 3 arguments: the first value, what becomes of it and what to yield",
                "write `foreach .[] as $x (0; . + $x)`",
            ),
        };
        error(span(self.text, name), message, expected, hint)
    }

    pub(super) fn unknown(&self, name: &str, arity: usize) -> CompileError {
        let at = span(self.text, name);
        if name.contains("::") {
            return modules_error(at);
        }
        if let Some((why, hint)) = unsupported::refusal_reason(name, arity) {
            let message = format!("`{name}` is not available in shapes: {why}");
            return error(at, message, unsupported::PURE, hint);
        }
        if name.starts_with('@') {
            return self.unknown_format(name);
        }
        let defs = self.scope.iter().filter_map(|scope_name| match scope_name {
            ScopeName::Def { name: n, arity, .. } if *n == name => Some(*arity),
            ScopeName::Filter(n) if *n == name => Some(0),
            _ => None,
        });
        let mut arities: Vec<usize> = defs.chain(builtins::arities(name)).collect();
        arities.sort_unstable();
        arities.dedup();
        let hint = match arities.as_slice() {
            [_, ..] if !name.starts_with("__") => {
                let existing: Vec<String> =
                    arities.iter().map(|n| format!("`{name}/{n}`")).collect();
                format!("there is {}; `;` stands between arguments", existing.join(", "))
            }
            _ => self.suggest_function(name),
        };
        let expected = "a function of jq, or one that `def` named before";
        error(at, format!("unknown function `{name}/{arity}`"), expected, hint)
    }

    /// The functions that an unknown name may have been meant to be.
    fn suggest_function(&self, name: &str) -> String {
        let local_names = self.scope.iter().filter_map(|scope_name| match scope_name {
            ScopeName::Def { name, .. } | ScopeName::Filter(name) => Some(*name),
            ScopeName::Var(_) | ScopeName::Label(_) => None,
        });
        match unsupported::nearest(
            name,
            local_names.chain(builtins::names()).filter(|name| !name.starts_with("__")),
        ) {
            Some(near) => format!("did you mean `{near}`?"),
            None => {
                format!("write `.{name}` for a member of the input, or `\"{name}\"` for a text")
            }
        }
    }

    /// A variable or label that is not bound here.
    pub(super) fn unbound(&self, name: &str, what: &str) -> CompileError {
        let at = span(self.text, name);
        if name.contains("::") {
            return modules_error(at);
        }
        if let Some((why, hint)) =
            unsupported::refusal_reason(name, 0).filter(|_| what == "variable")
        {
            let message = format!("`{name}` is not available in shapes: {why}");
            return error(at, message, unsupported::PURE, hint);
        }
        let (expected, hint) = match what {
            "label" => ("a label around this place", format!("name it before: `label {name} | …`")),
            _ => (
                "a variable that is bound before this place",
                format!("bind it first: `… as {name} | …`"),
            ),
        };
        error(at, format!("unknown {what} `{name}`"), expected, hint)
    }

    /// A format that there is not.
    pub(super) fn unknown_format(&self, name: &str) -> CompileError {
        let hint = "write one of them, or the text without a format";
        error(span(self.text, name), format!("unknown format `{name}`"), text::FORMATS, hint)
    }

    /// A definition with a name of the prelude's kind.
    pub(super) fn reserved(&self, name: &str) -> CompileError {
        let hint = "leave out the `_` at its beginning";
        let message = "names that begin with `__` are reserved";
        let expected = "a name that begins otherwise";
        error(span(self.text, name), message, expected, hint)
    }

    /// One binding more than may be in scope.
    pub(super) fn too_many_names(&self) -> CompileError {
        let message = format!("more than {MAX_SCOPE} names are in scope at once");
        let hint = "end the scope of some: put `… as $x | …` or `def f: …; …` in brackets";
        error(0..self.text.len(), message, format!("at most {MAX_SCOPE}"), hint)
    }
}

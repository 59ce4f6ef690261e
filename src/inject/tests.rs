//! Properties of every pod and of every manifest, tested with random pods and random layouts.
#![allow(clippy::unwrap_used, reason = "a test that cannot set itself up should stop there")]

mod bounds;
mod layout;
mod manifest_bounds;
mod manifests;
mod pods;

use proptest::prelude::*;
use serde_json::{Map, Value, json};

use super::Defaults;

/// A sequence of random choices. Once it is used up, every choice is the first.
struct Choices {
    bytes: std::vec::IntoIter<u8>,
}

impl Choices {
    fn of(bytes: Vec<u8>) -> Self {
        Self { bytes: bytes.into_iter() }
    }

    /// The next choice: one of `0..n`.
    fn below(&mut self, n: usize) -> usize {
        usize::from(self.bytes.next().unwrap_or(0)) % n
    }

    fn yes(&mut self) -> bool {
        self.below(2) == 1
    }
}

/// Random bytes for [`Choices`].
fn choices() -> impl Strategy<Value = Vec<u8>> {
    proptest::collection::vec(any::<u8>(), 0..400)
}

fn defaults(choices: &mut Choices) -> Defaults {
    let set = [
        ("unix-socket", "true"),
        ("redis", "secret:redis/url"),
        ("identity", "spiffe"),
        ("drain", "9s"),
    ];
    let set: Vec<_> = set
        .into_iter()
        .filter(|_| choices.yes())
        .map(|(key, it)| (key.to_owned(), it.to_owned()))
        .collect();
    Defaults::new(&["customer".to_owned()], &set).unwrap()
}

/// A random pod that can be injected. Most of its fields may be missing.
fn pod(choices: &mut Choices) -> Value {
    let mut pod = json!({"spec": {"containers": []}});
    if choices.yes() {
        pod["metadata"] = json!({});
        if choices.yes() {
            pod["metadata"]["labels"] = json!({"app": "web"});
        }
        if let Some(annotations) = maybe(
            choices,
            &[("note", json!("yes")), ("kubectl.kubernetes.io/default-container", json!("app-0"))],
        ) {
            pod["metadata"]["annotations"] = annotations;
        }
    }
    for nth in 0..=choices.below(2) {
        let mut container = json!({"name": format!("app-{nth}"), "image": "shop/app:1",
            "command": ["sh", "-c", "a: b # c\n"]});
        if choices.yes() {
            container["volumeMounts"] = list(choices, &json!({"name": "tmp", "mountPath": "/tmp"}));
        }
        pod["spec"]["containers"].as_array_mut().unwrap().push(container);
    }
    if choices.yes() {
        pod["spec"]["initContainers"] =
            list(choices, &json!({"name": "first", "image": "x", "args": ["- 1", "yes"]}));
    }
    if choices.yes() {
        pod["spec"]["volumes"] = list(choices, &json!({"name": "tmp", "emptyDir": {}}));
    }
    if choices.yes() {
        pod["spec"]["terminationGracePeriodSeconds"] = json!(choices.below(60));
    }
    pod
}

fn list(choices: &mut Choices, item: &Value) -> Value {
    Value::Array(vec![item.clone(); choices.below(3)])
}

fn maybe(choices: &mut Choices, members: &[(&str, Value)]) -> Option<Value> {
    let mut object = Map::new();
    let is_present = choices.yes();
    for (key, value) in members.iter().filter(|_| is_present) {
        if choices.yes() {
            object.insert((*key).to_owned(), value.clone());
        }
    }
    is_present.then_some(Value::Object(object))
}

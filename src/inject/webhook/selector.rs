//! Label selectors of Kubernetes, as `namespaceSelector` and `objectSelector` use them. Pure.

use serde_json::Value;

/// Whether `selector` matches an object with these labels. A missing or empty selector matches
/// every object; one with an unknown operator matches none.
pub(super) fn matches_selector(selector: Option<&Value>, labels: &Value) -> bool {
    let Some(selector) = selector.filter(|it| !it.is_null()) else { return true };
    let match_labels = selector.get("matchLabels").and_then(Value::as_object).into_iter().flatten();
    let expressions =
        selector.get("matchExpressions").and_then(Value::as_array).into_iter().flatten();
    match_labels.into_iter().all(|(key, value)| labels.get(key) == Some(value))
        && expressions.into_iter().all(|one| matches_expression(one, labels))
}

fn matches_expression(expression: &Value, labels: &Value) -> bool {
    let text = |key| expression.get(key).and_then(Value::as_str).unwrap_or_default();
    let label = labels.get(text("key"));
    let is_listed = || {
        let values = expression.get("values").and_then(Value::as_array).into_iter().flatten();
        values.into_iter().any(|value| label == Some(value))
    };
    match text("operator") {
        "In" => is_listed(),
        "NotIn" => !is_listed(),
        "Exists" => label.is_some(),
        "DoesNotExist" => label.is_none(),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn selectors_select_as_kubernetes_says() {
        let labels = json!({"team": "shop", "bfb.dev/inject": "customer"});
        let one = |key: &str, operator: &str, values: &[&str]| {
            let expression = json!({"key": key, "operator": operator, "values": values});
            json!({"matchExpressions": [expression]})
        };
        for (selector, expected) in [
            (json!(null), true),
            (json!({}), true),
            (json!({"matchLabels": {"team": "shop"}}), true),
            (json!({"matchLabels": {"team": "crm"}}), false),
            (one("team", "In", &["crm", "shop"]), true),
            (one("team", "In", &["crm"]), false),
            (one("team", "NotIn", &["crm"]), true),
            (one("team", "NotIn", &["shop"]), false),
            (one("absent", "NotIn", &["shop"]), true),
            (one("bfb.dev/inject", "Exists", &[]), true),
            (one("absent", "Exists", &[]), false),
            (one("absent", "DoesNotExist", &[]), true),
            (one("team", "Near", &["shop"]), false),
        ] {
            assert_eq!(matches_selector(Some(&selector), &labels), expected, "{selector}");
        }
        assert!(matches_selector(None, &json!(null)));
    }
}

//! Alerts and the dashboard ask for metrics that exist, by labels that they have: of a real sidecar
//! that has seen trouble, and of the webhook.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use super::{items, object, read, rendered, text};
use crate::support::domain::{DomainFile, mutual};
use crate::support::pki::Pki;
use crate::support::redis::Redis;
use crate::support::sidecar::Setup;
use crate::support::upstream::Reply;

/// What Prometheus itself, and API servers, say.
const OF_OTHERS: [(&str, &[&str]); 3] = [
    ("up", &[]),
    ("apiserver_admission_webhook_rejection_count", &["name", "error_type"]),
    ("apiserver_admission_webhook_fail_open_count", &["name"]),
];
/// Labels that the pod monitors give to everything.
const OF_THE_TARGET: [&str; 3] = ["namespace", "pod", "job"];

/// Metrics with their labels.
type MetricLabels = BTreeMap<String, BTreeSet<String>>;

/// Reads what `/metrics` says.
fn parse(exposition: &str, metrics: &mut MetricLabels) {
    for line in exposition.lines().filter(|line| !line.starts_with('#')) {
        let (series, _) = line.rsplit_once(' ').unwrap();
        let (name, labels) = series.split_once('{').unwrap_or((series, ""));
        let labels =
            labels.trim_end_matches('}').split("\",").filter_map(|label| label.split_once("=\""));
        metrics
            .entry(name.to_owned())
            .or_default()
            .extend(labels.map(|(label, _)| label.to_owned()));
    }
}

/// Those of a sidecar that collects, verifies, fails and loses its Redis.
async fn of_a_sidecar() -> MetricLabels {
    let pki = Pki::new();
    let (upstream, mut redis) = (mutual(&pki).await, Redis::start());
    upstream.handles("/profile", |_| Reply::json("{\"id\":42}"));
    let domain = DomainFile::of("customer").source("profile", &upstream, "/profile?key={key}", &[]);
    let url = redis.url();
    let args = ["--memory", "8MiB", "--redis", &url, "--verify", "1", "--lease", "200ms"];
    let sidecar = Setup::of(&[&domain]).identity(&pki).args(&args).start().await;
    assert_eq!(sidecar.get("/v2/customers/42").await.status, 200);
    crate::fleet::until_lease(&sidecar, true).await;
    redis.kill();
    sidecar.logged("lease").await;
    let mut metrics = MetricLabels::new();
    parse(sidecar.admin("/metrics").await.text(), &mut metrics);
    metrics
}

/// Those that the webhook registers, as its source has them: each as a counter, a gauge and a
/// histogram, with every label there is.
fn of_the_webhook(metrics: &mut MetricLabels) {
    let source = read("src/inject/webhook/metrics.rs");
    let registered = source.split("to.register").skip(1).map(|rest| {
        let name = rest.split('"').nth(1).unwrap();
        let unit = if rest.starts_with("_with_unit") { "_seconds" } else { "" };
        format!("bfb_webhook_{name}{unit}")
    });
    let labels = source.split("EncodeLabelSet)]").skip(1).map(|rest| {
        let field = rest.split('{').nth(1).unwrap();
        field.split(':').next().unwrap().trim().to_owned()
    });
    let labels: BTreeSet<String> = labels.chain(["le".to_owned()]).collect();
    for name in registered {
        for suffix in ["", "_total", "_bucket"] {
            metrics.insert(format!("{name}{suffix}"), labels.clone());
        }
    }
    assert!(
        metrics.contains_key("bfb_webhook_admissions_total") && labels.contains("outcome"),
        "{labels:?}"
    );
}

/// Every metric that an expression asks for, with the labels that it is asked for by.
fn queried_metrics(expression: &str) -> MetricLabels {
    let mut metrics = MetricLabels::new();
    let is_word = |c: char| c.is_ascii_alphanumeric() || c == '_';
    let grouped: Vec<&str> = expression
        .match_indices("by (")
        .flat_map(|(at, by)| expression[at + by.len()..].split(')').next().unwrap().split(", "))
        .collect();
    for (at, word) in expression.match_indices(is_word).fold(Vec::new(), words) {
        let _ = at;
        if !["bfb_", "apiserver_"].iter().any(|prefix| word.starts_with(prefix)) && word != "up" {
            continue;
        }
        let rest = &expression[at + word.len()..];
        let labels =
            rest.strip_prefix('{').and_then(|rest| rest.split('}').next()).unwrap_or_default();
        let labels = labels
            .split(", ")
            .filter_map(|label| label.split(['=', '!']).next())
            .filter(|it| !it.is_empty());
        let of_it = metrics.entry(word).or_default();
        of_it.extend(labels.map(str::to_owned));
        of_it.extend(grouped.iter().map(|&label| label.to_owned()));
    }
    metrics
}

/// Joins characters that stand side by side.
fn words(mut found: Vec<(usize, String)>, (at, character): (usize, &str)) -> Vec<(usize, String)> {
    match found.last_mut() {
        Some((start, word)) if *start + word.len() == at => word.push_str(character),
        _ => found.push((at, character.to_owned())),
    }
    found
}

/// All expressions, each with where it stands.
fn expressions() -> Vec<(String, String)> {
    let objects = rendered("monitoring");
    let groups = &object(&objects, "PrometheusRule", "bfb")["spec"]["groups"];
    let rules = items(groups).flat_map(|group| items(&group["rules"]));
    let mut all: Vec<_> = rules
        .map(|rule| (text(&rule["alert"]).to_owned(), text(&rule["expr"]).to_owned()))
        .collect();
    let dashboard: Value = serde_json::from_str(text(
        &object(&objects, "ConfigMap", "bfb-dashboard")["data"]["bfb.json"],
    ))
    .unwrap();
    for panel in items(&dashboard["panels"]) {
        let title = text(&panel["title"]);
        all.extend(
            items(&panel["targets"])
                .map(|target| (title.to_owned(), text(&target["expr"]).to_owned())),
        );
    }
    all
}

/// What is asked for and is not there.
fn missing(expression: &str, known: &MetricLabels) -> Vec<String> {
    let mut missing = Vec::new();
    for (metric, labels) in queried_metrics(expression) {
        let Some(there) = known.get(&metric) else {
            missing.push(metric);
            continue;
        };
        let absent = labels
            .iter()
            .filter(|it| !there.contains(*it) && !OF_THE_TARGET.contains(&it.as_str()));
        missing.extend(absent.map(|label| format!("{metric}{{{label}}}")));
    }
    missing
}

#[tokio::test]
async fn alerts_and_the_dashboard_ask_for_what_exists() {
    let mut known = of_a_sidecar().await;
    of_the_webhook(&mut known);
    known.extend(
        OF_OTHERS.map(|(name, labels)| {
            (name.to_owned(), labels.iter().map(|&it| it.to_owned()).collect())
        }),
    );
    let expressions = expressions();
    assert!(expressions.len() > 40, "{}", expressions.len());
    for (place, expression) in expressions {
        assert!(!queried_metrics(&expression).is_empty(), "{place} asks for nothing: {expression}");
        assert_eq!(missing(&expression, &known), Vec::<String>::new(), "{place}: {expression}");
    }
    // It can fail.
    assert_eq!(
        missing("rate(bfb_requests_total{verb=\"x\"}[5m])", &known),
        ["bfb_requests_total{verb}"]
    );
    assert_eq!(missing("sum by (le, tier) (bfb_request_total)", &known), ["bfb_request_total"]);
    assert_eq!(missing("sum by (tier) (bfb_lease_held)", &known), ["bfb_lease_held{tier}"]);
}

#[test]
fn every_alert_is_in_the_runbook() {
    let runbook = read("docs/operations.md");
    let objects = rendered("monitoring");
    let groups = &object(&objects, "PrometheusRule", "bfb")["spec"]["groups"];
    for rule in items(groups).flat_map(|group| items(&group["rules"])) {
        let name = text(&rule["alert"]);
        assert!(runbook.contains(&format!("`{name}`")), "{name}");
    }
}

#[test]
fn sidecars_are_found_by_the_name_of_their_port() {
    let pod = "apiVersion: v1\nkind: Pod\nmetadata: {name: a}\nspec:\n  containers: \
               [{name: app, image: x}]\n";
    let injected =
        crate::inject::documents(&crate::inject::injected(&["--domain", "customer"], pod))
            .remove(0);
    let objects = rendered("monitoring");
    let endpoint =
        &object(&objects, "PodMonitor", "bfb-sidecars")["spec"]["podMetricsEndpoints"][0];
    assert_eq!(endpoint["port"], injected["spec"]["initContainers"][0]["ports"][0]["name"]);
    assert_eq!(
        injected["metadata"]["annotations"]["bfb.dev/status"],
        endpoint["relabelings"][0]["regex"]
    );
}

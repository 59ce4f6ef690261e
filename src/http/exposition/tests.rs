use std::collections::BTreeSet;

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::Unit;

use super::*;

type Labels = Vec<(&'static str, String)>;

fn registry() -> Registry {
    let mut registry = Registry::with_prefix("bfb");
    registry.register("build", "The build", Info::new([("version", "0.1.0")]));
    let requests = Family::<Labels, Counter>::default();
    registry.register("requests", "Requests, by \\ and status", requests.clone());
    for label in ["b", "a", "} # x", "c,d=\"e\""] {
        requests.get_or_create(&vec![("status", label.to_owned())]).inc();
    }
    let times =
        Family::<Labels, Histogram>::new_with_constructor(|| Histogram::new([0.1, 2.0, 10.0]));
    registry.register_with_unit("request_duration", "How long", Unit::Seconds, times.clone());
    for domain in ["shop", "customer"] {
        times.get_or_create(&vec![("domain", domain.to_owned())]).observe(0.5);
    }
    registry.register("lease_held", "Whether the lease is held", Gauge::<i64>::default());
    registry
}

fn exposed(format: ExpositionFormat) -> String {
    transform(&encode(&registry()).unwrap_or_default(), format)
}

/// Holds a text to the rules of the format 0.0.4, and returns its families with their types.
fn parse_text(text: &str) -> Vec<(String, String)> {
    assert!(text.ends_with('\n'), "the last line ends with a line feed");
    let mut families: Vec<(String, String)> = Vec::new();
    let (mut helped, mut seen) = (String::new(), BTreeSet::new());
    for line in text.lines() {
        if let Some(help) = line.strip_prefix("# HELP ") {
            helped = help.split(' ').next().unwrap_or_default().to_owned();
            assert!(seen.insert(helped.clone()), "all lines of a family are one group: {line}");
        } else if let Some(typed) = line.strip_prefix("# TYPE ") {
            let (name, kind) = typed.split_once(' ').expect("a name and a type");
            let kinds = ["counter", "gauge", "histogram", "summary", "untyped"];
            assert!(kinds.contains(&kind), "{line}");
            assert_eq!(name, helped, "one name for both");
            families.push((name.to_owned(), kind.to_owned()));
        } else {
            assert!(!line.starts_with('#'), "no other comment: {line}");
            let (family, kind) = families.last().expect("a type comes before its samples");
            let name = name_of(line);
            let suffix = name.strip_prefix(family.as_str()).expect("a sample of its family");
            match kind.as_str() {
                "histogram" => assert!(["_bucket", "_sum", "_count"].contains(&suffix), "{line}"),
                _ => assert_eq!(suffix, "", "{line}"),
            }
            let value = line[end_of_labels(line)..].trim_start();
            assert!(value.parse::<f64>().is_ok(), "a value, and nothing after it: {line}");
        }
    }
    families
}

#[test]
fn the_text_format_has_its_own_names_and_only_its_own_types() {
    let text = exposed(ExpositionFormat::Text);
    let expected = [
        ("bfb_build_info", "gauge"),
        ("bfb_requests_total", "counter"),
        ("bfb_request_duration_seconds", "histogram"),
        ("bfb_lease_held", "gauge"),
    ];
    let expected = expected.map(|(name, kind)| (name.to_owned(), kind.to_owned()));
    assert_eq!(parse_text(&text), expected, "{text}");
    assert!(text.contains("bfb_build_info{version=\"0.1.0\"} 1\n"), "{text}");
}

#[test]
fn the_text_format_has_neither_units_nor_exemplars_nor_an_end() {
    let open_metrics = "# HELP a b \\\"c\\\".\n# TYPE a histogram\n# UNIT a seconds\n\
        a_bucket{le=\"1.0\",x=\" # \"} 3 # {trace_id=\"1\"} 0.5 1.0\na_created 1.0\n\
        # HELP b c.\n# TYPE b unknown\nb 1\n# HELP s c.\n# TYPE s stateset\ns{s=\"x\"} 1\n# EOF\n";
    let text = transform(open_metrics, ExpositionFormat::Text);
    assert_eq!(
        text,
        "# HELP a b \"c\".\n# TYPE a histogram\na_bucket{le=\"1.0\",x=\" # \"} 3\n\
         # HELP b c.\n# TYPE b untyped\nb 1\n# HELP s c.\n# TYPE s gauge\ns{s=\"x\"} 1\n"
    );
    let again = transform(open_metrics, ExpositionFormat::OpenMetrics);
    assert!(
        again.contains(" # {trace_id=\"1\"} 0.5 1.0\n") && again.ends_with("# EOF\n"),
        "{again}"
    );
}

#[test]
fn open_metrics_says_all_that_the_library_wrote() {
    let sorted = |text: &str| text.lines().map(str::to_owned).collect::<BTreeSet<_>>();
    let encoded = encode(&registry()).unwrap_or_default();
    let exposed = exposed(ExpositionFormat::OpenMetrics);
    assert_eq!(sorted(&exposed), sorted(&encoded));
    assert!(exposed.contains("# TYPE bfb_requests counter\n"), "{exposed}");
    assert!(exposed.contains("# UNIT bfb_request_duration_seconds seconds\n"), "{exposed}");
    assert!(exposed.ends_with("\n# EOF\n"), "{exposed}");
}

#[test]
fn samples_come_in_one_order_and_buckets_by_their_bounds() {
    for format in [ExpositionFormat::Text, ExpositionFormat::OpenMetrics] {
        let first = exposed(format);
        for _ in 0..8 {
            assert_eq!(exposed(format), first, "a registry of its own has hash tables of its own");
        }
        let lines: Vec<&str> =
            first.lines().filter(|line| line.starts_with("bfb_request")).collect();
        let order = |text: &str| lines.iter().position(|line| line.contains(text)).expect("a line");
        assert!(order("status=\"a\"") < order("status=\"b\""));
        let bounds = ["le=\"0.1\"", "le=\"2.0\"", "le=\"10.0\"", "le=\"+Inf\"", "domain=\"shop\""];
        assert!(bounds.map(order).is_sorted(), "{first}");
    }
}

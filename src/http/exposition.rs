//! The exposition of metrics: `OpenMetrics` where a scraper asks for it, else Prometheus's text
//! format.
//!
//! Sources: `OpenMetrics` 1.0.0
//! (<https://github.com/prometheus/OpenMetrics/blob/main/specification/OpenMetrics.md>) and the
//! text format 0.0.4 (<https://prometheus.io/docs/instrumenting/exposition_formats/>). The library
//! writes `OpenMetrics`. Here a family's samples are put into one order, which a hash table does
//! not have between two runs, and the text format is converted from the library's output: a family
//! has its name with the suffix that its samples carry, only types that the format has, and neither
//! units, exemplars nor an end.

use std::fmt::Write as _;

use http::header::{ACCEPT, CONTENT_TYPE, HeaderMap, HeaderValue};
use http::{Response, StatusCode};
use prometheus_client::registry::Registry;

use super::accept_header::accepts_open_metrics;

/// A format of metrics.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum ExpositionFormat {
    OpenMetrics,
    Text,
}

impl ExpositionFormat {
    fn of_request(headers: &HeaderMap) -> Self {
        let accept = headers.get_all(ACCEPT).iter().filter_map(|value| value.to_str().ok());
        let accept = accept.collect::<Vec<_>>().join(",");
        if accepts_open_metrics(&accept) { Self::OpenMetrics } else { Self::Text }
    }

    fn content_type(self) -> HeaderValue {
        HeaderValue::from_static(match self {
            Self::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
            Self::Text => "text/plain; version=0.0.4; charset=utf-8",
        })
    }
}

/// The answer to a scrape, in the format that the request's headers ask for.
pub(crate) fn respond<B: From<String>>(headers: &HeaderMap, registry: &Registry) -> Response<B> {
    let format = ExpositionFormat::of_request(headers);
    let Some(text) = encode(registry) else {
        let mut response = Response::new("the metrics could not be written\n".to_owned().into());
        *response.status_mut() = StatusCode::INTERNAL_SERVER_ERROR;
        return response;
    };
    let mut response = Response::new(transform(&text, format).into());
    response.headers_mut().insert(CONTENT_TYPE, format.content_type());
    response
}

/// A registry as `OpenMetrics`, written by the library.
pub(crate) fn encode(registry: &Registry) -> Option<String> {
    let mut text = String::new();
    prometheus_client::encoding::text::encode(&mut text, registry).ok()?;
    Some(text)
}

/// A family of metrics as the library wrote it: its name, its metadata, its samples.
#[derive(Debug, Default)]
struct MetricFamily<'a> {
    name: &'a str,
    help: &'a str,
    kind: &'a str,
    unit: Option<&'a str>,
    samples: Vec<&'a str>,
}

/// `OpenMetrics` in, `format` out.
fn transform(open_metrics: &str, format: ExpositionFormat) -> String {
    let mut text = String::with_capacity(open_metrics.len());
    for mut family in families(open_metrics) {
        // Stable: the lines of one metric keep theirs, buckets by their bounds among them.
        family.samples.sort_by_cached_key(|sample| metric_labels(sample));
        match format {
            ExpositionFormat::OpenMetrics => family.write_open_metrics(&mut text),
            ExpositionFormat::Text => family.write_text(&mut text),
        }
    }
    if format == ExpositionFormat::OpenMetrics {
        text.push_str("# EOF\n");
    }
    text
}

fn families(open_metrics: &str) -> Vec<MetricFamily<'_>> {
    let mut families: Vec<MetricFamily<'_>> = Vec::new();
    for line in open_metrics.lines() {
        let Some(comment) = line.strip_prefix("# ") else {
            families.extend_last(|family| family.samples.push(line));
            continue;
        };
        let mut words = comment.splitn(3, ' ');
        let word = words.next();
        let name = words.next().unwrap_or_default();
        let value = words.next().unwrap_or_default();
        match word {
            Some("HELP") => {
                families.push(MetricFamily { name, help: value, ..MetricFamily::default() });
            }
            Some("TYPE") => families.extend_last(|family| family.kind = value),
            Some("UNIT") => families.extend_last(|family| family.unit = Some(value)),
            _ => {}
        }
    }
    families
}

/// Appends to a list whose last element is still being read.
trait ExtendLast<T> {
    fn extend_last(&mut self, change: impl FnOnce(&mut T));
}

impl<T> ExtendLast<T> for Vec<T> {
    fn extend_last(&mut self, change: impl FnOnce(&mut T)) {
        if let Some(last) = self.last_mut() {
            change(last);
        }
    }
}

impl MetricFamily<'_> {
    fn write_open_metrics(&self, text: &mut String) {
        let Self { name, help, kind, unit, samples } = self;
        let _ = writeln!(text, "# HELP {name} {help}\n# TYPE {name} {kind}");
        if let Some(unit) = unit {
            let _ = writeln!(text, "# UNIT {name} {unit}");
        }
        for sample in samples {
            let _ = writeln!(text, "{sample}");
        }
    }

    fn write_text(&self, text: &mut String) {
        let (suffix, kind) = match self.kind {
            "counter" => ("_total", "counter"),
            "info" => ("_info", "gauge"),
            "stateset" => ("", "gauge"),
            "gauge" | "histogram" | "summary" => ("", self.kind),
            _ => ("", "untyped"),
        };
        let name = format!("{}{suffix}", self.name);
        // The text format escapes no quote there.
        let help = self.help.replace("\\\"", "\"");
        let _ = writeln!(text, "# HELP {name} {help}\n# TYPE {name} {kind}");
        // The creation time would be a family of its own in the text format; it is left out.
        let created = format!("{}_created", self.name);
        for sample in self.samples.iter().filter(|sample| name_of(sample) != created) {
            let _ = writeln!(text, "{}", without_exemplar(sample));
        }
    }
}

fn name_of(sample: &str) -> &str {
    sample.split(['{', ' ']).next().unwrap_or_default()
}

/// Where the labels end: after their closing brace, or after the name where there are none.
fn end_of_labels(sample: &str) -> usize {
    let name = name_of(sample).len();
    if sample.as_bytes().get(name) != Some(&b'{') {
        return name;
    }
    let mut is_quoted = false;
    let mut is_escaped = false;
    for (at, byte) in sample.bytes().enumerate().skip(name) {
        match byte {
            _ if is_escaped => is_escaped = false,
            b'\\' if is_quoted => is_escaped = true,
            b'"' => is_quoted = !is_quoted,
            b'}' if !is_quoted => return at + 1,
            _ => {}
        }
    }
    sample.len()
}

fn without_exemplar(sample: &str) -> &str {
    let labels = end_of_labels(sample);
    let exemplar = sample[labels..].find(" # ");
    exemplar.map_or(sample, |at| &sample[..labels + at])
}

/// The labels of a sample less the bound of its bucket: the lines of one metric share them.
fn metric_labels(sample: &str) -> Vec<String> {
    let labels = &sample[name_of(sample).len()..end_of_labels(sample)];
    let labels = labels.trim_start_matches('{').trim_end_matches('}');
    let mut is_quoted = false;
    let mut is_escaped = false;
    let pairs = labels.split(|c| {
        match c {
            _ if is_escaped => is_escaped = false,
            '\\' if is_quoted => is_escaped = true,
            '"' => is_quoted = !is_quoted,
            _ => {}
        }
        c == ',' && !is_quoted
    });
    pairs.filter(|pair| !pair.starts_with("le=\"")).map(str::to_owned).collect()
}

#[cfg(test)]
#[path = "exposition/tests.rs"]
mod tests;

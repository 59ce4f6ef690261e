//! `Accept` (RFC 9110, section 12.5.1), as far as scrapers of metrics need it: whether
//! `OpenMetrics` is preferred to the text format.

/// A media range of `Accept`, with its place in the list.
#[derive(Debug)]
struct MediaRange<'a> {
    /// `type/subtype`, either may be `*`.
    name: &'a str,
    version: Option<&'a str>,
    /// In thousandths.
    quality: u16,
    place: usize,
}

/// How much a format is wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Preference {
    quality: u16,
    /// The place of the range that names the format itself; `None`: a wildcard stands for it.
    place: Option<usize>,
}

/// Whether `OpenMetrics` 1.0.0 is preferred to the text format 0.0.4. Without a header, or where
/// any type is accepted alike, it is not.
pub(super) fn accepts_open_metrics(accept: &str) -> bool {
    let ranges: Vec<_> =
        accept.split(',').enumerate().filter_map(|(place, range)| parse(range, place)).collect();
    let open_metrics = preference(&ranges, "application/openmetrics-text", "1.0.0");
    let text = preference(&ranges, "text/plain", "0.0.4");
    let Some(named) = open_metrics.place.filter(|_| open_metrics.quality > 0) else { return false };
    let comes_first = text.place.is_none_or(|place| named < place);
    open_metrics.quality > text.quality || open_metrics.quality == text.quality && comes_first
}

/// How much `format` in `version` is wanted, by the most specific range that it is in.
fn preference(ranges: &[MediaRange<'_>], format: &str, version: &str) -> Preference {
    let is_named = |range: &&MediaRange<'_>| {
        range.name.eq_ignore_ascii_case(format)
            && range.version.is_none_or(|asked| asked == version)
    };
    let best = |found: Vec<&MediaRange<'_>>| {
        // The first of the best.
        found
            .into_iter()
            .min_by_key(|range| (1000 - range.quality, range.place))
            .map(|range| (range.quality, range.place))
    };
    if let Some((quality, place)) = best(ranges.iter().filter(is_named).collect()) {
        return Preference { quality, place: Some(place) };
    }
    let kind = format.split('/').next().unwrap_or_default();
    let wildcards = [format!("{kind}/*"), "*/*".to_owned()];
    let quality = wildcards.iter().find_map(|wildcard| {
        best(ranges.iter().filter(|range| range.name.eq_ignore_ascii_case(wildcard)).collect())
    });
    Preference { quality: quality.map_or(0, |(quality, _)| quality), place: None }
}

fn parse(range: &str, place: usize) -> Option<MediaRange<'_>> {
    let mut parts = range.split(';').map(str::trim);
    let name = parts.next().filter(|name| !name.is_empty())?;
    let mut parsed = MediaRange { name, version: None, quality: 1000, place };
    for (parameter, value) in parts.filter_map(|part| part.split_once('=')) {
        let value = value.trim().trim_matches('"');
        match parameter.trim().to_ascii_lowercase().as_str() {
            "version" => parsed.version = Some(value),
            "q" => parsed.quality = quality(value)?,
            _ => {}
        }
    }
    Some(parsed)
}

/// A weight is `0` to `1` with up to three digits after the point; a range with another one is
/// skipped.
#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "from 0 to 1000")]
fn quality(text: &str) -> Option<u16> {
    let quality = text.parse::<f64>().ok().filter(|quality| (0.0..=1.0).contains(quality))?;
    Some((quality * 1000.0).round() as u16)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The header of Prometheus 3.0.
    const PROMETHEUS: &str = "application/openmetrics-text;\
        version=1.0.0;escaping=allow-utf-8;q=0.6,\
        application/openmetrics-text;version=0.0.1;q=0.5,\
        text/plain;version=1.0.0;escaping=allow-utf-8;q=0.4,\
        text/plain;version=0.0.4;q=0.3,*/*;q=0.2";

    #[test]
    fn open_metrics_is_for_those_who_ask_for_it_and_rather_than_text() {
        for asks in [
            PROMETHEUS,
            "application/openmetrics-text",
            "application/openmetrics-text; version=1.0.0; charset=utf-8",
            "Application/OpenMetrics-Text; Version=\"1.0.0\"",
            "application/openmetrics-text;version=1.0.0,text/plain;version=0.0.4;q=0.5,*/*;q=0.1",
            "text/plain;q=0.5, application/openmetrics-text;q=0.6",
            "application/openmetrics-text, text/plain",
            "application/openmetrics-text, */*",
        ] {
            assert!(accepts_open_metrics(asks), "{asks}");
        }
    }

    #[test]
    fn text_is_for_everybody_else() {
        for asks in [
            "",
            "*/*",
            "text/plain",
            "text/plain;version=0.0.4;q=0.5,*/*;q=0.1",
            "text/*",
            "application/*",
            "application/json",
            "text/plain, application/openmetrics-text",
            "application/openmetrics-text;q=0",
            "application/openmetrics-text;q=0.5, text/plain",
            "application/openmetrics-text;q=0.2, */*;q=0.3",
            // We do not write that version.
            "application/openmetrics-text;version=0.0.1",
            "application/openmetrics-text;version=2.0.0",
            "application/openmetrics-text;q=nonsense",
            "application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;\
             encoding=delimited",
            ";;,,;q=1",
        ] {
            assert!(!accepts_open_metrics(asks), "{asks}");
        }
    }
}

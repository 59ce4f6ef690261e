//! The waterfall of `bfb get --explain`: draws the steps of `Server-Timing`.

use std::fmt::Write as _;

use http::HeaderMap;
use owo_colors::OwoColorize;
use serde_json::{Value, json};

/// The steps of one collection, from its answer's `Server-Timing`.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Waterfall {
    total_ms: f64,
    bars: Vec<WaterfallBar>,
}

#[derive(Debug, Clone, PartialEq)]
struct WaterfallBar {
    source: String,
    round: u32,
    start_ms: f64,
    took_ms: f64,
    tries: u32,
    status: Option<u16>,
    outcome: String,
}

/// The narrowest drawing of the bars, in columns.
const CHART_WIDTH_MIN: usize = 10;

impl Waterfall {
    /// Reads `Server-Timing`; `None` where the answer has none.
    pub(super) fn from_headers(headers: &HeaderMap) -> Option<Self> {
        let text = headers.get("server-timing")?.to_str().ok()?;
        let mut waterfall = Self { total_ms: 0.0, bars: Vec::new() };
        for metric in text.split(',') {
            let mut words = metric.trim().split(';');
            let name = words.next()?.trim();
            let params: Vec<(&str, &str)> =
                words.filter_map(|word| word.trim().split_once('=')).collect();
            let param =
                |name: &str| params.iter().find(|(n, _)| *n == name).map(|(_, value)| *value);
            let number = |name: &str| {
                param(name).and_then(|value| value.parse::<f64>().ok()).unwrap_or_default()
            };
            if name == "total" {
                waterfall.total_ms = number("dur");
                continue;
            }
            waterfall.bars.push(WaterfallBar {
                source: name.to_owned(),
                round: param("round").and_then(|value| value.parse().ok()).unwrap_or(1),
                start_ms: number("start"),
                took_ms: number("dur"),
                tries: param("tries").and_then(|value| value.parse().ok()).unwrap_or(0),
                status: param("status").and_then(|value| value.parse().ok()),
                outcome: param("outcome").unwrap_or("-").to_owned(),
            });
        }
        waterfall
            .bars
            .sort_by(|a, b| a.round.cmp(&b.round).then(a.start_ms.total_cmp(&b.start_ms)));
        Some(waterfall)
    }

    /// Whether the answer's collection sent requests to sources.
    pub(super) fn has_bars(&self) -> bool {
        !self.bars.is_empty()
    }

    /// For programs.
    pub(super) fn as_json(&self) -> Value {
        let bar = |bar: &WaterfallBar| {
            json!({
                "source": bar.source, "round": bar.round, "start_ms": bar.start_ms,
                "took_ms": bar.took_ms,
                "tries": bar.tries, "status": bar.status, "outcome": bar.outcome,
            })
        };
        json!({"total_ms": self.total_ms, "steps": self.bars.iter().map(bar).collect::<Vec<_>>()})
    }

    /// For people, `width` columns wide; colours are stripped by the writer where they do not
    /// belong.
    pub(super) fn draw(&self, width: usize, summary: &str) -> String {
        let name_width = self.bars.iter().map(|bar| bar.source.len()).max().unwrap_or(0).max(6);
        let chart = width.saturating_sub(name_width + 34).max(CHART_WIDTH_MIN);
        let mut text = format!("\n{}  {:.1} ms\n", summary.bold(), self.total_ms);
        let mut round = 0;
        for bar in &self.bars {
            if bar.round != round {
                round = bar.round;
                let activity = if round == 1 { "collect" } else { "confirm" };
                let _ = writeln!(text, "{}", format!("round {round}: {activity}").dimmed());
            }
            let (lead, length) = self.bar_position(bar, chart);
            let line = format!("{}{}", " ".repeat(lead), "█".repeat(length));
            let fill = " ".repeat(chart.saturating_sub(lead + length));
            let painted = match bar.outcome.as_str() {
                "part" => line.green().to_string(),
                "unchanged" | "not-found" => line.cyan().to_string(),
                _ => line.red().to_string(),
            };
            let tries =
                if bar.tries > 1 { format!(" ({} tries)", bar.tries) } else { String::new() };
            let status = bar.status.map(|status| format!(" {status}")).unwrap_or_default();
            let source = format!("{:name_width$}", bar.source);
            let _ = writeln!(
                text,
                "  {source} {painted}{fill} {:7.1} ms  {}{status}{tries}",
                bar.took_ms, bar.outcome
            );
        }
        text
    }

    /// How many columns a bar is indented, and how long it is: at least one column, never past the
    /// end.
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, clippy::cast_precision_loss)]
    fn bar_position(&self, bar: &WaterfallBar, chart: usize) -> (usize, usize) {
        let scale = chart as f64 / self.total_ms.max(0.001);
        let lead = ((bar.start_ms * scale) as usize).min(chart - 1);
        let length = ((bar.took_ms * scale).round() as usize).clamp(1, chart - lead);
        (lead, length)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test that cannot set itself up should stop there")]
mod tests {
    use super::*;

    fn waterfall() -> Waterfall {
        let mut headers = HeaderMap::new();
        let timing = "total;dur=10.00, \
            orders;dur=4.00;start=4.00;round=1;tries=2;status=200;outcome=part, \
            profile;dur=4.00;start=0.00;round=1;tries=1;status=200;outcome=part, \
            orders;dur=2.00;start=8.00;round=2;tries=1;status=503;outcome=status";
        headers.insert("server-timing", timing.parse().unwrap());
        Waterfall::from_headers(&headers).unwrap()
    }

    #[test]
    fn bars_stand_where_their_time_was() {
        let drawn = anstream::adapter::strip_str(&waterfall().draw(60, "200")).to_string();
        insta::assert_snapshot!(drawn, @r"

        200  10.0 ms
        round 1: collect
          profile ████████                4.0 ms  part 200
          orders         ████████         4.0 ms  part 200 (2 tries)
        round 2: confirm
          orders                 ████     2.0 ms  status 503
        ");
    }

    #[test]
    fn no_timing_means_nothing_to_draw() {
        assert_eq!(Waterfall::from_headers(&HeaderMap::new()), None);
    }
}

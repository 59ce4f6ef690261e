//! The findings about a source's answer.

use std::time::Duration;

use super::super::probe::{AnswerFacts, AnswerProbe, EtagStrength};
use super::super::units::ms;
use super::finding::Finding;
use crate::domain::{Atomicity, Domain, Missing, Pages, Source};

/// The findings about the answer of `source`.
pub(super) fn answer_findings(
    domain: &Domain,
    source: &Source,
    answer: &AnswerProbe,
) -> Vec<Finding> {
    match answer {
        AnswerProbe::NotAsked { needed } => {
            let text = format!("not asked, for it needs `{needed}`, which gave no part");
            vec![Finding::warning("not-asked", text)]
        }
        AnswerProbe::Failed { error, has_next_page } => {
            let failure = Finding::error(error.reason.as_str(), error.detail.clone());
            let pages = has_next_page.then(next_page_finding);
            [failure].into_iter().chain(pages).collect()
        }
        AnswerProbe::NotFound => {
            let answer = if source.http().is_some() { "answered 404" } else { "has no row" };
            vec![missing_finding(answer, &source.missing)]
        }
        AnswerProbe::Unsteady => {
            let warning = Finding::warning("unsteady", "answered once, and then it did not");
            vec![warning.expected("the same again")]
        }
        AnswerProbe::Rows(facts) => {
            let finding = latency_finding(domain, source, facts.first_ms, facts.warm_ms);
            finding.into_iter().collect()
        }
        AnswerProbe::Answered(facts) => part_findings(domain, source, facts),
    }
}

/// The finding about a source that has further pages while the file has no `pages` for it.
fn next_page_finding() -> Finding {
    let text =
        "sends a next page (`Link` with `rel=\"next\"`), and the file says nothing of its pages";
    Finding::warning("pages", text)
        .expected("`pages: follow` or `pages: first`")
        .hint("without, a key with one page is answered, and every other one fails")
}

/// The finding about a 404, or no row, to which the file gives a meaning.
fn missing_finding(answer: &str, meaning: &Missing) -> Finding {
    let hint = "give `--key` one that it has, to see what its answers are like";
    if let Missing::Value(_) = meaning {
        return Finding::note("missing", format!("{answer}, which stands for a value")).hint(hint);
    }
    let text = format!("{answer}, which says that there is no such key");
    Finding::warning("not-found", text).hint(hint)
}

/// The findings about an answer that is a part.
fn part_findings(domain: &Domain, source: &Source, facts: &AnswerFacts) -> Vec<Finding> {
    let mut findings = Vec::new();
    if facts.no_store {
        let retention = match domain.cache.ttl {
            Duration::ZERO => {
                "a domain file decides that alone, here it keeps nothing (`ttl: 0s`)".to_owned()
            }
            ttl => {
                format!("it is kept for {} all the same (`ttl`)", humantime::format_duration(ttl))
            }
        };
        let warning = Finding::warning(
            "no-store",
            format!("its `Cache-Control` says `no-store`, {retention}"),
        );
        findings.push(warning.hint("may its data be kept? where not, `cache: {ttl: 0s}`"));
    }
    let pages = source.http().map(|http| http.pages);
    // One source alone is a snapshot as it is.
    if matches!(domain.atomicity, Atomicity::Snapshot { .. }) && domain.sources.len() > 1 {
        findings.extend(if matches!(pages, Some(Pages::Follow { .. })) {
            let observation =
                "its pages are followed, so it is read again in each round and compared";
            vec![Finding::note("followed-pages", observation)]
        } else {
            snapshot_findings(facts)
        });
    }
    if facts.next_page && pages == Some(Pages::First) {
        findings.push(Finding::note(
            "first-page",
            "has a next page, which is left out (`pages: first`)",
        ));
    }
    findings.extend(latency_finding(domain, source, facts.first_ms, facts.warm_ms));
    findings
}

fn snapshot_findings(facts: &AnswerFacts) -> Vec<Finding> {
    let again = |what: &str| format!("{what}, so it is read again in each round and compared");
    let note = |name, what| Finding::note(name, again(what)).expected("a strong `ETag`");
    let mut findings = Vec::new();
    match (facts.etag, facts.not_modified) {
        (EtagStrength::Weak, _) => findings.push(note("weak-validator", "its `ETag` is weak")),
        (EtagStrength::None, _) if facts.last_modified => {
            findings.push(note("no-validator", "it has a `Last-Modified` but no `ETag`"));
        }
        (EtagStrength::None, _) => findings.push(note("no-validator", "it has no `ETag`")),
        (EtagStrength::Strong, Some(false)) => findings.push(
            Finding::note("no-304", "answered in full to `If-None-Match` with its own `ETag`")
                .expected("304")
                .hint(
                    "does its `ETag` change with every answer? then no snapshot will ever be \
                       confirmed",
                ),
        ),
        (EtagStrength::Strong, _) => {}
    }
    if facts.aged {
        findings.push(
            Finding::warning(
                "cached",
                "answered from a cache (`Age`), though it was asked with `no-cache`",
            )
            .expected("its current state: a snapshot can be no better than its sources")
            .hint("ask the owning service itself, not a cache before it"),
        );
    }
    findings
}

/// The finding about a latency that leaves no room for a dataset.
fn latency_finding(
    domain: &Domain,
    source: &Source,
    first_ms: f64,
    warm_ms: Option<f64>,
) -> Option<Finding> {
    let (limit, name) = match source.timeout {
        Some(timeout) if timeout < domain.deadline => (timeout, "timeout"),
        _ => (domain.deadline, "deadline"),
    };
    let limit_ms = ms(limit);
    let expected = format!("less than its `{name}`, {}", humantime::format_duration(limit));
    match warm_ms {
        Some(warm) if warm > limit_ms => {
            let observation = format!("takes {warm:.0} ms for an answer (median)");
            Some(Finding::error("too-slow", observation).expected(expected))
        }
        _ if first_ms > limit_ms => {
            let observation = format!("took {first_ms:.0} ms for its first answer");
            Some(Finding::warning("slow-start", observation).expected(expected))
        }
        _ => None,
    }
}

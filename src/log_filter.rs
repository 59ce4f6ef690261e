//! The one parser of log filters: `--log`, `BFB_LOG`, `PUT /log` and the annotation `bfb.dev/log`
//! are read here.
//!
//! A filter comes from whoever may write a pod or reach the admin port, so reading one takes time
//! linear in its text, and the text is bounded. The values of span fields are compared as text:
//! `tracing-subscriber` would compile them as regular expressions, of which one kilobyte can take
//! seconds and hundreds of megabytes.

use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::LevelFilter;

/// The longest filter, in bytes.
pub const TEXT_MAX_BYTES: usize = 1024;
/// The most directives of a filter: each is looked at for each place in the program that logs.
pub const DIRECTIVES_MAX: usize = 32;

/// Why a text is no filter.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LogFilterError {
    /// It is too long.
    #[error(
        "the log filter has {0} bytes; expected at most {TEXT_MAX_BYTES} (hint: name fewer modules)"
    )]
    TooLong(usize),
    /// It says too much.
    #[error(
        "the log filter has {0} directives; expected at most {DIRECTIVES_MAX} (hint: \
         name fewer modules)"
    )]
    TooMany(usize),
    /// A bare word that is no level: it would be taken for a module, and silence everything else.
    #[error("`{0}` is no level; {EXPECTED}")]
    NotALevel(String),
    /// Something else is wrong with it.
    #[error("`{0}` is no log filter: {1}; {EXPECTED}")]
    Invalid(String, String),
}

const EXPECTED: &str = "expected a level (`error`, `warn`, `info`, `debug`, `trace`, `off`) \
                        or a filter such as `info,bfb::sources=debug`";

/// The HTTP/2 library warns of every `PING` that answers none of ours, once a frame: whoever speaks
/// HTTP/2 with us could fill the log. It is silent unless a filter names it (`info,h2=debug`).
const SILENCED_DIRECTIVE: &str = "h2=off";

/// Reads a filter.
pub fn parse(text: &str) -> Result<EnvFilter, LogFilterError> {
    if text.len() > TEXT_MAX_BYTES {
        return Err(LogFilterError::TooLong(text.len()));
    }
    // Blanks around a directive mean nothing. The library cuts a directive that has some at the
    // wrong bytes, and panics where one of those blanks is longer than a byte.
    let directives: Vec<&str> = text.split(',').map(str::trim).collect();
    if directives.len() > DIRECTIVES_MAX {
        return Err(LogFilterError::TooMany(directives.len()));
    }
    let is_level = |word: &str| !word.is_empty() && word.parse::<LevelFilter>().is_ok();
    if let Some(word) = directives.iter().find(|word| !word.contains(['=', '[']) && !is_level(word))
    {
        return Err(LogFilterError::NotALevel((*word).to_owned()));
    }
    let filter = EnvFilter::builder()
        .with_regex(false)
        .parse(format!("{SILENCED_DIRECTIVE},{}", directives.join(",")));
    filter.map_err(|error| LogFilterError::Invalid(text.to_owned(), error.to_string()))
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test that cannot set itself up should stop there")]
mod tests {
    use std::fmt::Write as _;

    use super::*;

    #[test]
    fn a_word_that_is_no_level_is_refused() {
        for fine in [
            "info",
            "DEBUG",
            "off",
            "info, bfb::sources=debug",
            "warn,bfb=trace",
            "bfb[span]=trace",
        ] {
            assert!(parse(fine).is_ok(), "{fine}");
        }
        for wrong in
            ["loud", "inof", "info,bfb::sources", "", "info,", "bfb=loud", "loud=very=much"]
        {
            let error = parse(wrong).map(drop).unwrap_err().to_string();
            assert!(error.contains("expected a level"), "{wrong}: {error}");
        }
    }

    #[test]
    fn the_http_2_library_is_heard_only_where_it_is_named() {
        assert_eq!(parse("debug").unwrap().to_string(), "h2=off,debug");
        assert_eq!(parse("info,h2=debug").unwrap().to_string(), "h2=debug,info");
    }

    #[test]
    fn the_value_of_a_field_is_text_and_compiles_to_nothing() {
        // As a regular expression this takes seconds and 250 MB; one with an open group would be
        // refused.
        for pattern in [format!("(0|1)*1{}", "(0|1)".repeat(18)), "(".to_owned(), "[a".repeat(100)]
        {
            let filter = parse(&format!("[{{a={pattern}}}]=info")).unwrap();
            assert!(filter.to_string().contains(&pattern), "{filter}");
        }
    }

    #[test]
    fn a_filter_of_any_length_is_refused_before_it_is_read() {
        let long = format!("[{{a={}}}]=info", "x".repeat(TEXT_MAX_BYTES));
        assert_eq!(parse(&long).map(drop), Err(LogFilterError::TooLong(long.len())));
        let many = (0..=DIRECTIVES_MAX).fold("info".to_owned(), |mut many, nth| {
            let _ = write!(many, ",m{nth}=info");
            many
        });
        assert_eq!(parse(&many).map(drop), Err(LogFilterError::TooMany(DIRECTIVES_MAX + 2)));
    }

    #[test]
    fn blanks_of_any_kind_around_a_directive_neither_panic_nor_change_it() {
        for blank in [" ", "\t", "\u{3000}", "\u{2003}\u{a0}", "\n"] {
            let filter = parse(&format!("{blank}info{blank},{blank}bfb=debug{blank}")).unwrap();
            assert_eq!(
                filter.to_string(),
                parse("info,bfb=debug").unwrap().to_string(),
                "{blank:?}"
            );
        }
        let _ = parse("é[\u{3000}é]\u{3000}=info");
    }
}

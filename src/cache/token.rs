//! The token that an invalidation returns and `Bfb-After` takes: a place in a log, as text.

use std::fmt;
use std::str::FromStr;

use crate::coherence::{Epoch, Fence};

/// One invalidation: its log's epoch in 32 hexadecimal digits, a dash, its `seq`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct InvalidationToken(pub Fence);

impl fmt::Display for InvalidationToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}-{}", self.0.epoch.0, self.0.seq)
    }
}

impl FromStr for InvalidationToken {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || "expected a token as an invalidation returned it".to_owned();
        let (epoch, seq) =
            text.split_once('-').filter(|(epoch, _)| epoch.len() == 32).ok_or_else(wrong)?;
        let epoch = u128::from_str_radix(epoch, 16).map_err(|_| wrong())?;
        Ok(Self(Fence { epoch: Epoch(epoch), seq: seq.parse().map_err(|_| wrong())? }))
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test that cannot set itself up should stop there")]
mod tests {
    use super::*;

    #[test]
    fn a_token_reads_back_as_it_was_written() {
        let token = InvalidationToken(Fence { epoch: Epoch(7), seq: 12 });
        assert_eq!(token.to_string(), "00000000000000000000000000000007-12");
        assert_eq!(token.to_string().parse::<InvalidationToken>().unwrap(), token);
        for wrong in
            ["", "7-12", "0000000000000000000000000000000x-1", "00000000000000000000000000000007-"]
        {
            assert!(wrong.parse::<InvalidationToken>().is_err(), "{wrong}");
        }
    }
}

//! The part that one source returned for one key: raw JSON and its validator.

use bytes::Bytes;
use http::HeaderValue;

/// One part: a valid JSON text as it arrived, and its validator.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Part {
    /// The JSON text, without white space around it.
    pub json: Bytes,
    /// The validator that proves it current.
    pub validator: Validator,
}

/// The proof that a part is current.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Validator {
    /// A strong `ETag`, quotes included.
    Strong(HeaderValue),
    /// A weak `ETag`: proves nothing; kept for `doctor` and debugging.
    Weak(HeaderValue),
    /// None, or the part is several pages, or stands for a 404.
    None,
}

/// No longer `ETag` is a validator: it is kept with each dataset, and sent with each question.
pub const VALIDATOR_BYTES_MAX: usize = 1024;

impl Validator {
    /// The tag as it came; empty where there is none.
    pub fn as_bytes(&self) -> &[u8] {
        match self {
            Self::Strong(tag) | Self::Weak(tag) => tag.as_bytes(),
            Self::None => &[],
        }
    }
}

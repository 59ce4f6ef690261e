//! What one source returned for one key: raw JSON and its validator.

use bytes::Bytes;
use http::HeaderValue;

/// One part: a valid JSON text as it came, and what can prove that it is still current.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Part {
    /// The JSON text, without white space around it.
    pub json: Bytes,
    /// What proves it current.
    pub validator: Validator,
}

/// What can prove a part current.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Validator {
    /// A strong `ETag`, quotes included.
    Strong(HeaderValue),
    /// A weak `ETag`: proves nothing; kept for `doctor` and debugging.
    Weak(HeaderValue),
    /// None, or the part is several pages, or stands for a 404.
    None,
}

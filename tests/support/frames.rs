//! HTTP/2 frames by hand (RFC 9113 section 4.1), for clients that no library would play.

use super::flood::{END_HEADERS, END_STREAM, HEADERS, SETTINGS, frame};

/// The beginning of a connection: the preface, and empty SETTINGS.
pub(crate) fn opening() -> Vec<u8> {
    opening_with(&[])
}

/// The same with settings: (identifier, value).
pub(crate) fn opening_with(settings: &[(u16, u32)]) -> Vec<u8> {
    let mut bytes = PREFACE.to_vec();
    let payload = settings
        .iter()
        .flat_map(|(id, value)| [&id.to_be_bytes()[..], &value.to_be_bytes()].concat());
    bytes.extend(frame(SETTINGS, 0, 0, &payload.collect::<Vec<_>>()));
    bytes
}

pub(crate) const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
pub(crate) const SETTINGS_INITIAL_WINDOW_SIZE: u16 = 4;

/// The nine bytes before a payload of this length.
pub(crate) fn head(kind: u8, flags: u8, stream: u32, length: usize) -> Vec<u8> {
    let mut bytes = u32::try_from(length).unwrap().to_be_bytes()[1..].to_vec();
    bytes.extend([kind, flags]);
    bytes.extend(stream.to_be_bytes());
    bytes
}

/// `GET path` for `localhost` as a header block, without Huffman codes (RFC 7541 appendix A names
/// the indices).
pub(crate) fn get(path: &str) -> Vec<u8> {
    const METHOD_GET: u8 = 0x82;
    const SCHEME_HTTP: u8 = 0x86;
    let mut block = vec![METHOD_GET, SCHEME_HTTP];
    for (name, value) in [(4, path), (1, "localhost")] {
        block.extend([name, u8::try_from(value.len()).unwrap()]);
        block.extend(value.bytes());
    }
    block
}

/// A whole `GET path` on a stream.
pub(crate) fn request(stream: u32, path: &str) -> Vec<u8> {
    frame(HEADERS, END_STREAM | END_HEADERS, stream, &get(path))
}

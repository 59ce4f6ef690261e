//! HTTP/2 frames as they pass (RFC 9113 section 4.1), as far as a connection's bounds need them.
//!
//! hyper does not tell when a frame or a header block began and whether it ended, nor whether an
//! answer that it has taken was sent. The nine bytes at the head of each frame show both. Nothing
//! is checked here, that is hyper's work: a peer that breaks the rules makes its own connection
//! look busier or idler than it is, or as heavy as the bound on its streams allows.

/// The preface that a client of HTTP/2 sends first.
pub(super) const PREFACE: &[u8; 24] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const CONTINUATION: u8 = 9;
const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;

/// The beginning of a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct FrameHead {
    kind: u8,
    flags: u8,
    /// The stream that it is about.
    pub(super) stream: u32,
}

impl FrameHead {
    /// Whether the sender ends this stream with the frame.
    pub(super) fn ends_stream(self) -> bool {
        self.resets_stream()
            || (matches!(self.kind, DATA | HEADERS) && self.flags & END_STREAM != 0)
    }

    /// Whether the frame ends the stream for both sides.
    pub(super) fn resets_stream(self) -> bool {
        self.kind == RST_STREAM
    }

    /// Whether it begins a request, an answer, or the trailers of one.
    pub(super) fn is_headers(self) -> bool {
        self.kind == HEADERS
    }

    /// A header block goes on until the frame that ends it; no other frame may come between.
    fn leaves_block_open(self) -> bool {
        matches!(self.kind, HEADERS | CONTINUATION) && self.flags & END_HEADERS == 0
    }
}

/// Follows the frames of one direction.
#[derive(Debug, Default)]
pub(super) struct FrameReader {
    head: [u8; 9],
    head_bytes: usize,
    payload_bytes_left: usize,
    block_is_open: bool,
    /// Frames that passed whole, and header blocks that passed whole, each counted once.
    completed: u64,
}

impl FrameReader {
    /// Follows `bytes`, the next of the stream, and calls back at the head of each frame.
    pub(super) fn read(&mut self, mut bytes: &[u8], mut on_head: impl FnMut(FrameHead)) {
        while !bytes.is_empty() {
            let payload = self.payload_bytes_left.min(bytes.len());
            self.payload_bytes_left -= payload;
            bytes = &bytes[payload..];
            let missing =
                if payload > 0 { 0 } else { (self.head.len() - self.head_bytes).min(bytes.len()) };
            self.head[self.head_bytes..self.head_bytes + missing]
                .copy_from_slice(&bytes[..missing]);
            self.head_bytes += missing;
            bytes = &bytes[missing..];
            if self.head_bytes == self.head.len() && missing > 0 {
                let [a, b, c, kind, flags, stream @ ..] = self.head;
                self.payload_bytes_left = u32::from_be_bytes([0, a, b, c]) as usize;
                let head =
                    FrameHead { kind, flags, stream: u32::from_be_bytes(stream) & (u32::MAX >> 1) };
                self.block_is_open = head.leaves_block_open();
                on_head(head);
            }
            if self.head_bytes == self.head.len() && self.payload_bytes_left == 0 {
                self.head_bytes = 0;
                self.completed += u64::from(!self.block_is_open);
            }
        }
    }

    /// Bytes of the payload of the frame that has begun which are still to come.
    fn payload_left(&self) -> usize {
        self.payload_bytes_left
    }

    /// Whether a frame or a header block has begun and not ended.
    pub(super) fn is_inside_frame(&self) -> bool {
        self.head_bytes > 0 || self.block_is_open
    }
}

/// The protocol of a client: HTTP/2 after its preface, or another.
#[derive(Debug)]
pub(super) enum Inbound {
    /// So many bytes of the preface came, and nothing else.
    Undecided(usize),
    /// HTTP/1.1, or an unknown protocol.
    Other,
    /// HTTP/2.
    Http2(FrameReader),
}

impl Inbound {
    /// Follows `bytes`, the next of the stream, and calls back at the head of each HTTP/2 frame.
    pub(super) fn read(&mut self, mut bytes: &[u8], on_head: impl FnMut(FrameHead)) {
        if let Self::Undecided(received) = *self {
            let length = bytes.len().min(PREFACE.len() - received);
            let (begin, rest) = bytes.split_at(length);
            if *begin != PREFACE[received..received + length] {
                *self = Self::Other;
                return;
            }
            bytes = rest;
            *self = match received + length {
                all if all == PREFACE.len() => Self::Http2(FrameReader::default()),
                came => Self::Undecided(came),
            };
        }
        if let Self::Http2(frames) = self {
            frames.read(bytes, on_head);
        }
    }

    /// Units that passed whole: frames, and header blocks of several frames. Never decreases.
    pub(super) fn completed(&self) -> u64 {
        if let Self::Http2(frames) = self { frames.completed } else { 0 }
    }

    /// Whether a client of HTTP/2 has begun and not finished a unit: its first frame (SETTINGS), a
    /// frame, a header block.
    pub(super) fn is_inside_frame(&self) -> bool {
        match self {
            Self::Undecided(received) => *received > 0,
            Self::Other => false,
            Self::Http2(frames) => frames.completed == 0 || frames.is_inside_frame(),
        }
    }

    /// Bytes of HTTP/2 that can come without another frame beginning.
    pub(super) fn payload_left(&self) -> usize {
        if let Self::Http2(frames) = self { frames.payload_left() } else { 0 }
    }

    /// Whether this is HTTP/2.
    pub(super) fn is_http2(&self) -> bool {
        matches!(self, Self::Http2(_))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(kind: u8, flags: u8, stream: u8, payload: &[u8]) -> Vec<u8> {
        let length = u8::try_from(payload.len()).unwrap_or(u8::MAX);
        let mut bytes = vec![0, 0, length, kind, flags, 0x80, 0, 0, stream];
        bytes.extend(payload);
        bytes
    }

    /// Settings, a request in two frames, its body, and a ping.
    fn client() -> Vec<u8> {
        let frames = [
            frame(4, 0, 0, &[]),
            frame(HEADERS, 0, 1, &[1, 2, 3]),
            frame(CONTINUATION, END_HEADERS, 1, &[4]),
            frame(DATA, END_STREAM, 1, &[5; 20]),
            frame(6, 0, 0, &[0; 8]),
        ];
        [PREFACE.to_vec(), frames.concat()].concat()
    }

    #[test]
    fn frames_are_the_same_however_their_bytes_are_cut() {
        let bytes = client();
        let heads = |chunk: usize| {
            let mut inbound = Inbound::Undecided(0);
            let mut heads = Vec::new();
            for bytes in bytes.chunks(chunk) {
                inbound.read(bytes, |head| heads.push(head));
            }
            assert_eq!(
                (inbound.completed(), inbound.is_inside_frame()),
                (4, false),
                "in chunks of {chunk}"
            );
            heads
        };
        let whole = heads(bytes.len());
        assert_eq!(
            whole.iter().map(|head| head.kind).collect::<Vec<_>>(),
            [4, HEADERS, CONTINUATION, DATA, 6]
        );
        assert_eq!(
            whole.iter().map(|head| head.ends_stream()).collect::<Vec<_>>(),
            [false, false, false, true, false]
        );
        for chunk in 1..bytes.len() {
            assert_eq!(heads(chunk), whole, "in chunks of {chunk}");
        }
    }

    #[test]
    fn who_stops_within_a_frame_or_a_header_block_or_before_the_settings_owes_the_rest() {
        let bytes = client();
        // Where everything that began has ended: after the settings, the block of two frames, the
        // body, the ping.
        let settings = PREFACE.len() + 9;
        let block = settings + 12 + 10;
        let ends = [0, settings, block, block + 29, block + 29 + 17];
        for came in 0..=bytes.len() {
            let mut inbound = Inbound::Undecided(0);
            inbound.read(&bytes[..came], |_| ());
            assert_eq!(inbound.is_inside_frame(), !ends.contains(&came), "after {came} bytes");
        }
    }

    #[test]
    fn other_bytes_are_no_frames() {
        for other in [&b"GET / HTTP/1.1\r\n\r\n"[..], b"PRI * HTTP/1.1", b"PRI", b""] {
            let mut inbound = Inbound::Undecided(0);
            inbound.read(other, |head| panic!("{head:?}"));
            assert!(!inbound.is_http2());
        }
    }
}

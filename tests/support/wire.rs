//! A connection that says HTTP/1.1 and keeps going: cheap enough for a million reads, and it shows
//! what it was sent.
//!
//! An exchange that is given up half way can be taken up again: what has come stays in the buffer.

use std::io::{self, ErrorKind};
use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use super::client::TEST_TIMEOUT;

/// An answer longer than this is none of ours.
const ANSWER_BYTES_MAX: usize = 256 * 1024;
const CONNECT_MAX: Duration = Duration::from_secs(1);

/// One connection.
pub(crate) struct Wire {
    stream: TcpStream,
    came: Vec<u8>,
}

/// An answer, whole.
#[derive(Debug, Clone)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    head: String,
    pub(crate) body: Vec<u8>,
}

/// `GET path`, with more lines of a head.
pub(crate) fn get(path: &str, lines: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nhost: localhost\r\n{lines}\r\n")
}

/// `POST path` with JSON.
pub(crate) fn post(path: &str, json: &serde_json::Value) -> String {
    let json = json.to_string();
    let head = format!("POST {path} HTTP/1.1\r\nhost: localhost");
    format!(
        "{head}\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n{json}",
        json.len()
    )
}

/// One exchange on a connection of its own.
pub(crate) async fn once(to: SocketAddr, request: &str, patience: Duration) -> io::Result<Answer> {
    let exchange = async {
        let mut wire = Wire::open(to).await?;
        wire.ask(request).await?;
        wire.answer().await
    };
    tokio::time::timeout(patience, exchange)
        .await
        .unwrap_or_else(|_| Err(ErrorKind::TimedOut.into()))
}

impl Wire {
    pub(crate) async fn open(to: SocketAddr) -> io::Result<Self> {
        Self::open_within(to, CONNECT_MAX).await
    }

    /// The same for a test that counts its connections: one that is late is not one that is lost.
    pub(crate) async fn open_patiently(to: SocketAddr) -> io::Result<Self> {
        Self::open_within(to, TEST_TIMEOUT).await
    }

    async fn open_within(to: SocketAddr, patience: Duration) -> io::Result<Self> {
        let opened = tokio::time::timeout(patience, TcpStream::connect(to)).await;
        let stream = opened.unwrap_or_else(|_| Err(ErrorKind::TimedOut.into()))?;
        stream.set_nodelay(true)?;
        Ok(Self { stream, came: Vec::with_capacity(1024) })
    }

    /// Writes a request. It is short: it fits into the socket's buffer, read or not.
    pub(crate) async fn ask(&mut self, request: &str) -> io::Result<()> {
        self.stream.write_all(request.as_bytes()).await
    }

    /// The answer to the request that was written. Whoever stops waiting may ask again for it.
    pub(crate) async fn answer(&mut self) -> io::Result<Answer> {
        loop {
            if let Some((answer, length)) = parse(&self.came)? {
                self.came.drain(..length);
                return Ok(answer);
            }
            if self.came.len() > ANSWER_BYTES_MAX {
                return Err(ErrorKind::InvalidData.into());
            }
            if self.stream.read_buf(&mut self.came).await? == 0 {
                return Err(ErrorKind::UnexpectedEof.into());
            }
        }
    }
}

/// The answer at the beginning of what came, and how long it is; nothing while it is not all there.
fn parse(came: &[u8]) -> io::Result<Option<(Answer, usize)>> {
    let Some(end) = came.windows(4).position(|four| four == b"\r\n\r\n") else { return Ok(None) };
    let invalid = || io::Error::from(ErrorKind::InvalidData);
    let head = std::str::from_utf8(&came[..end]).map_err(|_| invalid())?;
    let status = head.get(9..12).and_then(|status| status.parse().ok()).ok_or_else(invalid)?;
    let answer = Answer { status, head: head.to_owned(), body: Vec::new() };
    // A sidecar knows how long its answers are: one that does not say so is cut off as it is.
    let length: usize = answer.header("content-length").parse().map_err(|_| invalid())?;
    let body = end + 4..end + 4 + length;
    let whole = body.end;
    Ok(came.get(body).map(|body| (Answer { body: body.to_vec(), ..answer }, whole)))
}

impl Answer {
    /// A header's value, empty where it is not there.
    pub(crate) fn header(&self, name: &str) -> &str {
        let mut lines = self.head.split("\r\n").skip(1).filter_map(|line| line.split_once(": "));
        lines.find(|(named, _)| named.eq_ignore_ascii_case(name)).map_or("", |(_, value)| value)
    }

    /// The connection ends after it.
    pub(crate) fn closes(&self) -> bool {
        self.header("connection").eq_ignore_ascii_case("close")
    }

    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }
}

/// A 200 as it would have come.
pub(crate) fn answer(headers: &[(&str, &str)], body: &str) -> Answer {
    let head = headers.iter().fold("HTTP/1.1 200 OK".to_owned(), |head, (name, value)| {
        format!("{head}\r\n{name}: {value}")
    });
    Answer { status: 200, head, body: body.into() }
}

#[test]
fn an_answer_is_taken_whole_and_what_follows_it_stays() {
    let came = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nbfb-dataset: a1\r\n\r\n{}HTTP/1.1";
    for cut in 0..came.len() - 8 {
        assert!(parse(&came[..cut]).unwrap().is_none(), "{cut}");
    }
    let (answer, length) = parse(came).unwrap().unwrap();
    assert_eq!((answer.status, answer.body.as_slice(), length), (200, &b"{}"[..], came.len() - 8));
    assert_eq!(
        (answer.header("Bfb-Dataset"), answer.header("etag"), answer.closes()),
        ("a1", "", false)
    );
}

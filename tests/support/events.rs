//! A listener of `GET /events`: reads server-sent events one by one, and waits for those that a
//! test is about.

use std::net::SocketAddr;

use bytes::Bytes;
use http_body_util::{BodyExt as _, Empty};
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::net::{TcpSocket, TcpStream};
use tokio::task::AbortHandle;

use super::client::TEST_TIMEOUT;

/// One stream. It goes away when it is dropped.
pub(crate) struct Listener {
    body: Incoming,
    driver: AbortHandle,
    came: String,
    /// Everything that came, as it came.
    pub(crate) text: String,
}

impl Drop for Listener {
    fn drop(&mut self) {
        self.driver.abort();
    }
}

impl Listener {
    /// Listens from now on: the stream's first event has come.
    pub(crate) async fn to(admin: SocketAddr, query: &str) -> Self {
        Self::over(TcpStream::connect(admin).await.unwrap(), query).await
    }

    /// The same over a connection that buffers little of what is not read.
    pub(crate) async fn narrow(admin: SocketAddr, query: &str) -> Self {
        let socket = TcpSocket::new_v4().unwrap();
        socket.set_recv_buffer_size(4096).unwrap();
        Self::over(socket.connect(admin).await.unwrap(), query).await
    }

    async fn over(stream: TcpStream, query: &str) -> Self {
        let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.unwrap();
        let driver = tokio::spawn(async move { drop(connection.await) }).abort_handle();
        let request = http::Request::get(format!("/events{query}")).header("host", "localhost");
        let response =
            sender.send_request(request.body(Empty::<Bytes>::new()).unwrap()).await.unwrap();
        assert_eq!(
            (response.status().as_u16(), &response.headers()["content-type"]),
            (200, &"text/event-stream".parse().unwrap())
        );
        assert_eq!(response.headers()["cache-control"], "no-store");
        let mut listener =
            Self { body: response.into_body(), driver, came: String::new(), text: String::new() };
        assert_eq!(listener.next().await.unwrap()["event"], "listening");
        listener
    }

    /// The next event; `None` at the end of the stream.
    pub(crate) async fn next(&mut self) -> Option<Value> {
        // Comments come for ever.
        let next = tokio::time::timeout(TEST_TIMEOUT, self.read()).await;
        next.unwrap_or_else(|_| panic!("no event for {TEST_TIMEOUT:?}: {}", self.text))
    }

    async fn read(&mut self) -> Option<Value> {
        loop {
            if let Some((block, rest)) = self.came.split_once("\n\n") {
                let block = block.to_owned();
                let rest = rest.to_owned();
                self.came = rest;
                if let Some(event) = event(&block) {
                    return Some(event);
                }
                continue;
            }
            if !self.more().await {
                return None;
            }
        }
    }

    /// Waits until a comment shows that the stream lives.
    pub(crate) async fn until_comment(&mut self) {
        let comes = async {
            while !self.text.split("\n\n").any(|block| block.starts_with(':')) {
                assert!(self.more().await, "the stream ended");
            }
        };
        assert!(
            tokio::time::timeout(TEST_TIMEOUT, comes).await.is_ok(),
            "no comment for {TEST_TIMEOUT:?}"
        );
    }

    /// Reads on until an event of this name, and returns it.
    pub(crate) async fn until(&mut self, name: &str) -> Value {
        loop {
            let next = self
                .next()
                .await
                .unwrap_or_else(|| panic!("the stream ended without `{name}`: {}", self.text));
            if next["event"] == name {
                return next;
            }
        }
    }

    async fn more(&mut self) -> bool {
        let Some(Ok(frame)) = self.body.frame().await else { return false };
        let text = String::from_utf8(frame.into_data().unwrap().to_vec()).unwrap();
        self.came += &text;
        self.text += &text;
        true
    }
}

/// Nothing, where it is a comment.
fn event(block: &str) -> Option<Value> {
    let line = |name: &str| block.lines().find_map(|line| line.strip_prefix(name));
    let event: Value = serde_json::from_str(line("data: ")?).unwrap();
    assert_eq!(line("event: "), event["event"].as_str(), "{block}");
    Some(event)
}

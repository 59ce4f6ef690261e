//! The HTTP client of the exporter of spans: it notes why a request failed, which the exporter does
//! not tell.

use std::fmt::Debug;
use std::pin::Pin;
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response};
use opentelemetry_http::{HttpClient, HttpError};
use reqwest::blocking::{Client, ClientBuilder};

use super::losses::SpanLosses;

/// How long an export may take, as OTLP has it.
const EXPORT_TIMEOUT: Duration = Duration::from_secs(10);

/// A client that notes the result of each request.
#[derive(Debug)]
pub(super) struct LossCountingClient<C> {
    client: C,
    losses: SpanLosses,
}

impl LossCountingClient<Client> {
    /// Trusts the authorities of the machine; where there is no list of them, as in an image that
    /// holds nothing but this program, those that the program carries. `timeout` is in
    /// milliseconds, as the variable has it.
    pub(super) fn new(timeout: Option<&str>, losses: SpanLosses) -> Result<Self, String> {
        let timeout = timeout
            .and_then(|text| text.parse().ok())
            .map_or(EXPORT_TIMEOUT, Duration::from_millis);
        let make = move || {
            let usual = build(Client::builder(), timeout);
            usual.or_else(|_| {
                build(Client::builder().tls_backend_preconfigured(own_authorities()), timeout)
            })
        };
        // It has a runtime of its own, and is made on a thread of its own.
        let client =
            std::thread::spawn(make).join().map_err(|_| "there is no HTTP client".to_owned())?;
        Ok(Self { client: client.map_err(|error| error.to_string())?, losses })
    }
}

fn build(builder: ClientBuilder, timeout: Duration) -> reqwest::Result<Client> {
    builder.timeout(timeout).build()
}

fn own_authorities() -> rustls::ClientConfig {
    let roots = rustls::RootCertStore { roots: webpki_roots::TLS_SERVER_ROOTS.to_vec() };
    rustls::ClientConfig::builder().with_root_certificates(roots).with_no_client_auth()
}

type SendFuture<'a> = Pin<Box<dyn Future<Output = Result<Response<Bytes>, HttpError>> + Send + 'a>>;

impl<C: HttpClient> HttpClient for LossCountingClient<C> {
    fn send_bytes<'me, 'sent>(&'me self, request: Request<Bytes>) -> SendFuture<'sent>
    where
        'me: 'sent,
        Self: 'sent,
    {
        Box::pin(async move {
            let sent = self.client.send_bytes(request).await;
            match &sent {
                Ok(_) => self.losses.record_request(None),
                Err(error) => self.losses.record_request(Some(error.as_ref())),
            }
            sent
        })
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    /// A client whose requests fail where `is_down` is true.
    #[derive(Debug)]
    struct Stub {
        is_down: bool,
    }

    impl HttpClient for Stub {
        fn send_bytes<'me, 'sent>(&'me self, _: Request<Bytes>) -> SendFuture<'sent>
        where
            'me: 'sent,
            Self: 'sent,
        {
            let is_down = self.is_down;
            Box::pin(async move {
                if is_down {
                    return Err(std::io::Error::other("refused").into());
                }
                Ok(Response::builder().status(401).body(Bytes::new())?)
            })
        }
    }

    #[tokio::test]
    async fn an_answer_leaves_no_cause_of_the_request_before_it() {
        let losses = SpanLosses::new(None);
        let mut client =
            LossCountingClient { client: Stub { is_down: true }, losses: losses.clone() };
        client.send_bytes(Request::default()).await.unwrap_err();
        assert_eq!(losses.take_cause().as_deref(), Some("refused"));
        client.send_bytes(Request::default()).await.unwrap_err();
        client.client.is_down = false;
        client.send_bytes(Request::default()).await.unwrap();
        assert_eq!(losses.take_cause(), None);
    }
}

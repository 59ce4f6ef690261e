//! Groups of flags that several commands share.

use std::path::PathBuf;

use clap::builder::BoolishValueParser;
use clap::{ArgAction, Args};

use crate::identity::{Paths, TlsOptions};
use crate::serve::Address;
use crate::sidecar::Reading;
use crate::sources::Tape;

/// How upstreams are reached.
#[derive(Debug, Clone, Args)]
pub(super) struct Upstreams {
    /// Our identity: a folder with `tls.crt`, `tls.key` and `ca.crt`; re-read when it changes
    #[arg(long, env = "BFB_IDENTITY", value_name = "DIR")]
    identity: Option<PathBuf>,
    /// Where `ca.crt` is instead
    #[arg(long, env = "BFB_CA", value_name = "FILE", requires = "identity")]
    ca: Option<PathBuf>,
    /// Also speak TLS 1.2
    #[arg(long, env = "BFB_TLS12", action = ArgAction::SetTrue, value_parser = BoolishValueParser::new())]
    tls12: bool,
    /// Allow `http://` sources (development)
    #[arg(
        long = "insecure-upstreams",
        env = "BFB_INSECURE_UPSTREAMS",
        action = ArgAction::SetTrue,
        value_parser = BoolishValueParser::new()
    )]
    allow_http: bool,
    /// Write every upstream answer into a folder (it holds personal data)
    #[arg(long, env = "BFB_RECORD", value_name = "DIR", conflicts_with = "replay")]
    record: Option<PathBuf>,
    /// Answer from a folder that was recorded; no upstream is asked
    #[arg(long, env = "BFB_REPLAY", value_name = "DIR")]
    replay: Option<PathBuf>,
}

impl Upstreams {
    pub(super) fn identity(&self) -> Option<Paths> {
        self.identity.clone().map(|dir| Paths { dir, ca: self.ca.clone() })
    }

    pub(super) fn reading(&self) -> Reading {
        Reading { allow_http: self.allow_http }
    }

    pub(super) fn tls(&self) -> TlsOptions {
        TlsOptions { tls12: self.tls12 }
    }

    pub(super) fn tape(&self) -> Tape {
        match (&self.record, &self.replay) {
            (Some(dir), _) => Tape::Record(dir.clone()),
            (_, Some(dir)) => Tape::Replay(dir.clone()),
            (None, None) => Tape::Off,
        }
    }
}

/// The consumers' addresses: of a sidecar to start, or of the one to speak to.
#[derive(Debug, Clone, Args)]
pub(super) struct Listen {
    /// Where consumers are answered: `IP:PORT` or `unix:/path`; may be given several times
    /// (default: port 7070 of `127.0.0.1` and, where IPv6 exists, of `[::1]`)
    #[arg(long, env = "BFB_LISTEN", value_name = "ADDRESS", value_delimiter = ',')]
    listen: Vec<Address>,
}

/// The admin port of a sidecar to start, or of the one to speak to.
#[derive(Debug, Clone, Args)]
pub(super) struct AdminPort {
    /// The admin port: `IP:PORT` or `unix:/path`
    #[arg(long, env = "BFB_ADMIN", value_name = "ADDRESS", default_value = "127.0.0.1:7071")]
    pub(super) admin: Address,
}

impl Listen {
    /// The addresses, and whether they are the defaults.
    pub(super) fn addresses(&self) -> (Vec<Address>, bool) {
        if self.listen.is_empty() {
            let port = |ip: std::net::IpAddr| Address::Tcp((ip, 7070).into());
            let v4 = port(std::net::Ipv4Addr::LOCALHOST.into());
            let v6 = port(std::net::Ipv6Addr::LOCALHOST.into());
            (vec![v4, v6], true)
        } else {
            (self.listen.clone(), false)
        }
    }
}

/// How a result is printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(super) enum Format {
    /// For people.
    Text,
    /// For programs.
    Json,
}

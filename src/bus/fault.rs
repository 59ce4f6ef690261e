//! What can go wrong with Redis. A fault is never a request's error: it is a miss, a counter, and a lease that runs out.

use std::io;
use std::path::PathBuf;

use super::frames::ReplyExcess;
use super::permissions::PERMISSIONS;

/// Why Redis did not do what it was asked.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// There is no connection, or it broke while the answer was out: it may have been done.
    #[error("there is no connection to redis")]
    Lost,
    /// The answer did not come within the bound: it may have been done.
    #[error("redis did not answer in time")]
    Slow,
    /// Nothing listens there: the connection was refused.
    #[error("redis cannot be reached: the connection was refused")]
    ConnectionRefused,
    /// Its host name has no address.
    #[error("redis cannot be reached: its host is unknown")]
    UnknownHost,
    /// It cannot be reached for another reason.
    #[error("redis cannot be reached: {0}")]
    Unreachable(std::io::ErrorKind),
    /// The TLS handshake failed.
    #[error("redis cannot be reached: {0}")]
    Tls(String),
    /// Redis refused, with the code of its error (`NOAUTH`, `OOM`, `READONLY`, …).
    #[error("redis refused with `{0}`")]
    Refused(String),
    /// Our user may not run this command, which scripts of ours need.
    #[error("redis refused with `NOPERM`: its user may not run `{0}`")]
    NoPermission(&'static str),
    /// Redis answered what this release does not understand.
    #[error("redis gave an answer that cannot be read")]
    Unreadable,
    /// The log speaks a newer protocol: this process takes no part until it is upgraded.
    #[error("the log in redis speaks protocol {0}, which is newer than this release")]
    Newer(u32),
    /// The log is of another life of the server, or nobody has begun one yet.
    #[error("the log in redis is of another life of the server")]
    OtherLife,
    /// No sentinel that was asked names a primary that is up.
    #[error("no sentinel names a primary that is up")]
    NoPrimary,
    /// A file with a password or a certificate cannot be read.
    #[error("`{}` cannot be read", .0.display())]
    File(PathBuf),
    /// A server sent more than was asked for, so the connection to it has ended.
    #[error("redis sent {0}, so the connection was ended")]
    ReplyExcess(ReplyExcess),
    /// The domain is not, or no longer, one of the process.
    #[error("the domain is not served any more")]
    Gone,
}

impl Fault {
    /// Whether it is that our user may not do what was asked.
    pub fn is_no_permission(&self) -> bool {
        match self {
            Self::NoPermission(_) => true,
            Self::Refused(code) => code == "NOPERM",
            _ => false,
        }
    }

    /// Why a connection could not be opened.
    pub(super) fn of_connecting(error: &io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::ConnectionRefused => Self::ConnectionRefused,
            kind => Self::Unreachable(kind),
        }
    }

    /// Whether the same may be answered soon: Redis is on its way to another state, or the connection to another Redis.
    pub(super) fn passes(&self) -> bool {
        match self {
            Self::Lost | Self::Slow | Self::ConnectionRefused | Self::UnknownHost | Self::Unreachable(_) => true,
            // A slot on the move, a failover, a start.
            Self::Refused(code) => {
                matches!(&**code, "TRYAGAIN" | "CLUSTERDOWN" | "READONLY" | "LOADING" | "MASTERDOWN" | "NOREPLICAS")
            }
            _ => false,
        }
    }

    /// A short name for metrics.
    pub const fn kind(&self) -> &'static str {
        match self {
            Self::Lost => "lost",
            Self::Slow => "slow",
            Self::ConnectionRefused | Self::UnknownHost | Self::Unreachable(_) => "unreachable",
            Self::Tls(_) => "tls",
            Self::Refused(_) => "refused",
            Self::NoPermission(_) => "no_permission",
            Self::Unreadable => "unreadable",
            Self::Newer(_) => "newer",
            Self::OtherLife => "other_life",
            Self::NoPrimary => "no_primary",
            Self::File(_) => "file",
            Self::ReplyExcess(_) => "outgrown",
            Self::Gone => "gone",
        }
    }
}

impl From<redis::RedisError> for Fault {
    fn from(error: redis::RedisError) -> Self {
        if error.is_timeout() {
            return Self::Slow;
        }
        if let Some(command) = forbidden_command(&error) {
            return Self::NoPermission(command);
        }
        // The detail of an error may quote what was sent; its code does not.
        match error.code() {
            Some(code) => Self::Refused(code.to_owned()),
            None if error.kind() == redis::ErrorKind::MasterNameNotFoundBySentinel => Self::NoPrimary,
            None if error.is_io_error() || error.is_connection_dropped() || error.is_unrecoverable_error() => {
                Self::Lost
            }
            None => Self::Unreadable,
        }
    }
}

/// The command that our user may not run: a server names it, or else the script does that called it. Of what stands there only
/// the name of a command of ours is taken.
fn forbidden_command(error: &redis::RedisError) -> Option<&'static str> {
    let detail = error.detail()?;
    let by_server = error.code() == Some("NOPERM");
    let rest = match detail.split_once("bfb: no permission for ") {
        Some((_, rest)) => rest,
        None if by_server => detail.split_once("to run the '")?.1,
        None => return None,
    };
    let is_of_name = |c: char| c.is_ascii_lowercase() || c == '|';
    let name = rest.split(|c| !is_of_name(c)).next()?;
    PERMISSIONS.iter().map(|permission| permission.command).find(|command| *command == name)
}

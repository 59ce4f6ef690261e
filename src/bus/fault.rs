//! Redis faults: the classification of what can go wrong with Redis. A fault is never a read's
//! error: it is a miss, it is counted (`bfb_redis_faults_total{kind}`), and without replies the
//! lease runs out (then `--bus-loss fail` answers 503). `bus/mod.rs` tells what a sidecar does when
//! Redis refuses a script; `driver/fault_log.rs` logs faults.

use std::io;
use std::path::PathBuf;

use super::permissions::PERMISSIONS;
use super::resp_frames::ReplyExcess;

/// The reason for which Redis did not do what it was asked.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RedisFault {
    /// There is no connection, or it broke before the reply: the call may have been done.
    #[error("there is no connection to redis")]
    Lost,
    /// The reply did not come within the bound: the call may have been done.
    #[error("redis did not answer in time")]
    TimedOut,
    /// Nothing listens at the address: the connection was refused.
    #[error("redis cannot be reached: the connection was refused")]
    ConnectionRefused,
    /// Its host name has no address.
    #[error("redis cannot be reached: its host name cannot be resolved")]
    UnknownHost,
    /// It cannot be reached for another reason.
    #[error("redis cannot be reached: {0}")]
    Unreachable(std::io::ErrorKind),
    /// The TLS handshake failed.
    #[error("redis cannot be reached: {0}")]
    Tls(String),
    /// Redis refused a command or a script, with the code of its error (`NOAUTH`, `OOM`,
    /// `READONLY`, …).
    #[error("redis refused with `{0}`")]
    Refused(String),
    /// Redis refused a command or a script because our user may not run this command, or not on the
    /// namespace's keys or channels.
    #[error("redis refused with `NOPERM`: its user may not run `{command}`{}", .on.in_words())]
    NoPermission {
        /// The command.
        command: &'static str,
        /// The access that is missing.
        on: Access,
    },
    /// The reply is nothing that this release understands.
    #[error("redis gave an answer that cannot be read")]
    Unreadable,
    /// The log has a newer protocol: this process takes no part until it is upgraded.
    #[error("the log in redis speaks protocol {0}, which is newer than this release")]
    NewerProtocol(u32),
    /// The log is of another life of the server, or there is none yet.
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
    DomainGone,
}

impl RedisFault {
    /// Whether Redis refused because our user lacks a permission.
    pub fn is_no_permission(&self) -> bool {
        match self {
            Self::NoPermission { .. } => true,
            Self::Refused(code) => code == "NOPERM",
            _ => false,
        }
    }

    /// Classifies an error of opening a connection.
    pub(super) fn from_connect_error(error: &io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::ConnectionRefused => Self::ConnectionRefused,
            kind => Self::Unreachable(kind),
        }
    }

    /// Whether the same call may succeed soon: Redis is changing its state, or the bus is
    /// connecting to another server.
    pub(super) fn is_transient(&self) -> bool {
        match self {
            // A server that starts, or a proxy without a server behind it, may end the handshake
            // too.
            Self::Lost
            | Self::TimedOut
            | Self::ConnectionRefused
            | Self::UnknownHost
            | Self::Unreachable(_)
            | Self::Tls(_) => true,
            // A slot that moves, a failover, a server that starts.
            Self::Refused(code) => {
                matches!(
                    &**code,
                    "TRYAGAIN"
                        | "CLUSTERDOWN"
                        | "READONLY"
                        | "LOADING"
                        | "MASTERDOWN"
                        | "NOREPLICAS"
                )
            }
            _ => false,
        }
    }

    /// The label `kind` of `bfb_redis_faults_total`.
    pub const fn kind(&self) -> &'static str {
        match self {
            Self::Lost => "lost",
            Self::TimedOut => "slow",
            Self::ConnectionRefused | Self::UnknownHost | Self::Unreachable(_) => "unreachable",
            Self::Tls(_) => "tls",
            Self::Refused(_) => "refused",
            Self::NoPermission { .. } => "no_permission",
            Self::Unreadable => "unreadable",
            Self::NewerProtocol(_) => "newer",
            Self::OtherLife => "other_life",
            Self::NoPrimary => "no_primary",
            Self::File(_) => "file",
            Self::ReplyExcess(_) => "outgrown",
            Self::DomainGone => "gone",
        }
    }
}

impl From<redis::RedisError> for RedisFault {
    fn from(error: redis::RedisError) -> Self {
        if error.is_timeout() {
            return Self::TimedOut;
        }
        if let Some((on, command)) = denied_command(&error) {
            return Self::NoPermission { command, on };
        }
        // The detail of an error may quote what was sent; its code does not.
        match error.code() {
            Some(code) => Self::Refused(code_in_script(&error).unwrap_or(code).to_owned()),
            None if error.kind() == redis::ErrorKind::MasterNameNotFoundBySentinel => {
                Self::NoPrimary
            }
            None if error.is_io_error()
                || error.is_connection_dropped()
                || error.is_unrecoverable_error() =>
            {
                Self::Lost
            }
            None => Self::Unreadable,
        }
    }
}

/// The access that a user lacks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// To run the command at all.
    Command,
    /// To run it on the namespace's keys.
    Keys,
    /// To run it on the namespace's channels.
    Channels,
}

impl Access {
    const fn in_words(self) -> &'static str {
        match self {
            Self::Command => "",
            Self::Keys => " on the namespace's keys",
            Self::Channels => " on the namespace's channels",
        }
    }
}

/// The command that our user may not run: the server's error names it, or the error of the script
/// that called it. Only the name of one of our commands is taken from the text.
fn denied_command(error: &redis::RedisError) -> Option<(Access, &'static str)> {
    let detail = error.detail()?;
    let (on, rest) = match detail.split_once("bfb: no permission for ") {
        Some((_, rest)) => rest.split_once(' ')?,
        None if error.code() == Some("NOPERM") => ("command", detail.split_once("to run the '")?.1),
        None => return None,
    };
    let on = match on {
        "keys" => Access::Keys,
        "channels" => Access::Channels,
        _ => Access::Command,
    };
    let is_of_name = |c: char| c.is_ascii_lowercase() || c == '|';
    let name = rest.split(|c| !is_of_name(c)).next()?;
    let commands = PERMISSIONS.iter().map(|permission| permission.command);
    Some((on, commands.into_iter().find(|command| *command == name)?))
}

/// The code of an error within a script; servers before 7.0 put it behind a code of their own.
fn code_in_script(error: &redis::RedisError) -> Option<&'static str> {
    const CODES: [&str; 6] = ["READONLY", "OOM", "MISCONF", "NOREPLICAS", "LOADING", "MASTERDOWN"];
    let detail = error.detail().filter(|detail| detail.contains("running script"))?;
    CODES.into_iter().find(|code| detail.contains(&format!("-{code} ")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(reply: &str) -> RedisFault {
        let error =
            redis::parse_redis_value(reply.as_bytes()).and_then(redis::Value::extract_error);
        RedisFault::from(error.expect_err("an error"))
    }

    #[test]
    fn a_command_that_is_not_allowed_is_named_whichever_server_says_so() {
        let command = |command| RedisFault::NoPermission { command, on: Access::Command };
        let by_script = "-ERR user_script:30: bfb: no permission for command hset script: 42, \
                         on @user_script:30.\r\n";
        assert_eq!(of(by_script), command("hset"));
        assert_eq!(
            of("-NOPERM this user has no permissions to run the 'evalsha' command\r\n"),
            command("evalsha")
        );
        let on_channels =
            "-ERR user_script:30: bfb: no permission for channels publish script: 42\r\n";
        assert_eq!(
            of(on_channels),
            RedisFault::NoPermission { command: "publish", on: Access::Channels }
        );
        assert_eq!(
            of("-NOPERM no permissions to run the 'secret' command\r\n"),
            RedisFault::Refused("NOPERM".into())
        );
    }

    #[test]
    fn the_code_within_a_script_counts() {
        let old = "-ERR Error running script (call to f_1): @user_script:9: \
                   -READONLY You can't write.\r\n";
        assert_eq!(of(old), RedisFault::Refused("READONLY".into()));
        assert_eq!(
            of("-READONLY You can't write against a read only replica.\r\n"),
            RedisFault::Refused("READONLY".into())
        );
    }
}

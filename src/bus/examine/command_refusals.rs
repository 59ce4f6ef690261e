//! Finds the commands of a sidecar that its user may not run. Each command is sent in a form of
//! which Redis checks the permission and which then does nothing: a command that writes has an
//! argument that Redis refuses after that check, or names a key that does not exist.

use redis::{Cmd, RedisError};

use super::super::endpoint::RedisConnection;
use super::super::fault::RedisFault;
use super::super::permissions::{PERMISSIONS, RedisKind};
use super::super::redis_names::RedisNames;

/// The refusals of a server.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CommandRefusals {
    /// Commands that the user may not run.
    pub commands: Vec<&'static str>,
    /// Commands that the server does not have, or has under another name.
    pub unknown: Vec<&'static str>,
    /// The user has no access to the keys of the namespace.
    pub keys: bool,
    /// The user has no access to the channels of the namespace.
    pub channels: bool,
    /// The error code with which the server refuses every user at present: `READONLY`, `MISCONF`,
    /// `OOM`.
    pub state: Option<String>,
}

impl CommandRefusals {
    /// Whether nothing was refused.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    fn note(&mut self, command: &'static str, error: &RedisError) -> Result<(), RedisFault> {
        let detail = error.detail().unwrap_or_default();
        match error.code() {
            Some("NOPERM") if detail.contains("to run the") => self.commands.push(command),
            Some("NOPERM") if detail.ends_with("key") || detail.contains("of the keys") => {
                self.keys = true;
            }
            Some("NOPERM") => self.channels = true,
            Some("ERR")
                if detail.starts_with("unknown command")
                    || detail.starts_with("unknown subcommand") =>
            {
                self.unknown.push(command);
            }
            // The command was allowed, and then did nothing, as intended.
            Some("ERR" | "NOSCRIPT" | "WRONGTYPE") => {}
            Some(state) => self.state = Some(state.to_owned()),
            None => return Err(RedisFault::from(error.clone())),
        }
        Ok(())
    }
}

/// Sends every command that a sidecar needs on a Redis of this kind.
pub(super) async fn probe_commands(
    connection: &mut RedisConnection,
    names: &RedisNames,
    kind: RedisKind,
) -> Result<CommandRefusals, RedisFault> {
    let mut refusals = CommandRefusals::default();
    for permission in PERMISSIONS.iter().filter(|permission| permission.is_needed_on(kind)) {
        if let Err(error) = harmless_command(permission.command, names).exec_async(connection).await
        {
            refusals.note(permission.command, &error)?;
        }
    }
    Ok(refusals)
}

/// A form of `command` that does nothing. Its number of arguments is right, since Redis checks that
/// before the permission.
fn harmless_command(command: &str, names: &RedisNames) -> Cmd {
    let key = names.meta();
    let channel = names.invalidations_channel();
    let mut words = command.split('|');
    let mut cmd = redis::cmd(&words.next().unwrap_or_default().to_ascii_uppercase());
    for word in words {
        cmd.arg(word.to_ascii_uppercase());
    }
    match command {
        "eval" => cmd.arg("return 1").arg(1).arg(key),
        "evalsha" => cmd.arg("0".repeat(40)).arg(1).arg(key),
        "info" => cmd.arg("server"),
        "publish" | "spublish" => cmd.arg(channel).arg(""),
        "subscribe" | "unsubscribe" | "ssubscribe" => cmd.arg(channel),
        // These have, in turn, half a pair, a score that is no number, an id that no entry may
        // have, and a time to live of zero.
        "hset" => cmd.arg(key).arg("a").arg("b").arg("c"),
        "zadd" => cmd.arg(key).arg("none").arg("a"),
        "xadd" => cmd.arg(key).arg("0-0").arg("a").arg("b"),
        "set" => cmd.arg(key).arg("").arg("PX").arg(0),
        "hmget" | "hget" | "hdel" | "hstrlen" | "zscore" => cmd.arg(key).arg("a"),
        "xrange" => cmd.arg(key).arg("-").arg("+").arg("COUNT").arg(1),
        "pexpire" => cmd.arg(key).arg(1),
        "hgetall" | "hlen" | "zcard" | "zpopmin" | "get" | "strlen" | "del" | "unlink" | "pttl" => {
            cmd.arg(key)
        }
        // `asking`, `cluster|slots`.
        _ => &mut cmd,
    };
    cmd
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_listed_command_has_a_harmless_form() {
        let names = RedisNames::new("default", "throwaway");
        let bare = ["asking", "cluster|slots"];
        for permission in &PERMISSIONS {
            let words = harmless_command(permission.command, &names).args_iter().count();
            assert!(words > 1 || bare.contains(&permission.command), "{}", permission.command);
        }
    }
}

//! The user of the servers that refuse to be root, where the tests are root.

use std::fs::{self, Permissions};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, chown};
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::Command;
use std::sync::OnceLock;

use tempfile::TempDir;

/// A user and its group.
#[derive(Debug, Clone, Copy)]
struct Account {
    user: u32,
    group: u32,
}

/// The user of Debian's package, or who owns nothing; none where the tests are not root.
fn account() -> Option<Account> {
    static ACCOUNT: OnceLock<Option<Account>> = OnceLock::new();
    *ACCOUNT.get_or_init(|| {
        if fs::metadata("/proc/self").unwrap().uid() != 0 {
            return None;
        }
        let users = fs::read_to_string("/etc/passwd").unwrap();
        let named = |name: &str| {
            let mut lines = users.lines().map(|line| line.split(':').collect::<Vec<_>>());
            let line = lines.find(|fields| fields[0] == name)?;
            Some(Account { user: line[2].parse().ok()?, group: line[3].parse().ok()? })
        };
        Some(named("postgres").or_else(|| named("nobody")).expect("a user that is not root"))
    })
}

/// Makes the program run as that user.
pub(crate) fn lower(command: &mut Command) {
    if let Some(Account { user, group }) = account() {
        command.uid(user).gid(group);
    }
}

/// Gives that user a file, or a folder with all that is in it.
pub(crate) fn give(path: &Path) {
    let Some(Account { user, group }) = account() else { return };
    chown(path, Some(user), Some(group)).unwrap();
    if path.is_dir() {
        for entry in fs::read_dir(path).unwrap() {
            give(&entry.unwrap().path());
        }
    }
}

/// A folder that every user can go through.
pub(crate) fn public_folder() -> TempDir {
    let dir = tempfile::tempdir().unwrap();
    fs::set_permissions(dir.path(), Permissions::from_mode(0o711)).unwrap();
    dir
}

/// Whether that user can run a program.
pub(crate) fn can_run(program: &Path) -> bool {
    let mut command = Command::new(program);
    command.arg("--version");
    lower(&mut command);
    command.output().is_ok_and(|output| output.status.success())
}

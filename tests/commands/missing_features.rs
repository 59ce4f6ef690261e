//! A build without an optional feature lists the command that needs it, and refuses it with 69.

use std::process::{Command, Output};

use crate::history::without::removable;

#[test]
fn a_command_that_is_not_in_this_build_is_listed_and_refused_with_69() {
    let program = removable();
    let run = |args: &[&str]| Command::new(&program).args(args).env_clear().output().unwrap();
    let help = String::from_utf8(run(&["--help"]).stdout).unwrap();
    let line =
        help.lines().find(|line| line.trim_start().starts_with("webhook ")).unwrap_or_default();
    assert!(line.ends_with("(not in this build)"), "{help}");
    for args in
        [&["webhook"][..], &["webhook", "--help"], &["webhook", "--listen", "127.0.0.1:0", "more"]]
    {
        let Output { status, stdout, stderr } = run(args);
        let text = String::from_utf8(stderr).unwrap();
        assert_eq!((status.code(), stdout.as_slice()), (Some(69), &b""[..]), "{args:?}: {text}");
        assert!(
            text.starts_with("error: `bfb webhook` is not in this build\nhint: "),
            "{args:?}: {text}"
        );
    }
}

//! A path that is no regular file is refused at once, wherever it is named, because its reader
//! could wait for ever.

use std::path::Path;
use std::sync::mpsc;
use std::time::Duration;

use bfb::domain::{World, files, load};

use super::{Folder, file, says_all, world};

/// The result of `f`; panics if `f` hangs.
fn in_time<T: Send + 'static>(f: impl FnOnce() -> T + Send + 'static) -> T {
    let (done, ended) = mpsc::channel();
    std::thread::spawn(move || drop(done.send(f())));
    ended.recv_timeout(Duration::from_mins(1)).expect("it waits for ever")
}

fn pipe(path: &Path) {
    use rustix::fs::{CWD, FileType, Mode, mknodat};
    mknodat(CWD, path, FileType::Fifo, Mode::RUSR | Mode::WUSR, 0).unwrap();
}

#[test]
fn what_is_no_regular_file_is_refused_at_once() {
    let folder = Folder::of(&[]);
    pipe(&folder.path("pipe.yaml"));
    std::os::unix::fs::symlink("pipe.yaml", folder.path("link.yaml")).unwrap();
    for (path, what) in [
        (folder.path("pipe.yaml"), "a pipe"),
        (folder.path("link.yaml"), "a pipe"),
        ("/dev/zero".into(), "a device"),
        ("/dev/tty".into(), "a device"),
    ] {
        let message = format!("the path cannot be read: it is {what}, not a regular file");
        let loaded = in_time(move || load(&[path], world()));
        assert_eq!(loaded.problems().len(), 1);
        assert_eq!(loaded.problems()[0].message, message);
        says_all(&loaded.problems()[0]);
    }
    assert!(files(&folder.paths()).is_err(), "in a folder it is no domain file");
}

#[test]
fn a_secret_or_schema_that_is_no_regular_file_is_refused_at_once() {
    let folder = Folder::of(&[]);
    pipe(&folder.path("pipe"));
    let secret = "'https://a/{key}', headers: {x: \"${TOKEN}\"}";
    folder.write("a.yaml", &file("a", "/a/{key}").replace("'https://a/{key}'", secret));
    folder
        .write("b.yaml", &file("b", "/b/{key}").replace("'/b/{key}'", "'/b/{key}', schema: pipe"));
    folder.write("c.yaml", &file("c", "/c/{key}").replace("'/c/{key}'", "'/c/{key}', schema: ."));
    let paths = folder.paths();
    let token = folder.path("pipe").to_str().unwrap().to_owned();
    let loaded = in_time(move || {
        let variable = |name: &str| (name == "TOKEN_FILE").then(|| token.clone());
        load(&paths, World { variable: &variable, ..world() })
    });
    let messages: Vec<_> =
        loaded.problems().iter().map(|problem| problem.message.as_str()).collect();
    let expected = [
        "the file that `TOKEN_FILE` names cannot be read: it is a pipe, not a regular file",
        "the schema cannot be read: it is a pipe, not a regular file",
        "the schema cannot be read: it is a folder, not a regular file",
    ];
    assert_eq!(messages, expected);
}

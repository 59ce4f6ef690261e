//! `--record` and `--replay`.

use bfb::sources::{Reason, Recording, SourceAnswer};

use super::{TestRequest, default_request, fetch, fetch_error, known_part, part, setup, strong};
use crate::support::upstream::{Reply, Upstream};

#[tokio::test]
async fn what_was_recorded_is_replayed_without_the_network() {
    let folder = tempfile::tempdir().unwrap();
    let record = folder.path().join("tape");
    let origin = {
        let upstream = Upstream::plain().await;
        upstream.answers("/customers/4711", [Reply::json("{\"a\": 1.10}").etag("\"a\"")]);
        let client = setup(upstream.origin()).tape(Recording::Record(record.clone())).client();
        part(fetch(&client, "/customers/4711").await.unwrap());
        assert_eq!(fetch_error(&client, "/customers/0").await.reason, Reason::Status);
        upstream.origin()
    };
    for entry in std::fs::read_dir(&record).unwrap() {
        let entry = entry.unwrap();
        let name = entry.file_name().into_string().unwrap();
        assert!(name.starts_with("orders-") && !name.contains("4711"), "{name}");
        let mode =
            std::os::unix::fs::PermissionsExt::mode(&entry.metadata().unwrap().permissions());
        assert_eq!(mode & 0o777, 0o600);
    }
    let client = setup(origin).tape(Recording::Replay(record)).client();
    let played = part(fetch(&client, "/customers/4711").await.unwrap());
    assert_eq!(played, known_part("{\"a\": 1.10}", strong("\"a\"")));
    let (again, attempts) = TestRequest { previous_part: Some(&played), ..default_request() }
        .of(&client, "/customers/4711")
        .await;
    assert!(matches!(again, Ok(SourceAnswer::Unchanged)));
    assert_eq!(attempts[0].status, Some(304));
    assert!(fetch_error(&client, "/customers/0").await.detail.contains("answered 404"));
    let failure = fetch_error(&client, "/customers/1").await;
    assert_eq!(failure.reason, Reason::Connect);
    assert!(failure.detail.contains("nothing is recorded"), "{failure}");
}

#[tokio::test]
async fn a_tape_that_cannot_be_written_fails_no_request() {
    let file = tempfile::NamedTempFile::new().unwrap();
    let upstream = Upstream::plain().await;
    upstream.answers("/", [Reply::json("1")]);
    let client = setup(upstream.origin()).tape(Recording::Record(file.path().to_owned())).client();
    part(fetch(&client, "/").await.unwrap());
}

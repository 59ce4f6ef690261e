//! `--record DIR` and `--replay DIR`: upstream answers as files, one a request target, readable by
//! their owner only.
//!
//! A file's name is the source's name and a hash of the request target: no name holds a key in
//! clear. Its content is the upstream's answer, and therefore personal data. A file is whole or
//! absent (written aside, then renamed).

use std::fs;
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use aws_lc_rs::digest::{SHA256, digest};
use http::header::{ETAG, SET_COOKIE};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use serde::{Deserialize, Serialize};

use super::Reason;
use super::answer::{self, UpstreamReply};
use super::attempt_error::{AttemptError, format_size};
use super::exchange::BodyLimit;

/// The most files that one source records; answers to further targets are counted, not written.
pub(super) const FILES_MAX: usize = 10_000;

/// Whether upstream answers are recorded to, or replayed from, a folder.
#[derive(Debug, Clone, Default)]
pub enum Recording {
    /// Neither.
    #[default]
    Off,
    /// `--record DIR`.
    Record(PathBuf),
    /// `--replay DIR`: requests are answered from files; no upstream is asked.
    Replay(PathBuf),
}

impl Recording {
    /// Makes the folder that is recorded to, or checks the one that is replayed: errors show at the
    /// start.
    pub fn prepare(&self) -> io::Result<()> {
        match self {
            Self::Off => Ok(()),
            Self::Record(folder) => create_private_folder(folder),
            Self::Replay(folder) => fs::read_dir(folder).map(drop),
        }
    }
}

/// For its owner only: recordings are personal data.
fn create_private_folder(folder: &Path) -> io::Result<()> {
    fs::DirBuilder::new().recursive(true).mode(0o700).create(folder)
}

/// The files of one source in a folder.
#[derive(Debug, Clone)]
pub(super) struct Recorder {
    folder: PathBuf,
    source: Arc<str>,
    address: String,
    /// The number of this source's files in the folder.
    files: Arc<AtomicUsize>,
}

#[derive(Debug, Serialize, Deserialize)]
struct RecordedAnswer {
    source: String,
    url: String,
    status: u16,
    headers: Vec<(String, String)>,
    /// The body where it is UTF-8; any other is no part, and is recorded as empty.
    body: String,
}

impl Recorder {
    pub(super) fn new(folder: &Path, source: &Arc<str>, address: &str) -> Self {
        let prefix = format!("{source}-");
        let is_of_source = |entry: io::Result<fs::DirEntry>| {
            entry.is_ok_and(|entry| entry.file_name().to_string_lossy().starts_with(&prefix))
        };
        let found = fs::read_dir(folder).map_or(0, |entries| {
            entries.filter_map(|entry| is_of_source(entry).then_some(())).count()
        });
        Self {
            folder: folder.to_owned(),
            source: Arc::clone(source),
            address: address.to_owned(),
            files: Arc::new(AtomicUsize::new(found)),
        }
    }

    /// Writes an answer. A 304 is not written: the part that it confirms was written when it
    /// arrived.
    pub(super) async fn record(&self, target: &str, reply: &UpstreamReply) -> io::Result<()> {
        if reply.status == StatusCode::NOT_MODIFIED {
            return Ok(());
        }
        let path = self.path(target);
        let recording = RecordedAnswer {
            source: self.source.to_string(),
            url: format!("{}{target}", self.address),
            status: reply.status.as_u16(),
            headers: recordable_headers(&reply.headers),
            body: String::from_utf8(reply.body.to_vec()).unwrap_or_default(),
        };
        let files = Arc::clone(&self.files);
        tokio::task::spawn_blocking(move || write_recording(&path, &recording, &files))
            .await
            .map_err(io::Error::other)?
    }

    /// The recorded answer, or a 304 where it still has the `ETag` of the condition.
    pub(super) async fn replay(
        &self,
        target: &str,
        condition: Option<&HeaderValue>,
        room: BodyLimit,
    ) -> Result<UpstreamReply, AttemptError> {
        let unasked = |detail: &str| AttemptError::inconclusive(Reason::Connect, detail);
        let text = match tokio::fs::read(self.path(target)).await {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Err(unasked(
                    "nothing is recorded for this request, and `--replay` asks no upstream",
                ));
            }
            Err(error) => {
                return Err(unasked(&format!("its recording cannot be read: {}", error.kind())));
            }
        };
        let recording: RecordedAnswer =
            serde_json::from_slice(&text).map_err(|_| unasked("its recording is broken"))?;
        let status = StatusCode::from_u16(recording.status)
            .map_err(|_| unasked("its recording has no valid status"))?;
        let headers = parse_headers(&recording.headers);
        if status == StatusCode::OK && condition.is_some() && headers.get(ETAG) == condition {
            return Ok(UpstreamReply {
                status: StatusCode::NOT_MODIFIED,
                headers,
                body: bytes::Bytes::new(),
            });
        }
        answer::has_body(status, &headers)?;
        if recording.body.len() > room.left {
            return Err(AttemptError::answered(
                Reason::TooLarge,
                format!("the recording is larger than {}", format_size(room.allowed)),
            ));
        }
        Ok(UpstreamReply { status, headers, body: recording.body.into() })
    }

    fn path(&self, target: &str) -> PathBuf {
        let hash = digest(&SHA256, format!("{}{target}", self.address).as_bytes());
        let short =
            hash.as_ref().iter().take(16).fold(0_u128, |all, byte| all << 8 | u128::from(*byte));
        self.folder.join(format!("{}-{short:032x}.json", self.source))
    }
}

fn recordable_headers(headers: &HeaderMap) -> Vec<(String, String)> {
    // A cookie is a credential, and no answer's meaning hangs on one.
    let recordable = headers.iter().filter(|(name, _)| *name != SET_COOKIE);
    recordable
        .filter_map(|(name, value)| Some((name.to_string(), value.to_str().ok()?.to_owned())))
        .collect()
}

fn parse_headers(headers: &[(String, String)]) -> HeaderMap {
    let parse = |(name, value): &(String, String)| {
        Some((name.parse::<HeaderName>().ok()?, value.parse::<HeaderValue>().ok()?))
    };
    headers.iter().filter_map(parse).collect()
}

fn write_recording(path: &Path, recording: &RecordedAnswer, files: &AtomicUsize) -> io::Result<()> {
    let folder = path.parent().unwrap_or(Path::new("."));
    create_private_folder(folder)?;
    if !path.exists() && files.fetch_add(1, Ordering::Relaxed) >= FILES_MAX {
        files.fetch_sub(1, Ordering::Relaxed);
        return Err(io::Error::other(format!(
            "the folder holds {FILES_MAX} answers of this source, which is the most"
        )));
    }
    let aside = folder.join(format!(".{:032x}.tmp", fastrand::u128(..)));
    let result = write_temporary(&aside, recording).and_then(|()| fs::rename(&aside, path));
    if result.is_err() {
        // The first error is the one to report; a temporary file that is left is only untidy.
        let _ = fs::remove_file(&aside);
    }
    result
}

fn write_temporary(aside: &Path, recording: &RecordedAnswer) -> io::Result<()> {
    let mut file = fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(aside)?;
    file.write_all(&serde_json::to_vec_pretty(recording)?)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn reply(status: u16) -> UpstreamReply {
        UpstreamReply {
            status: StatusCode::from_u16(status).unwrap(),
            headers: HeaderMap::new(),
            body: "1".into(),
        }
    }

    #[tokio::test]
    async fn a_full_folder_takes_what_it_holds_already_and_nothing_new() {
        let folder = tempfile::tempdir().unwrap();
        let reel = Recorder::new(folder.path(), &"orders".into(), "https://a.b");
        let old = "/old";
        let new = "/new";
        reel.record(old, &reply(200)).await.unwrap();
        reel.files.store(FILES_MAX, Ordering::Relaxed);
        reel.record(old, &reply(404)).await.unwrap();
        assert!(
            reel.record(new, &reply(200)).await.unwrap_err().to_string().contains("10000 answers")
        );
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1, "nothing is left over");
        let again = Recorder::new(folder.path(), &"orders".into(), "https://a.b");
        assert_eq!(again.files.load(Ordering::Relaxed), 1);
    }

    #[tokio::test]
    async fn a_304_does_not_take_the_place_of_what_it_confirms() {
        let folder = tempfile::tempdir().unwrap();
        let reel = Recorder::new(folder.path(), &"orders".into(), "https://a.b");
        let target = "/";
        reel.record(target, &reply(304)).await.unwrap();
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
    }
}

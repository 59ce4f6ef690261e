//! Seals entries on a shared server (`--seal-key FILE`): AES-256-GCM-SIV (RFC 8452) under
//! keys from a file.
//!
//! The first key seals, every key opens, so that keys are changed without a moment in which half of
//! the fleet cannot read the other half: add the new one as the last line everywhere, then move it
//! to the front, then take the old one out. The file is read again when it changes; one that is
//! broken is reported, and the keys before it stay.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use aws_lc_rs::aead::{AES_256_GCM_SIV, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use aws_lc_rs::digest::{SHA256, digest};
use aws_lc_rs::rand;
use tokio::sync::watch;

use crate::cache::metrics::CacheMetrics;
use crate::resources::read_at_most;

/// How often the file is looked at.
const RELOAD_INTERVAL: Duration = Duration::from_secs(1);
/// The most keys of a file.
const KEYS_MAX: usize = 16;
/// A key's bytes.
const KEY_BYTES: usize = 32;
/// A sealed text begins with the id of its key.
const ID_BYTES: usize = 8;
/// The largest key file, in bytes: far more than its keys and comments need.
const FILE_BYTES_MAX: u64 = 64 * 1024;

/// The keys in force; clones share them.
#[derive(Debug, Clone)]
pub struct Seal {
    file: PathBuf,
    keys: watch::Sender<Arc<SealKeys>>,
}

/// Why a file holds no keys. The text never quotes the file.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{}`{}: {what}\nhint: `openssl rand -hex 32` makes a key; \
     the first line seals, all of them open",
    file.display(),
    place(*line)
)]
pub struct SealError {
    file: PathBuf,
    line: Option<usize>,
    what: String,
    /// Whether the file cannot be had at all; otherwise it holds something else than it should.
    pub is_missing: bool,
}

fn place(line: Option<usize>) -> String {
    line.map(|line| format!(":{line}")).unwrap_or_default()
}

struct SealKeys(Vec<SealKey>);

struct SealKey {
    id: [u8; ID_BYTES],
    key: LessSafeKey,
}

/// Never prints the keys.
impl fmt::Debug for SealKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SealKeys({})", self.0.len())
    }
}

impl Seal {
    /// Reads the file: a key a line, 64 hexadecimal digits; `#` begins a comment.
    pub fn load(file: &Path) -> Result<Self, SealError> {
        let keys = SealKeys::read(file)?;
        Ok(Self { file: file.to_owned(), keys: watch::Sender::new(Arc::new(keys)) })
    }

    /// Reloads the keys whenever the file changes. Never returns; drop it to stop it.
    pub async fn reload_on_change(self, metrics: CacheMetrics) {
        let mut last_error = None;
        loop {
            tokio::time::sleep(RELOAD_INTERVAL).await;
            let file = self.file.clone();
            let Ok(read) = tokio::task::spawn_blocking(move || SealKeys::read(&file)).await else {
                continue;
            };
            match read {
                Ok(keys) if keys.ids() == self.keys.borrow().ids() => last_error = None,
                Ok(keys) => {
                    tracing::info!(keys = keys.0.len(), "new seal keys");
                    self.keys.send_replace(Arc::new(keys));
                    last_error = None;
                }
                Err(error) if last_error.as_ref() == Some(&error) => {}
                Err(error) => {
                    metrics.seal_reload_failures.inc();
                    tracing::warn!(%error, "the seal keys changed but are not usable, \
                         the old ones stay");
                    last_error = Some(error);
                }
            }
        }
    }

    /// Seals `text`; it opens only with the same `context`.
    pub(super) fn seal(&self, text: &[u8], context: &[u8]) -> Option<Vec<u8>> {
        let keys = self.keys.borrow().clone();
        let first = keys.0.first()?;
        let mut nonce = [0; NONCE_LEN];
        rand::fill(&mut nonce).ok()?;
        let mut sealed =
            Vec::with_capacity(ID_BYTES + NONCE_LEN + text.len() + AES_256_GCM_SIV.tag_len());
        sealed.extend_from_slice(&first.id);
        sealed.extend_from_slice(&nonce);
        let mut body = text.to_vec();
        let nonce = Nonce::assume_unique_for_key(nonce);
        first.key.seal_in_place_append_tag(nonce, Aad::from(context), &mut body).ok()?;
        sealed.append(&mut body);
        Some(sealed)
    }

    /// Opens bytes that were sealed with any of the keys, under the same context.
    pub(super) fn open(&self, sealed: &[u8], context: &[u8]) -> Option<Vec<u8>> {
        let (id, rest) = sealed.split_at_checked(ID_BYTES)?;
        let (nonce, body) = rest.split_at_checked(NONCE_LEN)?;
        let keys = self.keys.borrow().clone();
        let key = keys.0.iter().find(|key| key.id == id)?;
        let nonce = Nonce::try_assume_unique_for_key(nonce).ok()?;
        let mut body = body.to_vec();
        let length = key.key.open_in_place(nonce, Aad::from(context), &mut body).ok()?.len();
        body.truncate(length);
        Some(body)
    }
}

impl SealKeys {
    fn read(file: &Path) -> Result<Self, SealError> {
        let wrong = |line, what: &str| SealError {
            file: file.to_owned(),
            line,
            what: what.to_owned(),
            is_missing: false,
        };
        let unreadable =
            |error: io::Error| SealError { is_missing: true, ..wrong(None, &error.to_string()) };
        let bytes = match read_at_most(file, FILE_BYTES_MAX) {
            Err(error) if error.kind() == io::ErrorKind::FileTooLarge => {
                return Err(wrong(None, "the file is too large for keys"));
            }
            read => read.map_err(unreadable)?,
        };
        let text = std::str::from_utf8(&bytes)
            .map_err(|_| wrong(None, "expected text, met other bytes"))?;
        let mut keys = Vec::new();
        for (index, line) in text.lines().enumerate() {
            let line = line.split('#').next().unwrap_or_default().trim();
            if line.is_empty() {
                continue;
            }
            let key = SealKey::parse(line)
                .ok_or_else(|| wrong(Some(index + 1), "expected 64 hexadecimal digits"))?;
            if keys.iter().any(|other: &SealKey| other.id == key.id) {
                return Err(wrong(Some(index + 1), "the same key stands above"));
            }
            keys.push(key);
        }
        match keys.len() {
            0 => Err(wrong(None, "expected a key, met none")),
            1..=KEYS_MAX => Ok(Self(keys)),
            _ => Err(wrong(None, &format!("expected at most {KEYS_MAX} keys"))),
        }
    }

    fn ids(&self) -> Vec<[u8; ID_BYTES]> {
        self.0.iter().map(|key| key.id).collect()
    }
}

impl SealKey {
    fn parse(hex: &str) -> Option<Self> {
        let mut bytes = [0; KEY_BYTES];
        if hex.len() != 2 * KEY_BYTES || !hex.is_ascii() {
            return None;
        }
        for (byte, pair) in bytes.iter_mut().zip(hex.as_bytes().chunks(2)) {
            let digits = std::str::from_utf8(pair)
                .ok()
                .filter(|pair| pair.bytes().all(|b| b.is_ascii_hexdigit()))?;
            *byte = u8::from_str_radix(digits, 16).ok()?;
        }
        let named = [b"bfb seal key ".as_slice(), &bytes].concat();
        let id = digest(&SHA256, &named).as_ref().first_chunk().copied()?;
        let key = LessSafeKey::new(UnboundKey::new(&AES_256_GCM_SIV, &bytes).ok()?);
        Some(Self { id, key })
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test that cannot set itself up should stop there")]
mod tests {
    use super::*;

    fn seal(text: &str) -> Result<Seal, SealError> {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), text).unwrap();
        Seal::load(file.path())
    }

    fn key(digit: char) -> String {
        digit.to_string().repeat(64)
    }

    #[test]
    fn the_first_key_seals_and_every_key_opens() {
        let old = key('a');
        let new = key('b');
        let before = seal(&old).unwrap();
        let between = seal(&format!("# two\n{new}  # the newer\n\n{old}\n")).unwrap();
        let after = seal(&new).unwrap();
        let text = before.seal(b"text", b"place").unwrap();
        assert_eq!(between.open(&text, b"place").as_deref(), Some(b"text".as_slice()));
        assert_eq!(after.open(&text, b"place"), None, "that key is gone");
        let text = between.seal(b"text", b"place").unwrap();
        assert_eq!(after.open(&text, b"place").as_deref(), Some(b"text".as_slice()));
    }

    #[test]
    fn what_was_moved_or_changed_is_not_opened() {
        let seal = seal(&key('a')).unwrap();
        let sealed = seal.seal(b"text", b"here").unwrap();
        assert_eq!(seal.open(&sealed, b"there"), None);
        for at in 0..sealed.len() {
            let mut changed = sealed.clone();
            changed[at] ^= 1;
            assert_eq!(seal.open(&changed, b"here"), None, "{at}");
            assert_eq!(seal.open(&sealed[..at], b"here"), None, "{at}");
        }
        assert_ne!(seal.seal(b"text", b"here"), Some(sealed), "no nonce comes twice");
    }

    #[test]
    fn a_broken_file_says_where_and_never_what() {
        let secret = key('a')[1..].to_owned();
        let error = seal(&format!("\n{secret}\n")).unwrap_err().to_string();
        assert!(
            error.contains(":2: expected 64 hexadecimal digits") && !error.contains("aaaa"),
            "{error}"
        );
        assert!(seal("# none\n").unwrap_err().to_string().contains("met none"));
        assert!(
            seal(&format!("{0}\n{0}", key('a')))
                .unwrap_err()
                .to_string()
                .contains(":2: the same key")
        );
        assert!(seal(&"+f".repeat(32)).is_err());
        let endless = Seal::load(Path::new("/dev/zero")).unwrap_err();
        assert!(endless.to_string().contains("too large") && !endless.is_missing, "{endless}");
        assert!(Seal::load(Path::new("/")).unwrap_err().is_missing, "a folder cannot be read");
    }
}

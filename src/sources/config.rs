//! What the clients of all sources share, from its flags.

use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;

use prometheus_client::registry::Registry;

use super::{Recording, SharedSources, SourcesMetrics};
use crate::identity::RotatingIdentity;

/// What differs between environments in how sources are asked.
#[derive(Debug, Clone, Default)]
pub struct SourcesConfig {
    /// `--record` or `--replay`.
    pub recording: Recording,
}

/// The folder of `--record` or `--replay` cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum RecordingError {
    /// It is not there, or is no folder.
    #[error("`--{flag} {}` is no folder that can be used: {source}", folder.display())]
    Folder {
        /// Which flag.
        flag: &'static str,
        /// Its folder.
        folder: PathBuf,
        /// Why not.
        source: std::io::Error,
    },
    /// The folder of `--record` is open to others.
    #[error(
        "`--record {}` is open to others (mode {mode:04o}), and what is recorded is personal data; \
         expected a folder for \
         its owner alone\nhint: `chmod 700 {}`, or name a folder that is not there yet",
        folder.display(), folder.display()
    )]
    ReadableByOthers {
        /// The folder.
        folder: PathBuf,
        /// Its permissions.
        mode: u32,
    },
}

impl SourcesConfig {
    /// Looks at the folder of a recording, and registers the counters.
    pub fn build(
        self,
        identity: &RotatingIdentity,
        registry: &mut Registry,
    ) -> Result<SharedSources, RecordingError> {
        let metrics = SourcesMetrics::register(registry);
        check_folder(&self.recording)?;
        Ok(SharedSources {
            identity: identity.subscribe(),
            tls: identity.tls,
            identity_metrics: identity.metrics.clone(),
            metrics,
            recording: self.recording,
        })
    }
}

/// A folder that is not there would fail every request, or record none.
fn check_folder(recording: &Recording) -> Result<(), RecordingError> {
    let (folder, flag) = match recording {
        Recording::Off => return Ok(()),
        Recording::Record(folder) => (folder, "record"),
        Recording::Replay(folder) => (folder, "replay"),
    };
    let unusable = |source| RecordingError::Folder { flag, folder: folder.clone(), source };
    recording.prepare().map_err(unusable)?;
    if matches!(recording, Recording::Record(_)) {
        let mode = folder.metadata().map_err(unusable)?.permissions().mode() & 0o7777;
        if mode & 0o077 != 0 {
            // It is somebody's folder, and may be `/tmp`: its owner decides who else loses it.
            return Err(RecordingError::ReadableByOthers { folder: folder.clone(), mode });
        }
    }
    Ok(())
}

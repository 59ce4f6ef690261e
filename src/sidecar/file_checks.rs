//! The files that flags name, looked at before anything starts. One that cannot be had is
//! "something needed is not there"; one that holds something else than it should is wrong input.

use std::fs::File;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use super::{SidecarConfig, SidecarStartError};
use crate::bus;
use crate::cache::Seal;
use crate::sources::Recording;

/// Checks those that nothing else reads at the start.
pub(super) fn check_files(config: &SidecarConfig) -> Result<(), SidecarStartError> {
    check_recording_folder(&config.recording)?;
    check_redis_files(config.bus.as_ref())
}

/// The keys of `--seal-key`.
pub(super) fn load_seal(file: Option<&Path>) -> Result<Option<Seal>, SidecarStartError> {
    let Some(file) = file else { return Ok(None) };
    let error = |error| SidecarStartError::Seal { file: file.to_owned(), error };
    Seal::load(file).map(Some).map_err(error)
}

/// The files are read whenever a connection is made; one that is not there now is found at the
/// start, and not by a fleet that never connects.
fn check_redis_files(bus: Option<&bus::BusConfig>) -> Result<(), SidecarStartError> {
    let Some(bus) = bus else { return Ok(()) };
    let in_identity = |name: &str| bus.identity.as_ref().map(|dir| dir.join(name));
    let files = [
        ("redis-auth", bus.auth.clone()),
        ("redis-ca", bus.ca.clone()),
        ("redis-identity", in_identity("tls.crt")),
        ("redis-identity", in_identity("tls.key")),
    ];
    for (flag, file) in files {
        let Some(file) = file else { continue };
        let error = |source| SidecarStartError::RedisFile { flag, file: file.clone(), source };
        File::open(&file).map_err(error)?;
    }
    Ok(())
}

/// A folder that is not there would fail every request, or record none.
pub fn check_recording_folder(recording: &Recording) -> Result<(), SidecarStartError> {
    let (folder, flag) = match recording {
        Recording::Off => return Ok(()),
        Recording::Record(folder) => (folder, "record"),
        Recording::Replay(folder) => (folder, "replay"),
    };
    let unusable =
        |source| SidecarStartError::RecordingFolder { flag, folder: folder.clone(), source };
    recording.prepare().map_err(unusable)?;
    if matches!(recording, Recording::Record(_)) {
        let mode = folder.metadata().map_err(unusable)?.permissions().mode() & 0o7777;
        if mode & 0o077 != 0 {
            // It is somebody's folder, and may be `/tmp`: its owner decides who else loses it.
            return Err(SidecarStartError::RecordingReadableByOthers {
                folder: folder.clone(),
                mode,
            });
        }
    }
    Ok(())
}

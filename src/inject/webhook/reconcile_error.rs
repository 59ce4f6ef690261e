//! Why a reconciliation of the certificate and its bundles ended early.

use serde_json::Value;

use super::cluster::ClusterError;

/// The error of one reconciliation. The next one starts again from the beginning.
#[derive(Debug, thiserror::Error)]
pub(super) enum ReconcileError {
    /// A request to the API server failed.
    #[error(transparent)]
    Cluster(#[from] ClusterError),
    /// The configuration, or the folder of the certificate, is not as it must be.
    #[error("{0}")]
    Other(String),
}

/// Takes a conflict for a write. A conflict means that another replica wrote first: as after a
/// write of our own, everything is read again.
pub(super) fn ignore_conflict(result: Result<Value, ClusterError>) -> Result<(), ReconcileError> {
    match result {
        Err(error) if !error.is_conflict() => Err(error.into()),
        _ => Ok(()),
    }
}

//! A certificate that somebody else puts into a folder (`--identity`), with the bundle that API
//! servers shall trust beside it.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::sign::CertifiedKey;
use tokio::sync::watch;

use super::configuration::{Hook, MutatingWebhookConfiguration};
use super::configuration_client::ConfigurationClient;
use super::reconcile_error::ReconcileError;
use super::serving_certificate::{ServingCertificate, distrust_reason};
use crate::identity::Identity;

/// The largest bundle that is read from the folder, in bytes.
const BUNDLE_MAX_BYTES: u64 = 256 * 1024;

/// The certificate of a folder.
#[derive(Debug)]
pub(super) struct FolderCertificate {
    /// The certificate and its key, as the folder changes.
    pub identity: watch::Receiver<Arc<Identity>>,
    /// The path of `ca.crt`, the bundle.
    pub bundle_path: PathBuf,
}

impl FolderCertificate {
    /// The certificate that the folder holds now.
    pub(super) fn newest(&self) -> Arc<CertifiedKey> {
        self.identity.borrow().certified_key()
    }

    /// Serves the newest certificate once API servers trust it, or once they do not trust the one
    /// that is served either. Until then the leader keeps both trusted: it writes the folder's
    /// bundle, with the previous one after it while the previous certificate is still served.
    pub(super) async fn reconcile(
        &self,
        configuration: &MutatingWebhookConfiguration,
        client: &ConfigurationClient,
        serving_certificate: &ServingCertificate,
        is_leader: &watch::Receiver<bool>,
    ) -> Result<(), ReconcileError> {
        let newest = self.newest();
        let served = serving_certificate.get();
        let is_new = served.cert != newest.cert;
        if is_new
            && (distrust_reason(configuration, &newest).is_none()
                || distrust_reason(configuration, &served).is_some())
        {
            tracing::info!("the certificate of the folder is served");
            serving_certificate.set(newest);
            return Ok(());
        }
        if !*is_leader.borrow() || configuration.is_managed_by_cert_manager() {
            return Ok(());
        }
        let Some(mut bundle) = read_bundle(&self.bundle_path).await? else { return Ok(()) };
        let distrust_by = |bundle: &str, key: &CertifiedKey| {
            let object = configuration.with_bundle(bundle);
            distrust_reason(&MutatingWebhookConfiguration::new(object), key)
        };
        if let Some(reason) = distrust_by(&bundle, &newest) {
            // The folder is wrong, or read between the writes of two of its files.
            return Err(ReconcileError::Other(format!(
                "`{}` is not the authority of the certificate beside it: {reason}",
                self.bundle_path.display()
            )));
        }
        if is_new && distrust_by(&bundle, &served).is_some() {
            let previous = configuration.hooks().find_map(Hook::bundle).unwrap_or_default();
            let previous = String::from_utf8_lossy(&previous).into_owned();
            // A bundle that trusts the newest certificate stays as it is until that is served.
            if distrust_by(&previous, &newest).is_none() {
                return Ok(());
            }
            bundle = format!("{}\n{}", bundle.trim_end(), previous);
        }
        if configuration.has_bundle(&bundle) {
            return Ok(());
        }
        client.write_bundle(configuration, &bundle).await
    }
}

/// Reads the bundle; `None` where the file is missing or holds no certificate.
async fn read_bundle(path: &Path) -> Result<Option<String>, ReconcileError> {
    use tokio::io::AsyncReadExt as _;

    let unreadable = |error: &std::io::Error| {
        ReconcileError::Other(format!("`{}` cannot be read: {error}", path.display()))
    };
    let file = match tokio::fs::File::open(path).await {
        Ok(file) => file,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(unreadable(&error)),
    };
    let mut text = String::new();
    file.take(BUNDLE_MAX_BYTES)
        .read_to_string(&mut text)
        .await
        .map_err(|error| unreadable(&error))?;
    Ok(Some(text).filter(|text| text.contains("BEGIN CERTIFICATE")))
}

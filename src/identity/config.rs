//! Our identity towards upstreams, from its flags to what rotates.

use std::path::PathBuf;
use std::sync::Arc;

use prometheus_client::registry::Registry;
use tokio::sync::watch;

use super::{Identity, IdentityError, IdentityMetrics, IdentityPaths, TlsOptions, rotation};

/// Our identity, and how TLS is done.
#[derive(Debug, Clone, Default)]
pub struct IdentityConfig {
    /// The files; without them only `http://` sources can be asked.
    pub paths: Option<IdentityPaths>,
    /// How TLS is done.
    pub tls: TlsOptions,
}

/// The files are no identity.
#[derive(Debug, thiserror::Error)]
#[error("`--identity {}` cannot be used: {error}", dir.display())]
pub struct IdentityConfigError {
    /// The folder.
    pub dir: PathBuf,
    /// Why not.
    pub error: IdentityError,
}

/// The identity that is current, whatever its files become.
#[derive(Debug)]
pub struct RotatingIdentity {
    current: Option<(IdentityPaths, watch::Sender<Arc<Identity>>)>,
    /// How TLS is done.
    pub tls: TlsOptions,
    /// Its counters.
    pub metrics: IdentityMetrics,
}

impl IdentityConfig {
    /// Loads the identity, if there is one.
    pub fn build(self, registry: &mut Registry) -> Result<RotatingIdentity, IdentityConfigError> {
        let metrics = IdentityMetrics::register(registry);
        let load = |paths: IdentityPaths| match Identity::load(&paths, 1) {
            Ok(identity) => Ok((paths, watch::Sender::new(Arc::new(identity)))),
            Err(error) => Err(IdentityConfigError { dir: paths.dir, error }),
        };
        let current = self.paths.map(load).transpose()?;
        Ok(RotatingIdentity { current, tls: self.tls, metrics })
    }
}

impl RotatingIdentity {
    /// The identity as it rotates; `None` where there is none.
    pub fn subscribe(&self) -> Option<watch::Receiver<Arc<Identity>>> {
        self.current.as_ref().map(|(_, identity)| identity.subscribe())
    }

    /// The task that follows the files, where there are any. It never returns.
    pub fn follow(self) -> Option<impl Future<Output = ()> + Send + 'static> {
        let (paths, identity) = self.current?;
        Some(rotation::follow_files(paths, identity, self.metrics))
    }
}

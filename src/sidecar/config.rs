//! A sidecar's configuration: a config a part, each built in its own room.

use std::path::PathBuf;
use std::time::Duration;

use super::http_config::HttpConfig;
use super::{DomainFileOptions, SidecarStartError, assembly};
use crate::bus::BusConfig;
use crate::cache::CacheConfig;
use crate::domain::Loaded;
use crate::identity::IdentityConfig;
use crate::serve::{ConsumersConfig, TelemetryConfig};
use crate::sources::SourcesConfig;

/// A sidecar's configuration.
#[derive(Debug)]
pub struct SidecarConfig {
    /// The domain files.
    pub domains: DomainsConfig,
    /// Our identity towards upstreams.
    pub identity: IdentityConfig,
    /// The clients of sources.
    pub sources: SourcesConfig,
    /// The cache: memory, sealing, verification.
    pub cache: CacheConfig,
    /// The fleet's Redis; without it a sidecar is a fleet of one.
    pub bus: Option<BusConfig>,
    /// The ports.
    pub http: HttpConfig,
    /// How consumers are answered.
    pub consumers: ConsumersConfig,
    /// The request log and traces.
    pub telemetry: TelemetryConfig,
    /// How long a drain may take.
    pub drain: Duration,
}

/// The domain files.
#[derive(Debug, Clone, Default)]
pub struct DomainsConfig {
    /// Domain files, or folders of them.
    pub paths: Vec<PathBuf>,
    /// How they are read.
    pub options: DomainFileOptions,
}

impl DomainsConfig {
    /// Reads them, if all of them are as they should be.
    pub(super) fn load(&self) -> Result<Loaded, SidecarStartError> {
        let loaded = assembly::read_domains(&self.paths, self.options);
        if loaded.problems().is_empty() {
            Ok(loaded)
        } else {
            Err(SidecarStartError::Domain(Box::new(loaded)))
        }
    }
}

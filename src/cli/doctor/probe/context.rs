//! The context of every probe: identity, clients, timeouts.

use std::sync::Arc;
use std::time::Duration;

use crate::bus::BusConfig;
use crate::identity::{Identity, TlsOptions};
use crate::sources::SharedSources;

/// The context of every probe.
#[derive(Debug)]
pub(in super::super) struct DoctorContext {
    pub(in super::super) identity: Option<Arc<Identity>>,
    pub(in super::super) tls: TlsOptions,
    /// How long a connection, and each answer, may take.
    pub(in super::super) timeout: Duration,
    pub(in super::super) shared: SharedSources,
    /// The fleet's Redis, if one is given.
    pub(in super::super) redis: Option<BusConfig>,
}

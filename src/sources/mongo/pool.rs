//! The connections to one database: the driver's, bounded, replaced with our identity.

use std::num::NonZeroUsize;
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::{Semaphore, watch};

use super::client::MongoClient;
use crate::domain::MongoDatabase;
use crate::identity::Identity;
use crate::sources::attempt_error::AttemptError;
use crate::sources::{Reason, SharedSources};

/// The connections to one database.
#[derive(Debug)]
pub(in crate::sources) struct MongoPool {
    pub(super) database: MongoDatabase,
    size: NonZeroUsize,
    slots: Arc<Semaphore>,
    identity: Option<watch::Receiver<Arc<Identity>>>,
    /// The client of the newest identity that was asked with; held while it is looked up or made.
    client: Mutex<Option<Arc<MongoClient>>>,
}

impl MongoPool {
    /// For `database`, with at most `size` connections that read.
    pub(in crate::sources) fn new(
        database: MongoDatabase,
        size: NonZeroUsize,
        shared: &SharedSources,
    ) -> Self {
        let slots = Arc::new(Semaphore::new(size.get().min(Semaphore::MAX_PERMITS)));
        Self { database, size, slots, identity: shared.identity.clone(), client: Mutex::new(None) }
    }

    /// The most connections that read.
    pub(in crate::sources) fn size(&self) -> NonZeroUsize {
        self.size
    }

    /// The slots of its connections.
    pub(in crate::sources) fn slots(&self) -> &Arc<Semaphore> {
        &self.slots
    }

    /// The client of our identity as it is now. The one before it ends with its last reader.
    pub(super) fn client(&self) -> Result<Arc<MongoClient>, AttemptError> {
        let identity = match (&self.database.server, &self.identity) {
            (None, _) => None,
            (Some(_), Some(identity)) => Some(Arc::clone(&identity.borrow())),
            (Some(_), None) => {
                let detail = "is asked over TLS, but there is no identity: `--identity` gives one";
                return Err(AttemptError::inconclusive(Reason::Tls, detail));
            }
        };
        let generation = identity.as_ref().map_or(0, |identity| identity.generation);
        let mut current = self.client.lock();
        match &*current {
            Some(client) if client.generation == generation => Ok(Arc::clone(client)),
            _ => {
                let client = MongoClient::new(&self.database, self.size, identity.as_deref())?;
                Ok(Arc::clone(current.insert(Arc::new(client))))
            }
        }
    }
}

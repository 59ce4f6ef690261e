//! The connections of one database: so many at most, kept while they may be used.
//!
//! A connection is lent to one transaction at a time and comes back only by
//! [`Checkout::end`]; one that is dropped instead is closed. It is not lent again once our
//! identity has changed, a certificate of its has expired, or it is an hour old.

use std::future::poll_fn;
use std::num::NonZeroUsize;
use std::sync::{Arc, OnceLock, Weak};
use std::task::{Context, Poll};
use std::time::{Duration, SystemTime};

use parking_lot::Mutex;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::time::{Instant, MissedTickBehavior, interval};
use tokio_util::task::AbortOnDropHandle;

use super::connection::{OpenError, PostgresConnection, has_ended};
use crate::domain::{Mutuality, PostgresDatabase};
use crate::identity::{self, Connector, Identity, IdentityMetrics, TlsOptions};
use crate::sources::attempt_error::AttemptError;
use crate::sources::{Reason, SharedSources};

/// How long a connection is kept that nobody uses.
const IDLE_MAX: Duration = Duration::from_secs(90);
/// No connection is used for longer.
const CONNECTION_AGE_MAX: Duration = Duration::from_hours(1);
/// How often idle connections are looked at.
const IDLE_CHECK_EVERY: Duration = Duration::from_secs(5);

/// The connections of one database.
#[derive(Debug)]
pub(in crate::sources) struct PostgresPool {
    database: PostgresDatabase,
    size: NonZeroUsize,
    slots: Arc<Semaphore>,
    connections: Arc<IdleConnections>,
    /// Ends connections that nobody uses; begins with the first that is kept.
    reaper: OnceLock<AbortOnDropHandle<()>>,
}

/// The connections that nobody uses, and what new ones are opened with.
#[derive(Debug)]
struct IdleConnections {
    identity: Option<watch::Receiver<Arc<Identity>>>,
    tls: TlsOptions,
    metrics: IdentityMetrics,
    /// The last that came back is lent first. Held while one is put in or taken out.
    idle: Mutex<Vec<IdleConnection>>,
    /// What connections of the newest identity are opened with; held while it is looked up.
    opener: Mutex<Option<Arc<Opener>>>,
}

/// What the connections of one identity are opened with.
#[derive(Debug)]
struct Opener {
    connector: Connector,
    generation: u64,
    /// When our certificate ends; `None` where it had ended before.
    own_expiry: Option<SystemTime>,
}

#[derive(Debug)]
struct IdleConnection {
    connection: PostgresConnection,
    opener: Arc<Opener>,
    since: Instant,
}

/// A connection for one transaction.
#[derive(Debug)]
pub(in crate::sources) struct Checkout<'p> {
    pub(super) connection: PostgresConnection,
    /// Whether another transaction has used it: the server may have ended it just now.
    pub(in crate::sources) is_reused: bool,
    opener: Arc<Opener>,
    pool: &'p PostgresPool,
    pub(super) slot: OwnedSemaphorePermit,
}

impl PostgresPool {
    /// For `database`, with at most `size` connections.
    pub(in crate::sources) fn new(
        database: PostgresDatabase,
        size: NonZeroUsize,
        shared: &SharedSources,
    ) -> Self {
        let connections = IdleConnections {
            identity: shared.identity.clone(),
            tls: shared.tls,
            metrics: shared.identity_metrics.clone(),
            idle: Mutex::new(Vec::new()),
            opener: Mutex::new(None),
        };
        Self {
            database,
            size,
            slots: Arc::new(Semaphore::new(size.get().min(Semaphore::MAX_PERMITS))),
            connections: Arc::new(connections),
            reaper: OnceLock::new(),
        }
    }

    /// The most connections.
    pub(in crate::sources) fn size(&self) -> NonZeroUsize {
        self.size
    }

    /// The slots of its connections.
    pub(in crate::sources) fn slots(&self) -> &Arc<Semaphore> {
        &self.slots
    }

    /// A connection for the holder of a slot: one that is kept, unless it must be a new one.
    pub(in crate::sources) async fn checkout(
        &self,
        slot: OwnedSemaphorePermit,
        must_be_new: bool,
    ) -> Result<Checkout<'_>, AttemptError> {
        let opener = self.connections.opener(&self.database)?;
        while !must_be_new && let Some(mut idle) = self.connections.take_last() {
            if idle.may_be_lent(&opener) && !has_ended(&mut idle.connection).await {
                let IdleConnection { connection, opener, .. } = idle;
                return Ok(Checkout { connection, is_reused: true, opener, pool: self, slot });
            }
        }
        let connection = PostgresConnection::open(opener.connector.clone(), &self.database).await;
        let connection = connection.map_err(OpenError::into_attempt_error)?;
        Ok(Checkout { connection, is_reused: false, opener, pool: self, slot })
    }
}

impl Checkout<'_> {
    /// Keeps the connection for another transaction, if it may be kept: nothing may be under way on
    /// it. Returns the slot.
    pub(super) fn end(self, may_be_kept: bool) -> OwnedSemaphorePermit {
        let Self { connection, opener, pool, slot, .. } = self;
        if !may_be_kept {
            return slot;
        }
        let idle = IdleConnection { connection, opener, since: Instant::now() };
        pool.connections.idle.lock().push(idle);
        pool.reaper.get_or_init(|| {
            let connections = Arc::downgrade(&pool.connections);
            AbortOnDropHandle::new(tokio::spawn(end_idle_connections(connections)))
        });
        slot
    }
}

impl IdleConnections {
    /// The one that was used last.
    fn take_last(&self) -> Option<IdleConnection> {
        self.idle.lock().pop()
    }

    /// Takes those that may not be lent any more. They are looked at in their place, so that nobody
    /// opens another one meanwhile.
    fn take_ended(&self, cx: &mut Context<'_>) -> Vec<IdleConnection> {
        let newest = self.opener.lock().clone().filter(|opener| self.is_of_newest_identity(opener));
        let mut idle = self.idle.lock();
        let (kept, ended) = std::mem::take(&mut *idle).into_iter().partition(|connection| {
            newest.as_ref().is_some_and(|opener| connection.may_be_lent(opener))
        });
        *idle = kept;
        let (broken, kept): (Vec<_>, Vec<_>) = std::mem::take(&mut *idle)
            .into_iter()
            .map(|mut idle| (idle.connection.is_ended(cx), idle))
            .partition(|(is_ended, _)| *is_ended);
        *idle = kept.into_iter().map(|(_, idle)| idle).collect();
        broken.into_iter().map(|(_, idle)| idle).chain(ended).collect::<Vec<_>>()
    }

    fn is_of_newest_identity(&self, opener: &Opener) -> bool {
        let is_newest = |identity: &watch::Receiver<Arc<Identity>>| {
            opener.generation == 0 || identity.borrow().generation == opener.generation
        };
        self.identity.as_ref().is_none_or(is_newest)
    }

    /// What a connection that is opened now is opened with.
    fn opener(&self, database: &PostgresDatabase) -> Result<Arc<Opener>, AttemptError> {
        let mut newest = self.opener.lock();
        let Some(server) = &database.server else {
            let plain =
                || Opener { connector: Connector::plain(), generation: 0, own_expiry: None };
            return Ok(Arc::clone(newest.get_or_insert_with(|| Arc::new(plain()))));
        };
        let Some(identity) = &self.identity else {
            return Err(AttemptError::inconclusive(
                Reason::Tls,
                "is asked over TLS, but there is no identity: `--identity` gives one",
            ));
        };
        let identity = Arc::clone(&identity.borrow());
        let now = SystemTime::now();
        match &*newest {
            Some(opener) if opener.generation == identity.generation && !opener.is_expired(now) => {
                Ok(Arc::clone(opener))
            }
            _ => {
                let own_expiry =
                    Some(identity.not_after).filter(|end| !identity::is_past_expiry(*end, now));
                let generation = identity.generation;
                let connector = Connector::postgres(
                    identity,
                    server.clone(),
                    database.mutual != Mutuality::None,
                    self.tls,
                    self.metrics.clone(),
                );
                let opener = Arc::new(Opener { connector, generation, own_expiry });
                Ok(Arc::clone(newest.insert(opener)))
            }
        }
    }
}

impl Opener {
    /// Whether a certificate of a connection that it opened has ended.
    fn is_expired(&self, now: SystemTime) -> bool {
        let ends = [self.connector.first_certificate_expiry(), self.own_expiry];
        ends.into_iter().flatten().any(|end| identity::is_past_expiry(end, now))
    }
}

impl IdleConnection {
    /// Whether it may be lent where new connections are opened with `opener`.
    fn may_be_lent(&self, opener: &Arc<Opener>) -> bool {
        Arc::ptr_eq(&self.opener, opener)
            && self.connection.opened_at.elapsed() < CONNECTION_AGE_MAX
            && self.since.elapsed() < IDLE_MAX
    }
}

/// Ends connections that nobody has used for long, that may not be used any more, or that the
/// server has ended, for as long as their pool exists.
async fn end_idle_connections(connections: Weak<IdleConnections>) {
    let mut ticks = interval(IDLE_CHECK_EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        let Some(connections) = connections.upgrade() else { return };
        let ended = poll_fn(|cx| Poll::Ready(connections.take_ended(cx))).await;
        drop(ended);
    }
}

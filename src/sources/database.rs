//! The database of one source, and the connections to it, which the sources of a domain that read
//! the same one share.

use std::num::NonZeroUsize;
use std::sync::Arc;

use tokio::sync::Semaphore;

use super::SharedSources;
#[cfg(feature = "mongodb")]
use super::mongo::MongoPool;
#[cfg(feature = "postgres")]
use super::postgres::{PostgresPool, statement_text};
#[cfg(feature = "mongodb")]
use crate::domain::MongoSource;
#[cfg(feature = "postgres")]
use crate::domain::PostgresSource;
use crate::domain::Rows;
use crate::domain::{Source, SourceKind};

/// What a source reads, and over which connections.
#[derive(Debug)]
pub(super) enum Database {
    #[cfg(feature = "postgres")]
    Postgres(Postgres),
    #[cfg(feature = "mongodb")]
    Mongo(Mongo),
}

/// A source in PostgreSQL.
#[cfg(feature = "postgres")]
#[derive(Debug)]
pub(super) struct Postgres {
    pub(super) source: PostgresSource,
    /// The statement as it is sent.
    pub(super) statement: String,
    pub(super) pool: Arc<PostgresPool>,
}

/// A source in MongoDB.
#[cfg(feature = "mongodb")]
#[derive(Debug)]
pub(super) struct Mongo {
    pub(super) source: MongoSource,
    pub(super) pool: Arc<MongoPool>,
}

impl Database {
    /// That of `source` beside `sources`; it shares the pool of one of the `others`, if there is
    /// one on its database. `None`: it is none, or none of this build.
    pub(super) fn of<'c>(
        source: &Source,
        sources: &[Source],
        others: impl Iterator<Item = &'c Self>,
        shared: &SharedSources,
    ) -> Option<Self> {
        let size = pool_size(source, sources);
        match &source.kind {
            #[cfg(feature = "postgres")]
            SourceKind::Postgres(postgres) => {
                let mut others = others.filter_map(Self::postgres);
                let pool = others.find(|it| it.source.database == postgres.database);
                let pool = pool.map_or_else(
                    || Arc::new(PostgresPool::new(postgres.database.clone(), size, shared)),
                    |other| Arc::clone(&other.pool),
                );
                Some(Self::Postgres(Postgres {
                    source: postgres.clone(),
                    statement: statement_text(&postgres.query.text, postgres.rows),
                    pool,
                }))
            }
            #[cfg(feature = "mongodb")]
            SourceKind::Mongo(mongo) => {
                let mut others = others.filter_map(Self::mongo);
                let pool = others.find(|it| it.source.database == mongo.database);
                let pool = pool.map_or_else(
                    || Arc::new(MongoPool::new(mongo.database.clone(), size, shared)),
                    |other| Arc::clone(&other.pool),
                );
                Some(Self::Mongo(Mongo { source: mongo.clone(), pool }))
            }
            _ => None,
        }
    }

    /// Whether its pool is right for `source` beside these sources, and is that of the `others` on
    /// its database.
    pub(super) fn is_for<'c>(
        &self,
        source: &Source,
        sources: &[Source],
        mut others: impl Iterator<Item = &'c Self>,
    ) -> bool {
        let is_of_others = others
            .find(|other| other.is_of_same_database(self))
            .is_none_or(|other| other.shares_pool_with(self));
        is_of_others && self.size() == pool_size(source, sources)
    }

    fn is_of_same_database(&self, other: &Self) -> bool {
        match (self, other) {
            #[cfg(feature = "postgres")]
            (Self::Postgres(one), Self::Postgres(other)) => {
                one.source.database == other.source.database
            }
            #[cfg(feature = "mongodb")]
            (Self::Mongo(one), Self::Mongo(other)) => one.source.database == other.source.database,
            #[cfg(all(feature = "postgres", feature = "mongodb"))]
            _ => false,
        }
    }

    /// Whether both read over the same connections.
    pub(super) fn shares_pool_with(&self, other: &Self) -> bool {
        match (self, other) {
            #[cfg(feature = "postgres")]
            (Self::Postgres(one), Self::Postgres(other)) => Arc::ptr_eq(&one.pool, &other.pool),
            #[cfg(feature = "mongodb")]
            (Self::Mongo(one), Self::Mongo(other)) => Arc::ptr_eq(&one.pool, &other.pool),
            #[cfg(all(feature = "postgres", feature = "mongodb"))]
            _ => false,
        }
    }

    #[cfg(feature = "postgres")]
    #[cfg_attr(
        not(feature = "mongodb"),
        expect(clippy::unnecessary_wraps, reason = "this build has no other kind")
    )]
    pub(super) fn postgres(&self) -> Option<&Postgres> {
        match self {
            Self::Postgres(postgres) => Some(postgres),
            #[cfg(feature = "mongodb")]
            Self::Mongo(_) => None,
        }
    }

    #[cfg(feature = "mongodb")]
    #[cfg_attr(
        not(feature = "postgres"),
        expect(clippy::unnecessary_wraps, reason = "this build has no other kind")
    )]
    pub(super) fn mongo(&self) -> Option<&Mongo> {
        match self {
            #[cfg(feature = "postgres")]
            Self::Postgres(_) => None,
            Self::Mongo(mongo) => Some(mongo),
        }
    }

    /// The most connections.
    pub(super) fn size(&self) -> NonZeroUsize {
        match self {
            #[cfg(feature = "postgres")]
            Self::Postgres(postgres) => postgres.pool.size(),
            #[cfg(feature = "mongodb")]
            Self::Mongo(mongo) => mongo.pool.size(),
        }
    }

    /// The slots of the connections.
    pub(super) fn slots(&self) -> &Arc<Semaphore> {
        match self {
            #[cfg(feature = "postgres")]
            Self::Postgres(postgres) => postgres.pool.slots(),
            #[cfg(feature = "mongodb")]
            Self::Mongo(mongo) => mongo.pool.slots(),
        }
    }

    /// How many rows make a part.
    pub(super) fn rows(&self) -> Rows {
        match self {
            #[cfg(feature = "postgres")]
            Self::Postgres(postgres) => postgres.source.rows,
            #[cfg(feature = "mongodb")]
            Self::Mongo(mongo) => mongo.source.rows,
        }
    }

    /// What is read, as the name of a recording takes it.
    pub(super) fn text(&self) -> String {
        match self {
            #[cfg(feature = "postgres")]
            Self::Postgres(postgres) => postgres.source.query.text.to_string(),
            #[cfg(feature = "mongodb")]
            Self::Mongo(Mongo { source, .. }) => format!("{} {}", source.collection, source.text()),
        }
    }
}

/// The connections of a database: as many as the source of it that may have most.
fn pool_size(source: &Source, sources: &[Source]) -> NonZeroUsize {
    let is_of_database = |other: &&Source| match (&source.kind, &other.kind) {
        (SourceKind::Postgres(one), SourceKind::Postgres(other)) => one.database == other.database,
        (SourceKind::Mongo(one), SourceKind::Mongo(other)) => one.database == other.database,
        _ => false,
    };
    let sizes = sources.iter().filter(is_of_database).map(|other| other.concurrency);
    sizes.fold(source.concurrency, NonZeroUsize::max)
}

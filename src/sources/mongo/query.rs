//! From a template and its values to a query of the driver.

use std::time::Duration;

use mongodb::bson::oid::ObjectId;
use mongodb::bson::{Bson, Document, doc};
use tokio::time::Instant;

use crate::domain::{
    MongoBound, MongoDocument, MongoFind, MongoRead, MongoSource, MongoValue, Rows,
};
use crate::sources::part_text::ROWS_MAX;

/// The most documents of a batch. Their bytes are bounded by the server, to 16 MiB.
const BATCH_DOCUMENTS: u32 = 1_000;

/// A query whose values are bound.
#[derive(Debug)]
pub(super) struct BoundQuery {
    pub(super) collection: String,
    pub(super) read: BoundRead,
    /// The most documents of a batch.
    pub(super) batch_size: u32,
    /// How long it may take, from when it is its turn.
    timeout: Option<Duration>,
    /// When it must have ended in any case.
    pub(super) deadline: Instant,
}

#[derive(Debug)]
pub(super) enum BoundRead {
    Find(Box<BoundFind>),
    Aggregate(Vec<Document>),
}

#[derive(Debug)]
pub(super) struct BoundFind {
    pub(super) filter: Document,
    pub(super) sort: Option<Document>,
    pub(super) projection: Option<Document>,
    pub(super) limit: u32,
}

impl BoundQuery {
    /// The query of `source` with these values, of which rendering has seen that they convert;
    /// `None` where they do not.
    pub(super) fn new(
        source: &MongoSource,
        values: &[String],
        timeout: Option<Duration>,
        deadline: Instant,
    ) -> Option<Self> {
        let convert = |(parameter, value): (&crate::domain::MongoParameter, &String)| {
            Some(match parameter.conversion.convert(value)? {
                MongoBound::Text(text) => Bson::String(text.to_owned()),
                MongoBound::Int(number) => Bson::Int64(number),
                MongoBound::ObjectId(bytes) => Bson::ObjectId(ObjectId::from_bytes(bytes)),
            })
        };
        let bound: Vec<Bson> =
            source.parameters.iter().zip(values).map(convert).collect::<Option<_>>()?;
        (bound.len() == source.parameters.len()).then_some(())?;
        // One more than a part may have tells that there are more.
        let most = match source.rows {
            Rows::One => 2,
            Rows::Many => u32::try_from(ROWS_MAX).unwrap_or(u32::MAX - 1) + 1,
        };
        let read = match &source.read {
            MongoRead::Find(find) => bound_find(find, &bound, most),
            MongoRead::Aggregate(stages) => {
                let stages = stages.iter().filter_map(|stage| match stage {
                    MongoValue::Document(stage) => Some(bound_document(stage, &bound)),
                    _ => None,
                });
                BoundRead::Aggregate(stages.chain([doc! {"$limit": i64::from(most)}]).collect())
            }
        };
        let batch_size = most.min(BATCH_DOCUMENTS);
        let collection = source.collection.to_string();
        Some(Self { collection, read, batch_size, timeout, deadline })
    }

    /// The time that it has, if it is its turn now, as the server takes it: zero would be none.
    pub(super) fn max_time(&self) -> Duration {
        let left = self.deadline.saturating_duration_since(Instant::now());
        let left = self.timeout.map_or(left, |timeout| timeout.min(left));
        left.clamp(Duration::from_millis(1), Duration::from_millis(i32::MAX as u64))
    }
}

fn bound_find(find: &MongoFind, bound: &[Bson], most: u32) -> BoundRead {
    BoundRead::Find(Box::new(BoundFind {
        filter: bound_document(&find.filter, bound),
        sort: find.sort.as_ref().map(|sort| bound_document(sort, bound)),
        projection: find.projection.as_ref().map(|it| bound_document(it, bound)),
        limit: find.limit.map_or(most, |limit| limit.min(most)),
    }))
}

fn bound_document(template: &MongoDocument, bound: &[Bson]) -> Document {
    let fields = template.0.iter();
    fields.map(|(name, value)| (name.to_string(), bound_value(value, bound))).collect()
}

fn bound_value(template: &MongoValue, bound: &[Bson]) -> Bson {
    let parameter = |index: usize| bound.get(index).cloned().unwrap_or(Bson::Null);
    match template {
        MongoValue::Null => Bson::Null,
        MongoValue::Boolean(value) => Bson::Boolean(*value),
        MongoValue::Int32(value) => Bson::Int32(*value),
        MongoValue::Int64(value) => Bson::Int64(*value),
        MongoValue::Double(value) => Bson::Double(*value),
        MongoValue::Text(value) => Bson::String(value.to_string()),
        MongoValue::List(items) => {
            Bson::Array(items.iter().map(|item| bound_value(item, bound)).collect())
        }
        MongoValue::Document(document) => Bson::Document(bound_document(document, bound)),
        MongoValue::Bound(index) => parameter(*index),
        MongoValue::Literal(index) => Bson::Document(doc! {"$literal": parameter(*index)}),
    }
}

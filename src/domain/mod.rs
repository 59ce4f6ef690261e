//! The domain file: its model, its checker, and the problems that it finds.
//!
//! A file is read in two steps: the YAML becomes a tree with a place on every node, then a decoder
//! turns the tree into a checked [`Domain`] or into *all* its problems. Access to the outside
//! (environment, files, a jq compiler) is passed in as a [`World`], so [`parse`] is pure and this
//! module imports only [`diagnostics`](crate::diagnostics); only [`load()`] reads files itself.

mod context;
mod database;
mod database_source;
mod database_url;
mod decode;
mod fields;
mod graph;
mod headers;
mod http_source;
mod key_segment;
mod load;
mod missing;
mod model;
mod mongo;
mod mongo_source;
mod mongo_template;
mod plan;
mod postgres_source;
mod program;
mod reference;
mod schema;
mod server;
mod source;
mod sql;
mod substitute;
mod syntax;
mod tree;
mod tree_reader;
mod url;
mod value;
mod version;
mod world;

#[cfg(test)]
mod tests;

pub use database::*;
pub use decode::parse;
pub use key_segment::MAX_KEY_BYTES;
pub(crate) use key_segment::{decode_key, encode_key};
pub use load::{Loaded, files, load, read_text};
pub use model::*;
pub use mongo::*;
pub use reference::{Reference, SourceIndex};
pub use schema::SCHEMA;
pub use server::ServerIdentity;
pub(crate) use value::{check_value, encode_value, has_dot_part};
pub use world::*;

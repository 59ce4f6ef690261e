//! The domain file: its model, its checker, and the problems that it finds.
//!
//! A file is read in two steps: the YAML becomes a tree with a place on every node, then a decoder turns the tree into a
//! checked [`Domain`] or into *all* its problems. What the checker needs of the outside (environment, files, a jq compiler)
//! comes in as a [`World`], so this module is pure and knows nobody.

mod model;
mod world;

pub use model::*;
pub use world::*;

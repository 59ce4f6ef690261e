//! Backend for Backend.

pub mod collect;
pub mod domain;
pub mod identity;
pub mod shape;
pub mod sources;

//! Backend for Backend.

pub mod admin;
pub mod collect;
pub mod domain;
pub mod identity;
pub mod serve;
pub mod shape;
pub mod sources;

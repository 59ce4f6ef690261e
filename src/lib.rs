//! Backend for Backend.

pub mod domain;
pub mod shape;

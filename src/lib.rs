//! Backend for Backend.

pub mod domain;

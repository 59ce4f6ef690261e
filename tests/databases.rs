//! The database servers that other tests meet: that each is what those tests take it for.

mod postgres;

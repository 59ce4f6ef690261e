//! What one collection holds while it runs: its memory, and the requests that are on their way.

use crate::resources::WorkMemory;
use crate::sources::Outstanding;

/// What one collection holds while it runs.
#[derive(Debug, Clone, Copy)]
pub struct Work<'a> {
    /// What its bodies are taken from.
    pub memory: &'a WorkMemory,
    /// Its requests that are on their way.
    pub outstanding: &'a Outstanding,
}

//! The text of a part that a database's rows become, one after the other, within its bounds.

use super::Reason;
#[cfg(feature = "mongodb")]
use super::attempt_error::Resend;
use super::attempt_error::{AttemptError, format_size};
use super::reserved_body::ReservedBody;
use crate::domain::Rows;
use crate::resources::WorkMemory;

/// The most rows of a part: each costs some work.
pub(super) const ROWS_MAX: usize = 100_000;

/// How the reading of one part in a database ended.
#[derive(Debug)]
pub(super) enum PartOutcome<'a> {
    /// A part, as JSON text, and its memory.
    Json(Vec<u8>, ReservedBody<'a>),
    /// No row, where one was to be read.
    NoRow,
    /// It failed.
    Failed(AttemptError),
    /// Another part that was read with it failed before.
    Unreached,
}

/// The rows of a part that have come so far.
#[derive(Debug)]
pub(super) struct PartText<'a> {
    rows: Rows,
    bytes_max: usize,
    text: Vec<u8>,
    reserved: ReservedBody<'a>,
    count: usize,
}

impl<'a> PartText<'a> {
    /// No row yet.
    pub(super) fn new(rows: Rows, bytes_max: usize, memory: &'a WorkMemory) -> Self {
        let reserved = ReservedBody::new(memory);
        Self { rows, bytes_max, text: Vec::new(), reserved, count: 0 }
    }

    /// The bytes that the next row may have, with the comma before it and the brackets around all.
    pub(super) fn room(&self) -> usize {
        self.bytes_max.saturating_sub(self.text.len() + 2)
    }

    /// Reserves memory for so many bytes more, or for as many as may still come.
    pub(super) async fn reserve(&mut self, bytes: usize) -> Result<(), AttemptError> {
        let needed = self.text.len().saturating_add(bytes).saturating_add(2);
        let needed = needed.min(self.bytes_max);
        if needed > self.text.capacity() {
            let doubled = needed.max(self.text.capacity() * 2).min(self.bytes_max);
            self.reserved.reserve_total(doubled).await?;
            self.text.reserve_exact(doubled - self.text.len());
        }
        Ok(())
    }

    /// Counts a row more.
    pub(super) fn count_row(&mut self) -> Result<(), AttemptError> {
        self.count += 1;
        match self.rows {
            Rows::One if self.count > 1 => {
                let detail = "has several rows, expected one: see `rows`";
                Err(AttemptError::answered(Reason::Rows, detail))
            }
            Rows::Many if self.count > ROWS_MAX => {
                let detail = format!("has more than {ROWS_MAX} rows, which is the most");
                Err(AttemptError::answered(Reason::TooLarge, detail))
            }
            _ => Ok(()),
        }
    }

    /// Adds the row that was counted last.
    pub(super) async fn push(&mut self, json: &[u8]) -> Result<(), AttemptError> {
        if json.len() > self.room() {
            return Err(self.too_large_error());
        }
        self.reserve(json.len()).await?;
        if self.rows == Rows::Many {
            self.text.push(if self.count == 1 { b'[' } else { b',' });
        }
        self.text.extend_from_slice(json);
        Ok(())
    }

    /// All rows have come.
    pub(super) async fn finish(mut self) -> Result<PartOutcome<'a>, AttemptError> {
        match self.rows {
            Rows::One if self.count == 0 => return Ok(PartOutcome::NoRow),
            Rows::One => {}
            Rows::Many => {
                if self.count == 0 {
                    self.reserve(0).await?;
                    self.text.push(b'[');
                }
                self.text.push(b']');
            }
        }
        Ok(PartOutcome::Json(self.text, self.reserved))
    }

    pub(super) fn too_large_error(&self) -> AttemptError {
        let allowed = format_size(self.bytes_max);
        let detail = format!("has more than the {allowed} that are allowed");
        AttemptError::answered(Reason::TooLarge, detail)
    }
}

impl PartOutcome<'_> {
    /// Whether the connection broke, and a fresh one may bring what was asked for.
    #[cfg(feature = "mongodb")]
    pub(super) fn may_be_resent(&self) -> bool {
        matches!(self, Self::Failed(error) if error.resend == Resend::OnFreshConnection)
    }

    /// The bytes of its text.
    #[cfg(feature = "postgres")]
    pub(super) fn bytes(&self) -> u64 {
        match self {
            Self::Json(json, _) => json.len() as u64,
            Self::NoRow | Self::Failed(_) | Self::Unreached => 0,
        }
    }
}

//! What a run may still cost, and the ways in which it stops.
//!
//! Every evaluation step, every allocation and every level of recursion passes here, so that a bound holds wherever the
//! program spends. What the budget stops cannot be caught by the program.

use std::time::{Duration, Instant};

use super::value::{HEAD_BYTES, Val};
use super::{Budget, RunError};

/// No value is nested deeper.
pub(super) const MAX_DEPTH: u32 = 256;

/// How much of the caller's stack a run takes at most; callers have at least the double.
const STACK_BYTES: usize = 512 * 1024;

/// How long a run may go on before another regular expression is tried: what a search takes cannot be counted in steps.
const SEARCHING: Duration = Duration::from_secs(2);

/// Why an evaluation ended early.
#[derive(Debug)]
pub(super) enum Stop {
    /// An error that `try` may catch.
    Fault(Box<Fault>),
    /// On the way to the label with this number.
    Break(u64),
    /// The budget is spent: nothing catches this.
    Spent(&'static str),
}

/// An error of the program. Its message names types, never data; what `error(x)` raised stays beside it.
#[derive(Debug)]
pub(super) struct Fault {
    pub(super) message: String,
    pub(super) raised: Option<Val>,
}

/// Whether to go on.
pub(super) type Flow<T = ()> = Result<T, Stop>;

/// An error with a message free of data.
pub(super) fn fault<T>(message: impl Into<String>) -> Flow<T> {
    Err(Stop::Fault(Box::new(Fault { message: message.into(), raised: None })))
}

/// The remaining budget of one run.
#[derive(Debug)]
pub(super) struct Meter {
    steps: u64,
    bytes: u64,
    largest: u64,
    /// Where the stack was when the run began.
    base: usize,
    /// When the first regular expression was tried.
    searching: Option<Instant>,
}

impl Meter {
    pub(super) fn new(budget: &Budget) -> Self {
        Self {
            steps: budget.steps,
            bytes: budget.memory_bytes,
            largest: budget.memory_bytes,
            base: here(),
            searching: None,
        }
    }

    /// One step deeper.
    pub(super) fn enter(&mut self) -> Flow {
        if self.base.abs_diff(here()) > STACK_BYTES {
            return Err(Stop::Spent("nests its calls too deeply"));
        }
        self.spend(1)
    }

    /// Work of `n` steps.
    pub(super) fn spend(&mut self, n: u64) -> Flow {
        self.steps = self.steps.checked_sub(n).ok_or(Stop::Spent("takes more steps than a run may"))?;
        Ok(())
    }

    /// A search with a regular expression over `bytes` of text.
    pub(super) fn search(&mut self, bytes: usize) -> Flow {
        if self.searching.get_or_insert_with(Instant::now).elapsed() > SEARCHING {
            return Err(Stop::Spent("takes longer than a run may"));
        }
        self.spend(bytes as u64)
    }

    /// Memory about to be taken, and the work of filling it.
    pub(super) fn alloc(&mut self, bytes: u64) -> Flow {
        self.bytes = self.bytes.checked_sub(bytes).ok_or(Stop::Spent("takes more memory than a run may"))?;
        self.spend(bytes / 64)
    }

    /// Takes in a value just built: refuses what is too large to walk or too deep to drop, and charges its head.
    pub(super) fn admit(&mut self, val: Val) -> Flow<Val> {
        if val.depth() > MAX_DEPTH {
            return Err(Stop::Spent("builds a value nested more than 256 deep"));
        }
        if val.size() > self.largest {
            return Err(Stop::Spent("takes more memory than a run may"));
        }
        match val {
            Val::Arr(_) | Val::Obj(_) => self.alloc(HEAD_BYTES)?,
            Val::Str(_) => self.alloc(HEAD_BYTES / 4)?,
            _ => (),
        }
        Ok(val)
    }
}

/// An address in the current stack frame.
#[inline(always)]
#[expect(clippy::inline_always, reason = "it asks for its caller's frame")]
fn here() -> usize {
    let mark = 0_u8;
    std::ptr::from_ref(std::hint::black_box(&mark)).addr()
}

impl From<Stop> for RunError {
    fn from(stop: Stop) -> Self {
        let message = match stop {
            Stop::Fault(fault) if fault.raised.is_some() => "the program raised an error".into(),
            Stop::Fault(fault) => fault.message,
            Stop::Break(_) => "break outside of its label".into(),
            Stop::Spent(what) => format!("the program {what}"),
        };
        Self { message }
    }
}

//! What a run may still cost, and the ways in which it stops.
//!
//! Every evaluation step, every allocation and every level of recursion passes here, so that a bound holds wherever the
//! program spends. What the budget stops cannot be caught by the program.

use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

use super::value::{HEAD_BYTES, Val};
use super::{Budget, MEMORY_STEP_BYTES, RunError, RunErrorKind};

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
    /// Stopped from outside: nothing catches this.
    Outside(RunErrorKind),
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

/// After so many steps the clock is looked at.
const STEPS_BETWEEN_LOOKS: u64 = 4096;

/// The remaining budget of one run.
pub(super) struct Meter<'b> {
    budget: Budget<'b>,
    /// Steps until the clock is looked at.
    slice: u64,
    /// Steps beyond those.
    steps: u64,
    bytes: u64,
    /// Bytes granted by the process and not used yet.
    granted: u64,
    largest: u64,
    /// Where the stack was when the run began.
    base: usize,
    /// When the first regular expression was tried.
    searching: Option<Instant>,
}

impl<'b> Meter<'b> {
    pub(super) fn new(budget: &Budget<'b>) -> Self {
        Self {
            budget: *budget,
            slice: 0,
            steps: budget.steps,
            bytes: budget.memory_bytes,
            granted: 0,
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
        match self.slice.checked_sub(n) {
            Some(rest) => {
                self.slice = rest;
                Ok(())
            }
            None => self.look(n),
        }
    }

    /// Looks at the clock, and takes `n` steps and the next slice.
    #[cold]
    fn look(&mut self, n: u64) -> Flow {
        let left = (self.steps + self.slice).checked_sub(n).ok_or(Stop::Spent("takes more steps than a run may"))?;
        if self.budget.cancelled.is_some_and(|cancelled| cancelled.load(Relaxed)) {
            return Err(Stop::Outside(RunErrorKind::Cancelled));
        }
        if self.budget.until.is_some_and(|until| Instant::now() >= until) {
            return Err(Stop::Outside(RunErrorKind::TimedOut));
        }
        self.slice = left.min(STEPS_BETWEEN_LOOKS);
        self.steps = left - self.slice;
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
        if let Some(ask) = self.budget.memory
            && bytes > self.granted
        {
            let more = (bytes - self.granted).next_multiple_of(MEMORY_STEP_BYTES);
            if !ask(more) {
                return Err(Stop::Outside(RunErrorKind::MemoryRefused));
            }
            self.granted += more;
        }
        self.granted = self.granted.saturating_sub(bytes);
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

/// Why a run was stopped that may have done nothing wrong.
fn outside(kind: RunErrorKind) -> &'static str {
    match kind {
        RunErrorKind::Program => "the program was stopped",
        RunErrorKind::MemoryRefused => "there is not enough free memory to run the program now",
        RunErrorKind::TimedOut => "the program takes longer than there is time for it",
        RunErrorKind::Cancelled => "nobody waits for the program's result any more",
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
        match stop {
            Stop::Fault(fault) if fault.raised.is_some() => Self::of_program("the program raised an error"),
            Stop::Fault(fault) => Self::of_program(fault.message),
            Stop::Break(_) => Self::of_program("break outside of its label"),
            Stop::Spent(what) => Self::of_program(format!("the program {what}")),
            Stop::Outside(kind) => Self { message: outside(kind).into(), kind },
        }
    }
}

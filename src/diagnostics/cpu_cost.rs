//! The growth of a cost with the input, for tests: measured in CPU time of this thread, so that
//! other load on the machine changes little, and as a ratio, so that the machine's speed changes
//! nothing.

use std::borrow::Borrow;
use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};

/// The highest ratio between the cost of ten times the input and that of the input: ten if it is
/// linear, a hundred if it is quadratic.
const MOST: u32 = 25;
/// A cost below this cannot be told from noise.
const NOISE: Duration = Duration::from_millis(2);

fn cpu_time() -> Duration {
    let now = clock_gettime(ClockId::ThreadCPUTime);
    Duration::new(
        now.tv_sec.unsigned_abs(),
        u32::try_from(now.tv_nsec).expect("less than a second"),
    )
}

/// The cost of `work`: the least of so many runs.
fn cost(times: usize, work: impl Fn()) -> Duration {
    let once = || {
        let began = cpu_time();
        work();
        cpu_time().saturating_sub(began)
    };
    (0..times).map(|_| once()).min().expect("at least one run")
}

/// Panics unless ten times the input costs about ten times as much. `input` makes one of a size,
/// `work` works on it.
#[track_caller]
pub(crate) fn assert_linear<T: Borrow<B>, B: ?Sized>(
    name: &str,
    size: usize,
    input: impl Fn(usize) -> T,
    work: impl Fn(&B),
) {
    let small = input(size);
    let large = input(10 * size);
    let small = cost(3, || work(small.borrow()));
    let large = cost(1, || work(large.borrow()));
    assert!(
        large <= (small.max(NOISE)) * MOST,
        "{name}: {size} cost {small:?}, ten times as many {large:?}"
    );
}

//! jq programs with inputs: whatever they are, a run ends within its budget and within its time,
//! asks for no more memory than it may have, yields the same again, and what it yields is JSON.
//!
//! The fuzz target runs this on what it makes up; the tests replay its corpus with it. Input: a
//! program, an empty line, the JSON that it runs over (`null` where there is none).

use std::cell::Cell;
use std::time::{Duration, Instant};

use bfb::shape::{Budget, MEMORY_STEP_BYTES, Program, RunErrorKind};
use rustix::time::{ClockId, clock_gettime};

/// A fiftieth of what a run may do by default: about 20 ms in a release build.
const STEPS: u64 = 200_000;
const OUTPUT_BYTES: usize = 256 * 1024;
const MEMORY_BYTES: u64 = 16 << 20;
/// When a run is told to end that may take any number of steps.
const TIME: Duration = Duration::from_millis(20);
/// When a run is over that its steps end.
const NEVER: Duration = Duration::from_hours(24);
/// How much of the processor a run may take until it has ended: builds with sanitizers are tens of
/// times slower.
const PATIENCE: Duration = Duration::from_secs(5);

/// Panics where the property does not hold; says whether there was a value.
pub(crate) fn holds(data: &[u8]) -> bool {
    let text = String::from_utf8_lossy(data);
    let (program, input) = text.split_once("\n\n").unwrap_or((&text, "null"));
    let program = match Program::compile(program.trim()) {
        Ok(program) => program,
        Err(error) => {
            assert!(
                program.trim().get(error.at.clone()).is_some(),
                "a problem outside of the program: {error:?}"
            );
            return false;
        }
    };
    // What its steps end, not a clock: without one, searches would bring their own.
    let counted = Budget { steps: STEPS, until: Some(Instant::now() + NEVER), ..Budget::default() };
    let first = run(&program, input, counted);
    let again = run(&program, input, counted);
    assert_eq!(first, again, "a second run ended otherwise");
    let timed = run(
        &program,
        input,
        Budget { steps: u64::MAX, until: Some(Instant::now() + TIME), ..Budget::default() },
    );
    if let (Ok(first), Ok(timed)) = (&first, &timed) {
        assert_eq!(first, timed, "a run with other bounds yielded something else");
    }
    let Ok(output) = first else { return false };
    let identity = Program::compile(".").expect("it is a program");
    assert_eq!(identity.run(&output, Budget::default()), Ok(output), "an output that is not JSON");
    true
}

/// Why there is no value, whoever the machine's clock blames for it.
fn run(program: &Program, input: &str, budget: Budget<'_>) -> Result<Vec<u8>, RunErrorKind> {
    let asked = Cell::new(0);
    let grant = |bytes| {
        asked.set(asked.get() + bytes);
        true
    };
    let budget = Budget {
        output_bytes: OUTPUT_BYTES,
        memory_bytes: MEMORY_BYTES,
        memory: Some(&grant),
        ..budget
    };
    let began = processor_time();
    let result = program.run(input.as_bytes(), budget);
    let took = processor_time().saturating_sub(began);
    assert!(took < PATIENCE, "a run took {took:?}");
    assert!(
        asked.get() <= MEMORY_BYTES + MEMORY_STEP_BYTES,
        "a run asked for {} bytes",
        asked.get()
    );
    assert!(result.as_ref().is_ok_and(|output| output.len() <= OUTPUT_BYTES) || result.is_err());
    result.map_err(|error| {
        assert!(!error.message.contains("internal"), "{error}");
        error.kind
    })
}

/// What this thread has had of the processor: another one's load does not count.
fn processor_time() -> Duration {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    Duration::try_from(time).unwrap_or_default()
}

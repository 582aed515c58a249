//! What goes wrong by chance.

use std::time::Duration;

/// How often chance interferes. All zero is a host on a quiet day.
///
/// ```
/// use proxy_wasm_sim::Faults;
///
/// let faults = Faults { preempt: 10, ..Faults::default() };
/// assert_eq!(faults.trap, 0);
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Faults {
    /// One in so many host calls waits while other workers go on; 0 for none.
    pub preempt: u32,
    /// How long such a host call waits, at the most. Mostly it is a few microseconds.
    pub longest_wait: Duration,
    /// One in so many host calls traps, as if the module had panicked there; 0 for none.
    pub trap: u32,
}

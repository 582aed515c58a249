//! What filters log, kept for the test that runs in the same thread.

use std::cell::RefCell;
use std::sync::Once;

use durpina_host::subject::told;

thread_local! {
    static LINES: RefCell<Vec<String>> = const { RefCell::new(Vec::new()) };
}

struct Kept;

impl log::Log for Kept {
    fn enabled(&self, _metadata: &log::Metadata<'_>) -> bool {
        true
    }

    fn log(&self, record: &log::Record<'_>) {
        let line = told(record.target(), record.args().to_string());
        LINES.with_borrow_mut(|lines| lines.push(line));
    }

    fn flush(&self) {}
}

/// Forgets what was logged in this thread, and sees to it that all of the rest is kept.
pub(crate) fn begin() {
    static INSTALLED: Once = Once::new();
    INSTALLED.call_once(|| {
        // A test program that has a logger of its own keeps it, and finds nothing here.
        if log::set_logger(&Kept).is_ok() {
            log::set_max_level(log::LevelFilter::Trace);
        }
    });
    LINES.with_borrow_mut(Vec::clear);
}

/// The lines that were logged in this thread.
pub(crate) fn lines() -> Vec<String> {
    LINES.with_borrow(Vec::clone)
}

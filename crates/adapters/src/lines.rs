//! Lines for the proxy's log, and what is told of a panic: each with what it is about, where code of somebody else's runs.
//!
//! The SDK has a logger and a hook of its own, which know nothing of that, and it panics where there is another logger already. So nobody may
//! call its `set_log_level` beside these.

use durpina_host::subject::told;
use log::{Level, LevelFilter, Log, Metadata, Record};
use proxy_wasm::hostcalls;
use proxy_wasm::types::LogLevel;

struct Lines;

impl Log for Lines {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.level() <= log::max_level()
    }

    fn log(&self, record: &Record<'_>) {
        let level = match record.level() {
            Level::Trace => LogLevel::Trace,
            Level::Debug => LogLevel::Debug,
            Level::Info => LogLevel::Info,
            Level::Warn => LogLevel::Warn,
            Level::Error => LogLevel::Error,
        };
        if self.enabled(record.metadata()) {
            write(level, record.target(), record.args().to_string());
        }
    }

    fn flush(&self) {}
}

fn write(level: LogLevel, target: &str, line: String) {
    // There is nobody to tell that there is no log.
    let _ = hostcalls::log(level, &told(target, line));
}

/// Has lines go to the proxy's log, and panics as well.
pub(crate) fn start() {
    // Whose logger is there already keeps it, and has lines without what they are about.
    let _ = log::set_logger(&Lines);
    std::panic::set_hook(Box::new(|panic| write(LogLevel::Critical, "", panic.to_string())));
    set_level(LevelFilter::Info);
}

/// What is beyond this level is not even put together.
pub(crate) fn set_level(level: LevelFilter) {
    log::set_max_level(level);
}

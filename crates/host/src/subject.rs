//! What code of somebody else's is about while it runs: what stands in front of the lines that it writes into the log.
//!
//! Such code writes lines by the crate `log`, as all code does. Who calls it says [what it is about](about), and who takes lines to the proxy's
//! log asks [how they are told](told).

use std::cell::RefCell;
use std::fmt;

thread_local! {
    static SUBJECT: RefCell<String> = const { RefCell::new(String::new()) };
}

/// The crates whose lines say themselves what they are about.
const OURS: [&str; 3] = ["durpina", "durpina_host", "durpina_proxy_wasm"];

/// Puts back what was the subject before, also when what ran panics.
struct Before(String);

impl Drop for Before {
    fn drop(&mut self) {
        SUBJECT.set(std::mem::take(&mut self.0));
    }
}

/// Runs code that is about `subject`, as in `upstream=web peer=10.0.0.1:80`.
pub fn about<T>(subject: String, run: impl FnOnce() -> T) -> T {
    let _before = Before(SUBJECT.replace(subject));
    run()
}

/// A line as it goes into the log, where `target` is whose it is: a module's path.
///
/// ```
/// use durpina_host::subject::{about, told};
/// assert_eq!(about("peer=a".to_owned(), || told("mine::monitor", "hm\n".to_owned())), r"peer=a: hm\n");
/// assert_eq!(about("peer=a".to_owned(), || told("durpina::store", "hm".to_owned())), "hm");
/// assert_eq!(told("mine::monitor", "hm".to_owned()), "hm");
/// ```
#[must_use]
pub fn told(target: &str, line: String) -> String {
    let is_ours = target.split("::").next().is_some_and(|name| OURS.contains(&name));
    SUBJECT.with_borrow(|subject| {
        if subject.is_empty() || is_ours {
            return line;
        }
        format!("{subject}: {}", OneLine(&line))
    })
}

/// A text as one line: what others say must not look like a line of its own.
#[derive(Clone, Copy, Debug)]
pub struct OneLine<'t>(pub &'t str);

impl fmt::Display for OneLine<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        use fmt::Write;
        self.0
            .chars()
            .try_for_each(|c| if c.is_control() { write!(f, "{}", c.escape_default()) } else { f.write_char(c) })
    }
}

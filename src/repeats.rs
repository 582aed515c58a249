//! What is logged, but not again and again.
//!
//! Of lines with one cause the first is logged at once. Those that follow are counted, and told of in one line when the pause is over.
//! What a cause is says whoever logs: a number that clients cannot make up as they like, or they would fill the log with it.

use std::time::Duration;

use log::Level;

use crate::time::Timestamp;

/// How many causes are told apart; all others are one while these are fresh.
const MOST_CAUSES: usize = 64;
const OTHERS: u64 = u64::MAX;

/// What was logged when.
pub(crate) struct Repeats {
    /// For how long the same is not logged again.
    pause: Duration,
    said: Vec<Said>,
}

struct Said {
    cause: u64,
    at: Timestamp,
    level: Level,
    what: String,
    /// How many more there were since.
    more: u64,
}

impl Said {
    /// Whether the time for which one is silent is over. It is if the clock was turned back.
    fn is_over(&self, now: Timestamp, pause: Duration) -> bool {
        now < self.at || now.since(self.at) >= pause
    }

    fn log(&mut self, now: Timestamp) {
        let more = match self.more {
            0 => String::new(),
            more => format!("; {more} more in {}s", now.since(self.at).as_secs()),
        };
        log::log!(self.level, "{}{more}", self.what);
        (self.at, self.more) = (now, 0);
    }
}

impl Repeats {
    /// Nothing was logged yet; the same will be at most once in each `pause`.
    pub(crate) const fn new(pause: Duration) -> Self {
        Self { pause, said: Vec::new() }
    }

    /// Logs a line, unless one of the same cause was logged just now. `what` is only asked for a line that is logged.
    pub(crate) fn say(&mut self, now: Timestamp, cause: u64, level: Level, what: &dyn Fn() -> String) {
        let pause = self.pause;
        let mut cause = cause;
        let is_known = |said: &[Said], cause| said.iter().any(|said| said.cause == cause);
        if self.said.len() >= MOST_CAUSES && !is_known(&self.said, cause) {
            self.said.retain(|said| said.more > 0 || !said.is_over(now, pause));
            if self.said.len() >= MOST_CAUSES {
                cause = OTHERS;
            }
        }
        if !is_known(&self.said, cause) {
            self.said.push(Said { cause, at: Timestamp::default(), level, what: String::new(), more: 0 });
        }
        let Some(said) = self.said.iter_mut().find(|said| said.cause == cause) else { return };
        if said.is_over(now, pause) {
            (said.level, said.what) = (level, what());
            said.log(now);
        } else {
            said.more = said.more.saturating_add(1);
        }
    }

    /// Tells how many lines were not logged, once their pause is over.
    pub(crate) fn tell(&mut self, now: Timestamp) {
        for said in &mut self.said {
            if said.more > 0 && said.is_over(now, self.pause) {
                said.log(now);
            }
        }
    }
}

/// A text that somebody else chose, as it can stand in a line: in quotes, in one line, and not too long.
pub(crate) fn quoted(text: &[u8], most: usize) -> String {
    let shown = String::from_utf8_lossy(text.get(..most).unwrap_or(text));
    format!("{shown:?}{}", if text.len() > most { "…" } else { "" })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::test;
    use durpina_sim::Sim;

    const NOW: Timestamp = Timestamp::from_millis(1_700_000_000_000);
    const PAUSE: Duration = Duration::from_secs(10);

    fn at(seconds: u64) -> Timestamp {
        NOW.after(Duration::from_secs(seconds))
    }

    #[test]
    fn the_same_is_said_once_and_then_counted() {
        let (sim, mut repeats) = (Sim::new(), Repeats::new(PAUSE));
        let say = |repeats: &mut Repeats, seconds, cause: u64| {
            repeats.say(at(seconds), cause, Level::Warn, &|| format!("no {cause}"));
        };
        (0..50).for_each(|_| say(&mut repeats, 0, 1));
        say(&mut repeats, 3, 2);
        repeats.tell(at(9));
        assert_eq!(sim.logged(""), ["no 1", "no 2"]);
        repeats.tell(at(10));
        assert_eq!(sim.logged("more"), ["no 1; 49 more in 10s"]);
        (0..2).for_each(|_| say(&mut repeats, 15, 1));
        repeats.tell(at(20));
        repeats.tell(at(1_000));
        assert_eq!(sim.logged("").len(), 4);
        say(&mut repeats, 1_001, 1);
        say(&mut repeats, 900, 1);
        assert_eq!(
            sim.logged("no 1").len(),
            5,
            "{:?}: it is news again, and the clock was turned back",
            sim.logged("")
        );
    }

    #[test]
    fn whoever_makes_up_causes_fills_neither_the_log_nor_the_memory() {
        let (sim, mut repeats) = (Sim::new(), Repeats::new(PAUSE));
        for cause in 0..1_000 {
            repeats.say(NOW, cause, Level::Warn, &|| "no".to_owned());
        }
        assert_eq!((sim.logged("").len(), repeats.said.len()), (MOST_CAUSES + 1, MOST_CAUSES + 1));
        repeats.tell(at(10));
        assert_eq!(sim.logged("more"), [format!("no; {} more in 10s", 1_000 - MOST_CAUSES - 1)]);
        repeats.say(at(20), 1_000, Level::Warn, &|| "again".to_owned());
        assert_eq!((sim.logged("again").len(), repeats.said.len()), (1, 1), "there is room when the pause is over");
    }

    #[test]
    fn what_others_chose_stays_in_its_line() {
        assert_eq!(quoted(b"/a\n\"b\"", 100), "\"/a\\n\\\"b\\\"\"");
        assert_eq!(quoted("/ä".as_bytes(), 2), "\"/\u{fffd}\"…");
        assert_eq!(quoted(b"\x1b[2J", 100), "\"\\u{1b}[2J\"");
    }
}

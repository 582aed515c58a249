//! What is logged, but not again and again.
//!
//! Of lines with one cause the first is logged at once. Those that follow are counted, and told of in one line when the pause is over.
//! What a cause is says whoever logs: a number that clients cannot make up as they like, or they would fill the log with it.

use std::time::Duration;

use log::Level;

use crate::time::{format_duration, Timestamp};

/// How many causes are told apart; the others are only counted while these are fresh.
const MOST_CAUSES: usize = 64;

/// What was logged when.
pub(crate) struct Repeats {
    /// For how long the same is not logged again.
    pause: Duration,
    said: Vec<Said>,
    /// How many lines had a cause for which there was no room.
    others: u64,
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
        let (what, more, time) = (&self.what, self.more, seconds(now.since(self.at)));
        match more {
            0 => log::log!(self.level, "{what}"),
            _ => log::log!(self.level, "{what}; {more} more in {time}"),
        }
        (self.at, self.more) = (now, 0);
    }
}

impl Repeats {
    /// Nothing was logged yet; the same will be at most once in each `pause`.
    pub(crate) const fn new(pause: Duration) -> Self {
        Self { pause, said: Vec::new(), others: 0 }
    }

    /// Logs a line, unless one of the same cause was logged just now. `what` is only asked for a line that is logged.
    pub(crate) fn say(&mut self, now: Timestamp, cause: u64, level: Level, what: &dyn Fn() -> String) {
        let pause = self.pause;
        if let Some(said) = self.said.iter_mut().find(|said| said.cause == cause) {
            if said.is_over(now, pause) {
                said.what = what();
                said.log(now);
            } else {
                said.more = said.more.saturating_add(1);
            }
            return;
        }
        if self.said.len() >= MOST_CAUSES {
            self.said.retain(|said| said.more > 0 || !said.is_over(now, pause));
        }
        if self.said.len() >= MOST_CAUSES {
            self.others = self.others.saturating_add(1);
            return;
        }
        let mut said = Said { cause, at: now, level, what: what(), more: 0 };
        said.log(now);
        self.said.push(said);
    }

    /// Tells how many lines were not logged, once their pause is over. `kind` is how they begin.
    pub(crate) fn tell(&mut self, now: Timestamp, kind: &str) {
        let pause = self.pause;
        for said in &mut self.said {
            if said.more > 0 && said.is_over(now, pause) {
                said.log(now);
            }
        }
        if self.others > 0 && self.said.iter().any(|said| said.is_over(now, pause)) {
            log::warn!("{kind}: {} more of other kinds", self.others);
            self.others = 0;
        }
    }
}

/// Whole seconds, in which people think.
fn seconds(length: Duration) -> String {
    format_duration(Duration::from_secs(length.as_secs().max(1)))
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
        repeats.tell(at(9), "no");
        assert_eq!(sim.logged(""), ["no 1", "no 2"]);
        repeats.tell(at(10), "no");
        assert_eq!(sim.logged("more"), ["no 1; 49 more in 10s"]);
        (0..2).for_each(|_| say(&mut repeats, 15, 1));
        repeats.tell(at(20), "no");
        repeats.tell(at(1_000), "no");
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
        assert_eq!((sim.logged("").len(), repeats.said.len()), (MOST_CAUSES, MOST_CAUSES));
        repeats.tell(at(10), "refused");
        assert_eq!(sim.logged("refused"), [format!("refused: {} more of other kinds", 1_000 - MOST_CAUSES)]);
        repeats.say(at(10), 1_000, Level::Warn, &|| "again".to_owned());
        assert_eq!((sim.logged("again").len(), repeats.said.len()), (1, 1), "there is room when the pause is over");
    }

    #[test]
    fn what_others_chose_stays_in_its_line() {
        assert_eq!(quoted(b"/a\n\"b\"", 100), "\"/a\\n\\\"b\\\"\"");
        assert_eq!(quoted("/ä".as_bytes(), 2), "\"/\u{fffd}\"…");
        assert_eq!(quoted(b"\x1b[2J", 100), "\"\\u{1b}[2J\"");
    }
}

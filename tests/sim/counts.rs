//! What is counted is what happened.

use std::time::Duration;

use proxy_wasm_sim::{Attempt, End, Outcome};

use crate::api;
use crate::scenario::{Broken, Scenario, DRAIN, PEERS};

/// The attempts of a request of which the host tells that the peer failed. Not of an answer that stalls: the client may be one who reads
/// too slowly. Nor of the last one of a client who leaves before the next one begins.
pub(crate) fn failed<'o>(outcome: &'o Outcome, name: &'o str) -> impl Iterator<Item = &'o Attempt> + 'o {
    let told = outcome.attempts.len().saturating_sub(usize::from(outcome.status.is_none()));
    let all = outcome.attempts.iter().take(told);
    all.filter(move |attempt| attempt.address == name && attempt.end.is_failure() && attempt.end != End::Stalled)
}

impl Scenario {
    /// Each failed attempt of a request was counted once, against the peer that it went to. What a VM had not shared when it ended is
    /// lost, and so is what a configuration counted after its drain, or shortly before, when the clock is turned back and counts wait
    /// for it.
    pub(crate) fn failures_are_those_that_happened(&mut self) -> Result<(), Broken> {
        let of = |(id, sent): &(_, Duration)| Some((self.process.outcome(*id)?, *sent));
        let outcomes: Vec<(Outcome, Duration)> = self.sent.iter().filter_map(of).collect();
        let all = api::failures(&mut self.process, 0);
        for (at, name) in PEERS.iter().enumerate() {
            let (mut certain, mut possible) = (0.0, 0.0);
            for (outcome, sent) in &outcomes {
                let count = failed(outcome, name).count() as f64;
                let is_lost = self.with_traps
                    || self.with_steps && self.with_updates
                    || outcome.ended.saturating_sub(*sent) > DRAIN / 2;
                possible += count;
                certain += if is_lost { 0.0 } else { count };
            }
            let counted = all.of(name, false);
            if counted < certain || counted > possible {
                return Err(format!(
                    "{counted} failures of requests were counted against {name}, and there were {certain} to {possible}"
                ));
            }
            let of_checks = all.of(name, true);
            if !self.misbehaved[at] && of_checks > 0.0 {
                return Err(format!("{of_checks} checks of {name} failed, and it never did"));
            }
        }
        Ok(())
    }
}

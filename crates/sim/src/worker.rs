//! A worker of the proxy: it drives a guest.

use std::time::Duration;

use durpina_host::{Attempt, Guest, Outcome, Visited};

use crate::host::{Attempts, SimHost};
use crate::machine::Sim;
use crate::sent::{Answer, Sent};

/// A worker of the proxy with the filter in it.
pub struct Worker<G> {
    /// The worker's host.
    pub host: SimHost,
    /// The worker's filter.
    pub filter: G,
}

impl<G: Guest> Worker<G> {
    /// Starts a worker with a configuration.
    ///
    /// # Errors
    ///
    /// What is wrong with the configuration.
    pub fn start(sim: &Sim, config: &str) -> Result<Self, G::Refusal>
    where
        G::Parts: Default,
    {
        Self::named(sim, "test", config)
    }

    /// Starts a worker with a configuration for an instance of the filter.
    ///
    /// # Errors
    ///
    /// What is wrong with the configuration.
    pub fn named(sim: &Sim, instance: &str, config: &str) -> Result<Self, G::Refusal>
    where
        G::Parts: Default,
    {
        Self::with(&G::Parts::default(), sim, instance, config)
    }

    /// The same, with a filter that is made of these parts.
    ///
    /// # Errors
    ///
    /// What is wrong with the configuration.
    pub fn with(parts: &G::Parts, sim: &Sim, instance: &str, config: &str) -> Result<Self, G::Refusal> {
        let host = sim.worker();
        let filter = G::configure(parts, &host, instance, config.as_bytes())?;
        Ok(Self { host, filter })
    }

    /// Ticks.
    pub fn tick(&mut self) -> Duration {
        let wait = self.filter.tick(&self.host);
        self.host.wait.set(wait);
        wait
    }

    /// Lets the replies to this worker's calls arrive. Returns how many there were.
    pub fn deliver(&mut self) -> usize {
        let calls = self.host.calls.take();
        for (id, call) in &calls {
            let reply = self.host.shared.reply(call);
            self.host.replying.set(true);
            self.host.wait.set(self.filter.reply(&self.host, *id, &reply));
            self.host.replying.set(false);
        }
        calls.len()
    }

    /// Loses the replies to this worker's calls.
    pub fn lose_calls(&mut self) -> usize {
        self.host.calls.take().len()
    }

    /// Sends a request through this worker, from its arrival to its end.
    pub fn send(&mut self, sent: Sent) -> Answer {
        let (answer, mut exchange) = self.begin(sent);
        self.end(&mut exchange);
        answer
    }

    /// The same on a host that tries one candidate at a time, and sends a request that failed through the filter again. It began
    /// with these attempts, which went elsewhere.
    pub fn send_in_visits(&mut self, sent: &Sent, elsewhere: &[Attempt]) -> Answer {
        *self.host.visited.borrow_mut() = Visited { attempts: elsewhere.to_vec(), known: 0 };
        let answer = self.visit(sent);
        *self.host.visited.borrow_mut() = Visited::default();
        answer
    }

    fn visit(&mut self, sent: &Sent) -> Answer {
        loop {
            self.host.receive(sent.clone());
            let (outcome, exchange) = self.filter.request(&self.host, false);
            let Some(first) = self.host.offered().into_iter().next().filter(|_| outcome == Outcome::Continue) else {
                return self.host.attempt(outcome);
            };
            let (mut ended, mut answer) = self.host.attempts_at(vec![first]);
            let before = self.host.visited.borrow().attempts.clone();
            ended.all.splice(..0, before.clone());
            if let Answer::Failed { .. } = answer {
                *self.host.visited.borrow_mut() = Visited { attempts: ended.all, known: before.len() };
                continue;
            }
            if let Answer::Served { attempts, .. } = &mut answer {
                *attempts = ended.all.len();
            }
            self.end(&mut Ended { exchange, attempts: ended });
            return answer;
        }
    }

    /// Sends a request through this worker as far as its answer: what the filter would learn at its end it does
    /// not know yet.
    pub fn begin(&mut self, sent: Sent) -> (Answer, Ended<G::Exchange>) {
        self.host.receive(sent);
        let body = self.host.sent.borrow().body.clone();
        let (mut outcome, exchange) = self.filter.request(&self.host, !body.is_empty());
        if outcome == Outcome::Body {
            self.filter.request_body(&self.host, &body);
            outcome = Outcome::Answered;
        }
        let answer = self.host.attempt(outcome);
        let attempts = self.host.ended.borrow().clone();
        (answer, Ended { exchange, attempts })
    }

    /// Tells the filter that a request's answer goes on.
    pub fn go_on(&mut self, ended: &mut Ended<G::Exchange>) {
        *self.host.ended.borrow_mut() = ended.attempts.clone();
        self.filter.streaming(&self.host, &mut ended.exchange);
    }

    /// Tells the filter of a request's end.
    pub fn end(&mut self, ended: &mut Ended<G::Exchange>) {
        *self.host.ended.borrow_mut() = ended.attempts.clone();
        let Attempts { all, status, is_flagged } = &ended.attempts;
        if status.is_some() {
            self.filter.response(&self.host, &mut ended.exchange);
        }
        let kept = self.filter.done(&self.host, &mut ended.exchange);
        if kept && (*is_flagged || all.len() > 1 || status.is_some_and(|status| status >= 300)) {
            self.filter.failed(&self.host, &mut ended.exchange);
        }
    }
}

/// A request whose end the filter does not know of yet.
pub struct Ended<E> {
    exchange: E,
    attempts: Attempts,
}

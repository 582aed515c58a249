//! What a proxy tells a guest.

use std::time::Duration;

use crate::{CallId, Host, Reply, RequestHost, ResponseHost};

/// What is to become of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The host goes on with it.
    Continue,
    /// The guest answered it.
    Answered,
    /// The guest answers it when its body is there: see [`Guest::request_body`].
    Body,
}

/// One configuration of a filter in one worker.
pub trait Guest: Sized {
    /// What it is made with, the same for all configurations: the balancers and monitors that it knows, say.
    type Parts;
    /// What is wrong with a configuration. It is in the log already.
    type Refusal;
    /// What is remembered of a request until it is over.
    type Exchange: Default;

    /// The longest body that [`request_body`](Self::request_body) wants, in bytes.
    const LONGEST_BODY: usize;

    /// Reads a configuration for the instance of the filter that goes by the name `instance`. Errors and warnings go to the log.
    /// Nothing shared is written: hosts try configurations that they then refuse for other reasons.
    ///
    /// # Errors
    ///
    /// All that is wrong with the configuration. Where the host does not survive a refusal, go on with
    /// [`refused`](Self::refused).
    fn configure(parts: &Self::Parts, host: &dyn Host, instance: &str, text: &[u8]) -> Result<Self, Self::Refusal>;

    /// The guest that answers every request with 503.
    fn refused() -> Self;

    /// Does what is due besides requests. Returns the time after which it wants to be called again.
    fn tick(&mut self, host: &dyn Host) -> Duration;

    /// A call has ended, or is as far as it had to be. Returns the time after which the guest wants its next tick.
    fn reply(&mut self, host: &dyn Host, call: CallId, reply: &Reply) -> Duration;

    /// Sends a request on its way. `has_body` says whether a body follows its headers.
    fn request(&mut self, host: &dyn RequestHost, has_body: bool) -> (Outcome, Self::Exchange);

    /// Answers a request for whose body it waited. `body` is the whole of it, or more of it than
    /// [`LONGEST_BODY`](Self::LONGEST_BODY).
    fn request_body(&mut self, host: &dyn RequestHost, body: &[u8]);

    /// The answer's headers are there.
    fn response(&mut self, host: &dyn ResponseHost, exchange: &mut Self::Exchange);

    /// The answer goes on after the beginning of its body, and may do so for long: a stream of events, a download, a WebSocket.
    fn streaming(&mut self, host: &dyn ResponseHost, exchange: &mut Self::Exchange);

    /// The request is over. Returns whether the exchange is to be kept for [`failed`](Self::failed).
    fn done(&mut self, host: &dyn ResponseHost, exchange: &mut Self::Exchange) -> bool;

    /// The host reports that a request did not end well: an attempt failed, or its status is no success.
    fn failed(&mut self, host: &dyn ResponseHost, exchange: &mut Self::Exchange);
}

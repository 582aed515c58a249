//! A request that comes again, because the host retries it by sending it through the filter once more.
//!
//! What became of the attempts so far is known only now. Their failures are counted, and who was tried is not offered again.

use super::exchange::judge_earlier;
use super::refusal::{Refusal, Why};
use crate::host::{Attempt, End, Failure, RequestHost, Visited, MOST_CANDIDATES};
use crate::request::Request;
use crate::worker::candidate::Candidate;
use crate::worker::directory::Directory;

type Candidates = [Option<Candidate>; MOST_CANDIDATES];

/// Methods that are not to be sent twice to servers that may have acted on them: what nginx calls non-idempotent
/// (`proxy_next_upstream`).
const ONCE: [&[u8]; 3] = [b"POST", b"LOCK", b"PATCH"];

/// Counts the attempts that are news, and leaves of the candidates those that were not tried. An error is the end of the request.
pub(super) fn go_on(
    host: &dyn RequestHost,
    request: &Request<'_>,
    directory: &Directory,
    upstream: usize,
    visited: &Visited,
    candidates: Candidates,
) -> Result<Candidates, Refusal> {
    judge_earlier(host, directory, upstream, visited.attempts.get(visited.known..).unwrap_or_default());
    let Some(view) = directory.view(upstream) else { return Ok(candidates) };
    // What went elsewhere before it came here is no attempt at this upstream.
    let is_ours =
        |attempt: &&Attempt| attempt.address.as_deref().and_then(|address| view.candidate_at(address)).is_some();
    let tried: Vec<&Attempt> = visited.attempts.iter().filter(is_ours).collect();
    let Some(last) = tried.last() else { return Ok(candidates) };
    let was_reached = |attempt: &&Attempt| attempt.end != End::Failed(Failure::Connect);
    let may_act_twice = tried.iter().any(was_reached) && ONCE.contains(&request.method());
    let is_untried =
        |candidate: &Candidate| tried.iter().all(|attempt| attempt.address.as_deref() != Some(&*candidate.address));
    let mut left = candidates.into_iter().flatten().filter(is_untried);
    let left: Candidates = [left.next(), left.next(), left.next()];
    if tried.len() >= view.wanted() || may_act_twice || left.first().is_none_or(Option::is_none) {
        return Err(Why::Failed(status(last)).into());
    }
    Ok(left)
}

/// The status of a request whose last attempt this was.
fn status(last: &Attempt) -> u16 {
    match last.end {
        End::Answered(status) => status,
        End::Failed(Failure::Timeout) => 504,
        End::Failed(_) | End::Nobodys => 502,
    }
}

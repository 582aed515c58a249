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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::filter::Filter;
    use crate::host::Capabilities;
    use crate::store::Store;
    use crate::testing::test;
    use durpina_sim::{Answer, Behaviour, Sent, Sim};

    type Worker = durpina_sim::Worker<Filter>;

    const A: &str = "10.0.0.1:80";
    const B: &str = "10.0.0.2:80";
    const C: &str = "10.0.0.3:80";

    /// A worker of a host that sends requests through the filter again, with three peers that are always tried in this order.
    fn worker(retries: u8, first: Behaviour, second: Behaviour) -> (Sim, Worker) {
        let host =
            Capabilities { resolves_names: true, survives_refusal: false, most_calls: 1, ..Capabilities::default() };
        let sim = Sim::with(host);
        sim.server(A, first);
        sim.server(B, second);
        let text = format!(
            r#"{{"upstreams": {{"u": {{"servers": ["{A} max_fails=0", "{B} max_fails=0", "{C} max_fails=0"], "retries": {retries},
            "balancer": {{"name": "consistent-hash", "key": "$arg_k"}}}}}}, "upstream": "u"}}"#
        );
        let worker = Worker::start(&sim, &text).unwrap();
        (sim, worker)
    }

    /// A request whose candidates are A, B and C in this order.
    fn request(worker: &mut Worker) -> Sent {
        let mut keys = (0..1_000).map(|key| Sent::get(&format!("/?k={key}")));
        let is_in_order = |sent: &Sent| {
            worker.host.receive(sent.clone());
            let _ = crate::host::Guest::request(&mut worker.filter, &worker.host, false);
            worker.host.offered() == [A, B, C].get(..worker.host.offered().len()).unwrap()
        };
        keys.find(is_in_order).unwrap()
    }

    /// The failures counted for A, B and C.
    fn failures(sim: &Sim, worker: &mut Worker) -> Vec<u64> {
        sim.advance(std::time::Duration::from_secs(1));
        worker.tick();
        let store = Store::new(&worker.host);
        let (record, _) = store.record("u").unwrap().unwrap();
        let counters = store.counters("u").unwrap();
        record.peers.iter().map(|peer| counters.of(peer.id).failures.iter().sum()).collect()
    }

    const REFUSES: Behaviour = Behaviour::Fails(Failure::Connect);
    const RESETS: Behaviour = Behaviour::Fails(Failure::Reset);

    #[test]
    fn who_was_tried_is_not_tried_again_and_each_failure_counts_once() {
        let (sim, mut worker) = worker(2, REFUSES, RESETS);
        let sent = request(&mut worker);
        let answer = worker.send_in_visits(&sent, &[]);
        assert_eq!(answer, Answer::Served { by: C.to_owned(), status: 200, attempts: 3 });
        assert_eq!(failures(&sim, &mut worker), [1, 1, 0]);
    }

    #[test]
    fn retries_end_where_the_upstream_says_so() {
        for (retries, expected) in [(0, [1, 0, 0]), (1, [1, 1, 0])] {
            let (sim, mut worker) = worker(retries, REFUSES, Behaviour::Fails(Failure::Timeout));
            let sent = request(&mut worker);
            let answer = worker.send_in_visits(&sent, &[]);
            let status = if retries == 0 { 502 } else { 504 };
            assert!(matches!(&answer, Answer::Refused(found, _) if *found == status), "{answer:?}");
            assert_eq!(failures(&sim, &mut worker), expected);
            assert_eq!(sim.logged("refused"), [""; 0], "a failure is told of elsewhere");
        }
    }

    #[test]
    fn what_a_server_may_have_acted_on_is_not_sent_again() {
        for (method, first, by) in
            [("POST", REFUSES, B), ("POST", RESETS, ""), ("PATCH", RESETS, ""), ("PUT", RESETS, B), ("GET", RESETS, B)]
        {
            let (_, mut worker) = worker(2, first, Behaviour::Answers(200));
            let sent = request(&mut worker).method(method);
            assert_eq!(worker.send_in_visits(&sent, &[]).by(), by, "{method} {first:?}");
        }
    }

    #[test]
    fn attempts_that_went_elsewhere_count_for_nothing() {
        let (sim, mut worker) = worker(1, REFUSES, Behaviour::Answers(200));
        let sent = request(&mut worker).method("POST");
        let elsewhere = Attempt { address: Some("192.0.2.9:80".to_owned()), end: End::Answered(200) };
        let answer = worker.send_in_visits(&sent, &[elsewhere.clone(), elsewhere]);
        assert_eq!(answer, Answer::Served { by: B.to_owned(), status: 200, attempts: 4 });
        assert_eq!(failures(&sim, &mut worker), [1, 0, 0]);
    }
}

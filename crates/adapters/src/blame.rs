//! Whose fault it was, by what Envoy says of a request: docs/states.md has the table, and tests/envoy/blame/ tries its rows.
//!
//! - The details tell whether the answer had begun when its connection broke, the flags how it broke. A timeout has the same details
//!   in both cases; then a header tells, which Envoy puts on servers' answers and not on its own.
//! - A server may break off an answer because the client's own deadline is over (grpc-go resets the stream). Whether it is, a
//!   header and the duration tell. Such a request is nobody's failure: any client could provoke it.
//! - What cannot be told is nobody's.

use durpina_host::{Attempt, End, Failure};

use crate::abi::{integer, text, Abi, Map};

pub(crate) const ADDRESS: &[u8] = b"upstream\0address";
pub(crate) const FLAGS: &[u8] = b"response\0flags";
const ATTEMPTS: &[u8] = b"upstream\0request_attempt_count";
pub(crate) const CODE: &[u8] = b"response\0code";
const DETAILS: &[u8] = b"response\0code_details";
const DURATION: &[u8] = b"request\0duration";
const METHOD: &[u8] = b"request\0method";
const DEADLINE: &[u8] = b"request\0headers\0grpc-timeout";

/// Envoy's response flags: `envoy/stream_info/stream_info.h`, by bit.
mod flag {
    pub(super) const NO_HEALTHY_UPSTREAM: u64 = 1 << 1;
    pub(super) const UPSTREAM_REQUEST_TIMEOUT: u64 = 1 << 2;
    pub(super) const UPSTREAM_REMOTE_RESET: u64 = 1 << 4;
    pub(super) const UPSTREAM_CONNECTION_FAILURE: u64 = 1 << 5;
    pub(super) const UPSTREAM_CONNECTION_TERMINATION: u64 = 1 << 6;
    pub(super) const DOWNSTREAM_CONNECTION_TERMINATION: u64 = 1 << 14;
    pub(super) const UPSTREAM_PROTOCOL_ERROR: u64 = 1 << 23;
    pub(super) const DOWNSTREAM_REMOTE_RESET: u64 = 1 << 28;
}

/// Envoy's details: the same file.
mod detail {
    pub(super) const ANSWERED: &str = "via_upstream";
    pub(super) const BROKEN_BEFORE: &str = "upstream_reset_before_response_started";
    pub(super) const TIMED_OUT: [&str; 2] = ["response_timeout", "upstream_per_try_timeout"];
    pub(super) const NOBODY_LEFT: &str = "no_healthy_upstream";
    pub(super) const BROKEN_DURING: &str = "upstream_reset_after_response_started";
}

/// The attempts before the last one, which went to this address. Envoy says how many there were and nothing else. Attempt n goes to
/// the n-th candidate, unless the request goes elsewhere altogether: then the last one was at no candidate's place.
pub(crate) fn earlier_attempts(offered: &[&str], earlier: usize, last: &str) -> Vec<Attempt> {
    if offered.get(earlier).is_none_or(|address| *address != last) {
        return Vec::new();
    }
    let failed = |address: &&str| Attempt { address: Some((*address).to_owned()), end: End::Failed(Failure::Retried) };
    offered.iter().take(earlier).map(failed).collect()
}

/// What Envoy says of a request that is over, or as far as its answer.
pub(crate) struct Evidence<'a, A>(pub(crate) &'a A);

impl<A: Abi> Evidence<'_, A> {
    /// How many attempts there were before the last one.
    pub(crate) fn repeated(&self) -> usize {
        usize::try_from(integer(self.0, ATTEMPTS).unwrap_or_default()).unwrap_or_default().saturating_sub(1)
    }

    /// All attempts of a request that is over.
    pub(crate) fn all_attempts(&self, offered: &[&str]) -> Vec<Attempt> {
        let (mut earlier, address) = (self.repeated(), text(self.0, ADDRESS));
        let mut end = self.last_end();
        // A retry for which no candidate was left counts as an attempt too, with the address of the one before it.
        if earlier == offered.len() && text(self.0, DETAILS) == detail::NOBODY_LEFT {
            earlier = earlier.saturating_sub(1);
            end = End::Failed(Failure::Retried);
        }
        let mut attempts = earlier_attempts(offered, earlier, &address);
        attempts.push(Attempt { address: Some(address).filter(|address| !address.is_empty()), end });
        attempts
    }

    /// Whether Envoy answered because the cluster had no server for the request.
    pub(crate) fn found_nobody(&self) -> bool {
        integer(self.0, FLAGS).unwrap_or_default() & flag::NO_HEALTHY_UPSTREAM != 0
    }

    /// How the last attempt of a request ended.
    pub(crate) fn last_end(&self) -> End {
        let flags = integer(self.0, FLAGS).unwrap_or_default();
        let any = |set: u64| flags & set != 0;
        // None before there was any answer, Envoy's own included.
        let status = integer(self.0, CODE).and_then(|code| u16::try_from(code).ok()).filter(|code| *code > 0);
        let answered = status.map_or(End::Nobodys, End::Answered);
        let details = text(self.0, DETAILS);
        if details == detail::ANSWERED {
            answered
        } else if any(flag::DOWNSTREAM_CONNECTION_TERMINATION | flag::DOWNSTREAM_REMOTE_RESET) {
            if self.has_begun() {
                answered
            } else {
                End::Nobodys
            }
        } else if details.starts_with(detail::BROKEN_BEFORE) {
            if any(flag::UPSTREAM_CONNECTION_FAILURE) {
                End::Failed(Failure::Connect)
            } else if any(flag::UPSTREAM_PROTOCOL_ERROR) {
                End::Failed(Failure::Protocol)
            } else if any(flag::UPSTREAM_CONNECTION_TERMINATION)
                || any(flag::UPSTREAM_REMOTE_RESET) && !self.is_past_its_deadline()
            {
                End::Failed(Failure::Reset)
            } else {
                End::Nobodys
            }
        } else if details.starts_with(detail::BROKEN_DURING) {
            let broken = flag::UPSTREAM_PROTOCOL_ERROR | flag::UPSTREAM_CONNECTION_TERMINATION;
            let is_broken = any(broken) || any(flag::UPSTREAM_REMOTE_RESET) && !self.is_past_its_deadline();
            // Whoever upgraded a connection may end it.
            if is_broken && status != Some(101) && text(self.0, METHOD) != "CONNECT" {
                End::Failed(Failure::Reset)
            } else {
                answered
            }
        } else if any(flag::UPSTREAM_REQUEST_TIMEOUT) {
            // Other timeouts run while a client uploads as well.
            let is_silence = detail::TIMED_OUT.contains(&&*details) && !self.is_past_its_deadline();
            if self.has_begun() {
                answered
            } else if is_silence && (status == Some(504) || self.is_refused_as_grpc()) {
                End::Failed(Failure::Timeout)
            } else {
                End::Nobodys
            }
        } else {
            End::Nobodys
        }
    }

    /// Whether what the client got is a server's answer, as far as it goes. Envoy puts this header on no answer of its own, and on
    /// none at all where the router is told to suppress it.
    fn has_begun(&self) -> bool {
        matches!(self.0.header(Map::Response, "x-envoy-upstream-service-time"), Ok(Some(_)))
    }

    /// Whether it is Envoy's own answer to gRPC: its status is 200, and the headers hold the real one. A server's answer that does so is
    /// over with its headers.
    fn is_refused_as_grpc(&self) -> bool {
        matches!(self.0.header(Map::Response, "grpc-status"), Ok(Some(_)))
    }

    /// Whether the client gave the server so little time that it is over.
    fn is_past_its_deadline(&self) -> bool {
        let deadline = text(self.0, DEADLINE);
        if deadline.is_empty() {
            return false;
        }
        // Nanoseconds, as Envoy has durations.
        let took = integer(self.0, DURATION).unwrap_or(u64::MAX);
        grpc_timeout(&deadline).is_none_or(|deadline| took >= deadline)
    }
}

/// A `grpc-timeout` in nanoseconds: up to eight digits and a unit.
fn grpc_timeout(text: &str) -> Option<u64> {
    let (digits, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
    let nanos = match unit {
        "H" => 3_600_000_000_000,
        "M" => 60_000_000_000,
        "S" => 1_000_000_000,
        "m" => 1_000_000,
        "u" => 1_000,
        "n" => 1,
        _ => return None,
    };
    Some(digits.parse::<u64>().ok()?.saturating_mul(nanos))
}

#[cfg(test)]
mod tests {
    use durpina_host::ResponseHost;

    use super::*;
    use crate::envoy::Envoy;
    use crate::fake::Fake;

    const A: &str = "10.0.0.1:80";
    const B: &str = "10.0.0.2:80";
    const C: &str = "10.0.0.3:80";

    const UT: u64 = flag::UPSTREAM_REQUEST_TIMEOUT;
    const UR: u64 = flag::UPSTREAM_REMOTE_RESET;
    const UF: u64 = flag::UPSTREAM_CONNECTION_FAILURE;
    const UC: u64 = flag::UPSTREAM_CONNECTION_TERMINATION;
    const UPE: u64 = flag::UPSTREAM_PROTOCOL_ERROR;
    const DC: u64 = flag::DOWNSTREAM_CONNECTION_TERMINATION;
    const DR: u64 = flag::DOWNSTREAM_REMOTE_RESET;
    const UO: u64 = 1 << 7;
    /// Set beside others when no retry is left.
    const URX: u64 = 1 << 15;

    const BEFORE: &str = "upstream_reset_before_response_started{connection_termination}";
    const DURING: &str = "upstream_reset_after_response_started{remote_reset}";

    fn envoy(flags: u64, code: u64, details: &str) -> Envoy<Fake> {
        let envoy = Envoy::new(Fake::default());
        envoy.abi.set_number(FLAGS, flags);
        envoy.abi.set_number(CODE, code);
        envoy.abi.set_text(DETAILS, details);
        envoy
    }

    fn last_end(envoy: &Envoy<Fake>) -> End {
        Evidence(&envoy.abi).last_end()
    }

    fn with_a_servers_answer(envoy: Envoy<Fake>) -> Envoy<Fake> {
        envoy.abi.set_header(Map::Response, "x-envoy-upstream-service-time", "3");
        envoy
    }

    #[test]
    fn before_the_answer_whatever_broke_was_the_server() {
        for (flags, expected) in [
            (UF, End::Failed(Failure::Connect)),
            (UF | URX, End::Failed(Failure::Connect)),
            (UC, End::Failed(Failure::Reset)),
            (UR, End::Failed(Failure::Reset)),
            (UPE | UC, End::Failed(Failure::Protocol)),
            (UO, End::Nobodys),
            (0, End::Nobodys),
            (DC | UC, End::Nobodys),
            (DR | UR, End::Nobodys),
        ] {
            assert_eq!(last_end(&envoy(flags, 503, BEFORE)), expected, "{flags:#x}");
        }
    }

    #[test]
    fn in_the_middle_of_an_answer_only_a_broken_connection_is_the_server_s() {
        for flags in [UC, UR, UPE] {
            assert_eq!(last_end(&envoy(flags, 200, DURING)), End::Failed(Failure::Reset), "{flags:#x}");
            assert_eq!(last_end(&envoy(flags, 101, DURING)), End::Answered(101), "an upgraded connection: {flags:#x}");
            let tunnel = envoy(flags, 200, DURING);
            tunnel.abi.set_text(METHOD, "CONNECT");
            assert_eq!(last_end(&tunnel), End::Answered(200), "{flags:#x}");
            let left = with_a_servers_answer(envoy(flags | DC, 200, DURING));
            assert_eq!(last_end(&left), End::Answered(200), "{flags:#x}");
        }
        assert_eq!(last_end(&envoy(UO, 200, DURING)), End::Answered(200));
    }

    #[test]
    fn a_timeout_counts_as_long_as_no_answer_began() {
        for details in ["response_timeout", "upstream_per_try_timeout"] {
            assert_eq!(last_end(&envoy(UT, 504, details)), End::Failed(Failure::Timeout));
            assert_eq!(last_end(&with_a_servers_answer(envoy(UT, 504, details))), End::Answered(504));
            assert_eq!(last_end(&with_a_servers_answer(envoy(UT, 200, details))), End::Answered(200));
            let silent = envoy(UT, 200, details);
            assert_eq!(last_end(&silent), End::Nobodys, "headers that tell are suppressed");
            silent.abi.set_header(Map::Response, "grpc-status", "4");
            assert_eq!(last_end(&silent), End::Failed(Failure::Timeout), "Envoy's own answer to gRPC");
        }
        for details in ["upstream_per_try_idle_timeout", "stream_idle_timeout"] {
            assert_eq!(
                last_end(&envoy(UT, 504, details)),
                End::Nobodys,
                "the client may have been uploading: {details}"
            );
        }
    }

    #[test]
    fn the_client_s_own_deadline_is_nobody_s_failure() {
        for (deadline, took, expected) in [
            ("100m", 100_000_000, End::Nobodys),
            ("100m", 99_000_000, End::Failed(Failure::Reset)),
            ("1H", 99_000_000, End::Failed(Failure::Reset)),
            ("soon", 0, End::Nobodys),
            ("m", 0, End::Nobodys),
            ("1\u{e9}", 0, End::Nobodys),
        ] {
            let envoy = envoy(UR, 200, BEFORE);
            envoy.abi.set_text(DEADLINE, deadline);
            envoy.abi.set_number(DURATION, took);
            assert_eq!(last_end(&envoy), expected, "{deadline} and {took} ns");
        }
        let refused = envoy(UF, 503, BEFORE);
        refused.abi.set_text(DEADLINE, "1n");
        assert_eq!(last_end(&refused), End::Failed(Failure::Connect), "a refused connection has nothing to do with it");
        assert_eq!(grpc_timeout("99999999H"), Some(u64::MAX));
    }

    #[test]
    fn envoy_s_own_answers_are_nobody_s() {
        for details in ["direct_response", "no_healthy_upstream", "route_not_found", "internal_redirect", "durpina", ""]
        {
            for flags in [0, 1 << 1, 1 << 8, 1 << 16] {
                assert_eq!(last_end(&envoy(flags, 503, details)), End::Nobodys, "{details}");
            }
        }
        assert_eq!(last_end(&envoy(0, 503, "via_upstream")), End::Answered(503));
        assert_eq!(last_end(&envoy(DC, 0, "downstream_remote_disconnect")), End::Nobodys);
        let left = with_a_servers_answer(envoy(DC, 200, "downstream_remote_disconnect"));
        assert_eq!(last_end(&left), End::Answered(200));
    }

    #[test]
    fn attempts_are_told_by_address_as_far_as_envoy_counts_them() {
        let failed = |address: &str, failure| Attempt { address: Some(address.to_owned()), end: End::Failed(failure) };
        let envoy = envoy(UF, 503, BEFORE);
        assert!(envoy.earlier_attempts(&[A, B, C]).is_empty(), "no attempt at all");
        assert_eq!(envoy.attempts(&[A, B, C]), [Attempt { address: None, end: End::Failed(Failure::Connect) }]);
        envoy.abi.set_number(ATTEMPTS, 3);
        envoy.abi.set_text(ADDRESS, C);
        let earlier = [failed(A, Failure::Retried), failed(B, Failure::Retried)];
        assert_eq!(envoy.earlier_attempts(&[A, B, C]), earlier);
        assert_eq!(envoy.attempts(&[A, B, C]), [&earlier[..], &[failed(C, Failure::Connect)]].concat());
    }

    #[test]
    fn a_retry_that_found_nobody_left_is_no_attempt() {
        let failed = |address: &str| Attempt { address: Some(address.to_owned()), end: End::Failed(Failure::Retried) };
        let envoy = envoy(1 << 1, 503, "no_healthy_upstream");
        envoy.abi.set_number(ATTEMPTS, 4);
        envoy.abi.set_text(ADDRESS, C);
        assert_eq!(envoy.attempts(&[A, B, C]), [A, B, C].map(failed));
        envoy.abi.set_text(ADDRESS, "10.0.0.9:80");
        assert_eq!(envoy.attempts(&[A, B, C]), [failed("10.0.0.9:80")], "which is no candidate");
        envoy.abi.set_number(ATTEMPTS, 1);
        assert_eq!(envoy.attempts(&[A, B, C])[0].end, End::Nobodys, "the first attempt found nobody");
    }

    #[test]
    fn retries_of_another_cluster_blame_no_candidate() {
        let envoy = envoy(UF, 503, BEFORE);
        envoy.abi.set_number(ATTEMPTS, 2);
        for last in ["10.0.0.9:80", A, C, ""] {
            envoy.abi.set_text(ADDRESS, last);
            assert!(envoy.earlier_attempts(&[A, B, C]).is_empty(), "{last}");
            assert_eq!(envoy.attempts(&[A, B, C]).len(), 1, "{last}");
        }
        envoy.abi.set_text(ADDRESS, B);
        assert!(envoy.earlier_attempts(&[A]).is_empty(), "an attempt beyond the last candidate is nobody's");
    }
}

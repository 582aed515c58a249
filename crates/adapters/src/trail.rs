//! The attempts of a request at nginx, as its variables tell of them.
//!
//! Each of the variables `$upstream_addr`, `$upstream_status`, `$upstream_header_time` and `$upstream_connect_time` has a word for each
//! attempt. Those of one visit to a location are separated by `, `; the next visit, after an `error_page`, begins behind ` : `.
//! See ngx_http_upstream_module, "Embedded Variables".

use durpina_host::{Attempt, End, Failure};

use crate::abi::{text, Abi};

const ADDRESSES: &[u8] = b"ngx\0upstream_addr";
pub(crate) const STATUSES: &[u8] = b"ngx\0upstream_status";
const HEADER_TIMES: &[u8] = b"ngx\0upstream_header_time";
const CONNECT_TIMES: &[u8] = b"ngx\0upstream_connect_time";

const VISIT: &str = " : ";
const ATTEMPT: &str = ", ";
/// What did not happen.
const NEVER: &str = "-";

/// What is known of the attempts at one moment.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Trail {
    pub(crate) attempts: Vec<Attempt>,
    /// Where the latest visit begins.
    pub(crate) latest: usize,
}

impl Trail {
    /// The attempts up to now.
    pub(crate) fn read(abi: &impl Abi) -> Self {
        let addresses = text(abi, ADDRESSES);
        if addresses.is_empty() {
            return Self::default();
        }
        Self::parse(&addresses, &text(abi, STATUSES), &text(abi, HEADER_TIMES), &text(abi, CONNECT_TIMES))
    }

    fn parse(addresses: &str, statuses: &str, header_times: &str, connect_times: &str) -> Self {
        let (mut statuses, mut header_times) = (words(statuses), words(header_times));
        let mut connect_times = words(connect_times);
        let mut trail = Self::default();
        for visit in addresses.split(VISIT) {
            trail.latest = trail.attempts.len();
            for address in visit.split(ATTEMPT) {
                let next = [&mut statuses, &mut header_times, &mut connect_times].map(|words| words.next());
                let [status, header_time, connect_time] = next.map(Option::unwrap_or_default);
                let address = Some(address).filter(|address| !matches!(*address, "" | NEVER)).map(str::to_owned);
                trail.push(Attempt { address, end: end(status, header_time, connect_time) });
            }
        }
        trail
    }

    /// Adds an attempt to the latest visit. Where nginx asks a server again, over another connection or at another of its
    /// addresses, the last word counts: connections that nginx keeps break when a server restarts.
    fn push(&mut self, attempt: Attempt) {
        let is_again = |before: &&mut Attempt| before.address == attempt.address;
        let latest = self.attempts.get_mut(self.latest..).unwrap_or_default();
        match latest.last_mut().filter(is_again) {
            Some(before) => *before = attempt,
            None => self.attempts.push(attempt),
        }
    }

    /// The attempts of the latest visit went to this server, whatever addresses it has: nginx resolves names itself.
    pub(crate) fn name_latest(&mut self, name: &str) {
        for attempt in self.attempts.split_off(self.latest.min(self.attempts.len())) {
            self.push(Attempt { address: Some(name.to_owned()), ..attempt });
        }
    }
}

fn words(list: &str) -> impl Iterator<Item = &str> {
    list.split(VISIT).flat_map(|visit| visit.split(ATTEMPT))
}

/// The status of a request with just one attempt in its latest visit.
pub(crate) fn single_status(statuses: &str) -> Option<u16> {
    statuses.rsplit(VISIT).next()?.parse().ok()
}

fn end(status: &str, header_time: &str, connect_time: &str) -> End {
    let Ok(status) = status.parse() else { return End::Nobodys };
    let is_time = |word: &str| !matches!(word, "" | NEVER);
    if is_time(header_time) {
        return End::Answered(status);
    }
    // nginx's own words for a server that failed. Others, such as 499 for a client that went away, are nobody's.
    match status {
        502 | 504 if !is_time(connect_time) => End::Failed(Failure::Connect),
        504 => End::Failed(Failure::Timeout),
        502 => End::Failed(Failure::Reset),
        _ => End::Nobodys,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(addresses: &str, statuses: &str, header_times: &str, connect_times: &str) -> (Vec<String>, usize) {
        let trail = Trail::parse(addresses, statuses, header_times, connect_times);
        let shown = |attempt: &Attempt| format!("{} {:?}", attempt.address.as_deref().unwrap_or("?"), attempt.end);
        (trail.attempts.iter().map(shown).collect(), trail.latest)
    }

    #[test]
    fn attempts_and_how_they_ended() {
        for (status, header, connect, expected) in [
            ("200", "0.001", "0.000", "Answered(200)"),
            ("502", "0.001", "0.000", "Answered(502)"),
            ("504", "0.001", "0.000", "Answered(504)"),
            ("502", "-", "-", "Failed(Connect)"),
            ("504", "-", "-", "Failed(Connect)"),
            ("502", "-", "0.000", "Failed(Reset)"),
            ("504", "-", "0.000", "Failed(Timeout)"),
            ("499", "-", "0.000", "Nobodys"),
            ("-", "-", "-", "Nobodys"),
            ("", "", "", "Nobodys"),
        ] {
            let (attempts, latest) = parse("10.0.0.1:80", status, header, connect);
            assert_eq!((attempts, latest), (vec![format!("10.0.0.1:80 {expected}")], 0));
        }
    }

    #[test]
    fn attempts_of_one_visit_and_of_several() {
        let (attempts, latest) = parse("a:1, [::1]:2 : c:3", "502, 504 : 200", "-, - : 0.010", "-, 0.001 : 0.000");
        assert_eq!(attempts, ["a:1 Failed(Connect)", "[::1]:2 Failed(Timeout)", "c:3 Answered(200)"]);
        assert_eq!(latest, 2);
        let (attempts, latest) = parse("u", "502", "-", "-");
        assert_eq!((attempts.as_slice(), latest), (&["u Failed(Connect)".to_owned()][..], 0), "no server was left");
        let (attempts, _) = parse("unix:/run/a.sock, b:1", "200", "", "");
        assert_eq!(attempts, ["unix:/run/a.sock Nobodys", "b:1 Nobodys"], "lists that do not fit");
    }

    #[test]
    fn one_attempt_is_told_by_its_status_alone() {
        assert_eq!(single_status("200"), Some(200));
        assert_eq!(single_status("502 : 204"), Some(204));
        assert_eq!(single_status("502, 200"), None);
        assert_eq!(single_status("-"), None);
        assert_eq!(single_status(""), None);
    }

    #[test]
    fn a_name_is_one_server_at_whatever_address() {
        let mut trail = Trail::parse("10.0.0.1:80 : 10.0.0.2:80, [::1]:80", "502 : 502, 502", "", "");
        trail.name_latest("web:80");
        let addresses: Vec<_> = trail.attempts.iter().filter_map(|attempt| attempt.address.as_deref()).collect();
        assert_eq!(addresses, ["10.0.0.1:80", "web:80"]);
    }

    #[test]
    fn of_a_server_that_is_asked_again_at_once_the_last_word_counts() {
        let (attempts, latest) =
            parse("a:1, a:1, a:1 : b:1, b:1", "502, 502, 502 : 502, 200", "-, -, - : -, 0.1", "0, 0, - : 0, 0");
        assert_eq!(attempts, ["a:1 Failed(Connect)", "b:1 Answered(200)"]);
        assert_eq!(latest, 1);
        let (attempts, latest) = parse("a:1, b:1, a:1 : a:1", "502, 502, 502 : 502", "", "");
        assert_eq!((attempts.len(), latest), (4, 3), "nor is it so in another visit");
    }
}

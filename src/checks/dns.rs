//! The resolver: names of servers to addresses, by asking name servers over TCP.
//!
//! Here is what a question and an answer look like; when which name server is asked is decided in `lookup`. Messages are
//! DNS's with two bytes of length before them (RFC 1035, section 4.2.2; RFC 7766). An answer counts only if its id and its
//! question are those of what was asked; chains of aliases (CNAME) are followed as far as a chain of 16. Hosts that resolve
//! names by themselves have no use for any of this.

use std::net::IpAddr;
use std::time::Duration;

use domain::base::iana::{Rcode, Rtype};
use domain::base::{Message, MessageBuilder, Name, ParsedName};
use domain::rdata::{Aaaa, Cname, A};

/// The most aliases between a name and its addresses. Resolvers have limits of about that size.
const LONGEST_CHAIN: usize = 16;
/// The most addresses that are kept of a name.
const MOST_ADDRESSES: usize = 32;
/// The time between two questions for the same name, at least: a time to live of zero must not become a flood.
pub(super) const SHORTEST_TTL: Duration = Duration::from_secs(5);
/// The same, at most: longer than that no error of a name server should last.
pub(super) const LONGEST_TTL: Duration = Duration::from_secs(24 * 3600);

/// What is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Family {
    /// IPv4 addresses.
    V4,
    /// IPv6 addresses.
    V6,
}

impl Family {
    fn record_type(self) -> Rtype {
        match self {
            Self::V4 => Rtype::A,
            Self::V6 => Rtype::AAAA,
        }
    }
}

/// One question.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Question {
    /// The name that is looked up.
    pub name: String,
    /// What for.
    pub family: Family,
    /// What tells its answer from others; random, so that nobody can answer who did not see it.
    pub id: u16,
}

/// What a name server says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Answer {
    /// The addresses, none if there are none of this family, and how long they hold.
    Addresses(Vec<IpAddr>, Duration),
    /// There is no such name.
    NoSuchName,
}

impl Question {
    /// The message, with its length before it; `None` for a name that DNS cannot have.
    #[must_use]
    pub(super) fn encode(&self) -> Option<Vec<u8>> {
        let message = self.message()?;
        let length = u16::try_from(message.len()).ok()?;
        let mut bytes = length.to_be_bytes().to_vec();
        bytes.extend_from_slice(&message);
        Some(bytes)
    }

    fn message(&self) -> Option<Vec<u8>> {
        let name: Name<Vec<u8>> = self.name.parse().ok()?;
        let mut message = MessageBuilder::new_vec();
        message.header_mut().set_id(self.id);
        message.header_mut().set_rd(true);
        let mut message = message.question();
        message.push((name, self.family.record_type())).ok()?;
        Some(message.finish())
    }

    /// Reads what a name server sent.
    ///
    /// # Errors
    ///
    /// Why that is no answer to this question.
    pub(super) fn read(&self, bytes: &[u8]) -> Result<Answer, String> {
        let cut_off = || "the name server's answer is cut off".to_owned();
        let (length, rest) = bytes.split_first_chunk::<2>().ok_or_else(cut_off)?;
        let message = rest.get(..usize::from(u16::from_be_bytes(*length))).ok_or_else(cut_off)?;
        let malformed = |_| "the name server's answer is malformed".to_owned();
        let answer = Message::from_octets(message).map_err(|_| cut_off())?;
        let asked = self.message().and_then(|bytes| Message::from_octets(bytes).ok());
        let asked = asked.ok_or_else(|| "not a name that can be asked for".to_owned())?;
        if !answer.is_answer(&asked) {
            return Err("the name server answered another question".to_owned());
        }
        if answer.header().tc() {
            return Err("the name server's answer is truncated".to_owned());
        }
        match answer.header().rcode() {
            Rcode::NOERROR => {}
            Rcode::NXDOMAIN => return Ok(Answer::NoSuchName),
            code => return Err(format!("the name server answered {code}")),
        }
        let records = answer.answer().map_err(malformed)?;
        let question = answer.sole_question().map_err(malformed)?;
        let mut name: ParsedName<&[u8]> = *question.qname();
        let mut hold = LONGEST_TTL;
        for _ in 0..LONGEST_CHAIN {
            let mut alias = None;
            for record in records.limit_to::<Cname<_>>() {
                let record = record.map_err(malformed)?;
                if record.owner() == &name {
                    hold = hold.min(record.ttl().into_duration());
                    alias = Some(*record.data().cname());
                }
            }
            let Some(next) = alias else {
                let addresses = self.addresses(&answer, &name, &mut hold).map_err(malformed)?;
                return Ok(Answer::Addresses(addresses, hold.max(SHORTEST_TTL)));
            };
            name = next;
        }
        Err("the name is an alias of an alias, and so on".to_owned())
    }

    fn addresses(
        &self,
        answer: &Message<&[u8]>,
        name: &ParsedName<&[u8]>,
        hold: &mut Duration,
    ) -> Result<Vec<IpAddr>, domain::base::wire::ParseError> {
        let records = answer.answer()?;
        let mut addresses = Vec::new();
        let mut add = |owner: &ParsedName<&[u8]>, ttl: Duration, address: IpAddr| {
            let is_usable = !address.is_unspecified() && !address.is_multicast();
            // Name servers change the order from answer to answer, which is no change.
            let Err(at) = addresses.binary_search(&address) else { return };
            if owner == name && is_usable {
                *hold = ttl.min(*hold);
                addresses.insert(at, address);
                // Always the same ones of too many.
                addresses.truncate(MOST_ADDRESSES);
            }
        };
        match self.family {
            Family::V4 => {
                for record in records.limit_to::<A>() {
                    let record = record?;
                    add(record.owner(), record.ttl().into_duration(), record.data().addr().into());
                }
            }
            Family::V6 => {
                for record in records.limit_to::<Aaaa>() {
                    let record = record?;
                    add(record.owner(), record.ttl().into_duration(), record.data().addr().into());
                }
            }
        }
        Ok(addresses)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::test;

    fn question() -> Question {
        Question { name: "web.example".to_owned(), family: Family::V4, id: 0x1234 }
    }

    const QUESTION: &[u8] = b"\x03web\x07example\0\0\x01\0\x01";

    /// An answer to [`question`]: flags, number of answers, and those.
    fn message(flags: u16, count: u16, answers: &[u8]) -> Vec<u8> {
        let mut message = vec![0x12, 0x34];
        message.extend_from_slice(&flags.to_be_bytes());
        message.extend_from_slice(&[0, 1]);
        message.extend_from_slice(&count.to_be_bytes());
        message.extend_from_slice(&[0, 0, 0, 0]);
        message.extend_from_slice(QUESTION);
        message.extend_from_slice(answers);
        framed(&message)
    }

    fn framed(message: &[u8]) -> Vec<u8> {
        let mut bytes = (message.len() as u16).to_be_bytes().to_vec();
        bytes.extend_from_slice(message);
        bytes
    }

    /// A record of the asked name: its type, time to live and data.
    fn record(kind: u8, ttl: u32, data: &[u8]) -> Vec<u8> {
        owned(b"\xc0\x0c", kind, ttl, data)
    }

    fn owned(owner: &[u8], kind: u8, ttl: u32, data: &[u8]) -> Vec<u8> {
        let mut record = owner.to_vec();
        record.extend_from_slice(&[0, kind, 0, 1]);
        record.extend_from_slice(&ttl.to_be_bytes());
        record.extend_from_slice(&(data.len() as u16).to_be_bytes());
        record.extend_from_slice(data);
        record
    }

    const OK: u16 = 0x8180;

    fn addresses(texts: &[&str], seconds: u64) -> Result<Answer, String> {
        let addresses = texts.iter().map(|text| text.parse().unwrap()).collect();
        Ok(Answer::Addresses(addresses, Duration::from_secs(seconds)))
    }

    #[test]
    fn addresses_are_read_with_the_time_for_which_they_hold() {
        let two = [record(1, 300, &[10, 0, 0, 2]), record(1, 60, &[10, 0, 0, 1])].concat();
        assert_eq!(question().read(&message(OK, 2, &two)), addresses(&["10.0.0.1", "10.0.0.2"], 60));
        let flood = record(1, 0, &[10, 0, 0, 1]);
        assert_eq!(question().read(&message(OK, 1, &flood)), addresses(&["10.0.0.1"], 5), "5 s at least");
        assert_eq!(question().read(&message(OK, 0, &[])), addresses(&[], 24 * 3600));
        assert_eq!(question().read(&message(0x8183, 0, &[])), Ok(Answer::NoSuchName));
    }

    #[test]
    fn aliases_are_followed() {
        let alias = record(5, 30, b"\x01a\xc0\x10");
        let address = owned(b"\x01A\xc0\x10", 1, 300, &[10, 0, 0, 9]);
        let stranger = owned(b"\x01b\xc0\x10", 1, 300, &[10, 0, 0, 6]);
        let chain = [address, stranger, alias].concat();
        assert_eq!(question().read(&message(OK, 3, &chain)), addresses(&["10.0.0.9"], 30), "in any order and case");
        let circle = record(5, 30, b"\xc0\x0c");
        assert_eq!(
            question().read(&message(OK, 1, &circle)),
            Err("the name is an alias of an alias, and so on".to_owned())
        );
    }

    #[test]
    fn what_is_no_answer_is_refused() {
        let good = record(1, 300, &[10, 0, 0, 1]);
        let error = |bytes: &[u8]| question().read(bytes).unwrap_err();
        assert_eq!(error(&message(0x8182, 0, &[])), "the name server answered SERVFAIL");
        assert_eq!(error(&message(0x8380, 1, &good)), "the name server's answer is truncated");
        let mut other_id = message(OK, 1, &good);
        other_id[2] = 9;
        assert_eq!(error(&other_id), "the name server answered another question");
        let mut other_name = message(OK, 1, &good);
        other_name[15] = b'x';
        assert_eq!(error(&other_name), "the name server answered another question");
        assert_eq!(error(&message(0x0100, 1, &good)), "the name server answered another question", "a question");
        let whole = message(OK, 1, &good);
        for cut in 0..whole.len() {
            assert!(question().read(&whole[..cut]).is_err());
        }
        assert!(question().read(&framed(&whole[2..whole.len() - 2])).is_err(), "the record is cut off");
        let endless = owned(b"\xc0\x1d", 1, 300, &[10, 0, 0, 1]);
        assert!(question().read(&message(OK, 1, &endless)).is_err(), "a name that points at itself");
        assert!(question().read(&message(OK, 9, &good)).is_err(), "fewer records than said");
    }

    #[test]
    fn many_records_are_read_and_few_addresses_are_kept() {
        let many: Vec<u8> = (0..4_000_u32).flat_map(|n| record(1, 60, &(0x0a00_0000 + n).to_be_bytes())).collect();
        match question().read(&message(OK, 4_000, &many)) {
            Ok(Answer::Addresses(addresses, _)) => assert_eq!(addresses.len(), MOST_ADDRESSES),
            other => panic!("{other:?}"),
        }
        let aliases: Vec<u8> = (0..3_000).flat_map(|_| record(5, 60, b"\x01a\xc0\x10")).collect();
        let _ = question().read(&message(OK, 3_000, &aliases));
    }

    #[test]
    fn any_bytes_are_read() {
        let mut random = fastrand::Rng::with_seed(9);
        let good = message(OK, 2, &[record(5, 30, b"\x01a\xc0\x10"), record(1, 60, &[10, 0, 0, 1])].concat());
        for _ in 0..20_000 {
            let mut bytes = good.clone();
            for _ in 0..random.usize(1..6) {
                let at = random.usize(..bytes.len());
                bytes[at] = random.u8(..);
            }
            let _ = question().read(&bytes);
        }
    }

    #[test]
    fn questions_are_framed() {
        let bytes = question().encode().unwrap();
        assert_eq!(bytes[..6], [0, 29, 0x12, 0x34, 0x01, 0x00]);
        assert_eq!(&bytes[14..], QUESTION);
        assert_eq!(Question { name: "a..b".to_owned(), ..question() }.encode(), None);
        assert!(Question { name: "web.example.".to_owned(), family: Family::V6, id: 1 }.encode().is_some());
    }
}

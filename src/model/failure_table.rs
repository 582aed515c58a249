//! The failures counted against an upstream's peers, as shared data holds them.
//!
//! All counters of an upstream are one value, apart from its record: failures
//! can come by the thousand per second, and must not cost a worker the parsing of all servers. Only peers
//! that have failed lately are in it. Layout, all integers little endian:
//!
//! | bytes | what |
//! | --- | --- |
//! | 4 | `DPH` and the format's number, 2 |
//! | 4 | how many entries follow |
//! | 28 each | peer's id (4), failures (4), those of them by checks (4), since (8), until (8): times in milliseconds since the epoch |
//!
//! A peer that was down and starts slowly stays in it, with no failures, from its return until it has all of its
//! weight.

use crate::model::failures::Failures;
use crate::model::id::PeerId;
use crate::time::Timestamp;

const MAGIC: [u8; 4] = *b"DPH\x02";
const ENTRY: usize = 28;

/// The failures of an upstream's peers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FailureTable {
    /// Ordered by id.
    entries: Vec<(PeerId, Failures)>,
}

impl FailureTable {
    /// The failures counted against a peer.
    #[must_use]
    pub fn of(&self, peer: PeerId) -> Failures {
        let found = self.entries.binary_search_by_key(&peer, |(id, _)| *id);
        found.ok().and_then(|at| self.entries.get(at)).map(|(_, failures)| *failures).unwrap_or_default()
    }

    /// Replaces what is counted against a peer; nothing is kept of a peer without failures.
    pub fn set(&mut self, peer: PeerId, failures: Failures) {
        match self.entries.binary_search_by_key(&peer, |(id, _)| *id) {
            Ok(at) if failures == Failures::default() => {
                self.entries.remove(at);
            }
            Ok(at) => {
                if let Some(entry) = self.entries.get_mut(at) {
                    entry.1 = failures;
                }
            }
            Err(_) if failures == Failures::default() => {}
            Err(at) => self.entries.insert(at, (peer, failures)),
        }
    }

    /// Keeps the entries for which `keep` says so; it may change them.
    pub fn retain(&mut self, mut keep: impl FnMut(PeerId, &mut Failures) -> bool) {
        self.entries.retain_mut(|(id, failures)| keep(*id, failures));
    }

    /// The peers that have failed lately, with their failures.
    pub fn iter(&self) -> impl Iterator<Item = (PeerId, &Failures)> {
        self.entries.iter().map(|(id, failures)| (*id, failures))
    }

    /// The value for shared data.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(8 + self.entries.len() * ENTRY);
        bytes.extend_from_slice(&MAGIC);
        bytes.extend_from_slice(&(self.entries.len() as u32).to_le_bytes());
        for (id, failures) in &self.entries {
            bytes.extend_from_slice(&id.0.to_le_bytes());
            bytes.extend_from_slice(&failures.count.to_le_bytes());
            bytes.extend_from_slice(&failures.checks.to_le_bytes());
            bytes.extend_from_slice(&failures.since.as_millis().to_le_bytes());
            bytes.extend_from_slice(&failures.until.as_millis().to_le_bytes());
        }
        bytes
    }

    /// Reads a value of shared data; `None` if that is not one of ours.
    #[must_use]
    pub fn decode(bytes: &[u8]) -> Option<Self> {
        let (magic, rest) = bytes.split_first_chunk::<4>()?;
        let (length, rest) = rest.split_first_chunk::<4>()?;
        let chunks = rest.chunks_exact(ENTRY);
        if *magic != MAGIC || chunks.len() != u32::from_le_bytes(*length) as usize || !chunks.remainder().is_empty() {
            return None;
        }
        let mut entries = Vec::with_capacity(chunks.len());
        for chunk in chunks {
            let (id, chunk) = chunk.split_first_chunk::<4>()?;
            let (count, chunk) = chunk.split_first_chunk::<4>()?;
            let (checks, chunk) = chunk.split_first_chunk::<4>()?;
            let (since, chunk) = chunk.split_first_chunk::<8>()?;
            let (until, _) = chunk.split_first_chunk::<8>()?;
            let failures = Failures {
                count: u32::from_le_bytes(*count),
                checks: u32::from_le_bytes(*checks),
                since: Timestamp::from_millis(u64::from_le_bytes(*since)),
                until: Timestamp::from_millis(u64::from_le_bytes(*until)),
            };
            entries.push((PeerId(u32::from_le_bytes(*id)), failures));
        }
        entries.is_sorted_by(|(a, _), (b, _)| a < b).then_some(Self { entries })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::test;

    fn at(seconds: u64) -> Timestamp {
        Timestamp::from_millis(1_700_000_000_000 + seconds * 1_000)
    }

    #[test]
    fn health_survives_shared_data() {
        let mut health = FailureTable::default();
        for id in [7, 1, 300] {
            health.set(PeerId(id), Failures { count: id, checks: 1, since: at(1), until: at(2) });
        }
        assert_eq!(FailureTable::decode(&health.encode()), Some(health.clone()));
        health.set(PeerId(7), Failures::default());
        assert_eq!(health.iter().map(|(id, _)| id.0).collect::<Vec<_>>(), [1, 300]);
        assert_eq!(health.of(PeerId(7)), Failures::default());
    }

    #[test]
    fn foreign_bytes_are_refused() {
        let mut health = FailureTable::default();
        health.set(PeerId(1), Failures { count: 1, checks: 0, since: at(1), until: at(2) });
        let good = health.encode();
        for cut in 0..good.len() {
            assert_eq!(FailureTable::decode(&good[..cut]), None);
        }
        let mut long = good.clone();
        long.push(0);
        assert_eq!(FailureTable::decode(&long), None);
        let mut twice = good.clone();
        twice[4] = 2;
        twice.extend_from_slice(&good[8..]);
        assert_eq!(FailureTable::decode(&twice), None, "one id twice");
    }
}

//! Shared data: values under keys, with compare-and-swap.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::personality::{CasOfMissing, Keys, SharedFacts, ZeroCas};
use crate::rng::Rng;
use crate::status::Status;

/// How long after a write a read on another worker may still copy while the value changes.
const TEARS_FOR: Duration = Duration::from_micros(20);

#[derive(Clone, Debug)]
struct Value {
    key: Vec<u8>,
    value: Vec<u8>,
    cas: u32,
    /// What was there before, and until when a read may see parts of it.
    torn: Option<(Vec<u8>, Duration)>,
}

/// What all VMs with the same `vm_id`, or of one zone, share.
#[derive(Clone, Debug, Default)]
pub(crate) struct SharedData {
    values: BTreeMap<Vec<u8>, Value>,
    last: u32,
    bytes: usize,
}

/// What a write came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Written {
    Status(Status),
    /// The value changed its length.
    OtherLength,
    /// There was no room.
    Full,
}

/// CRC-32 as in zlib and nginx.
fn crc32(bytes: &[u8]) -> u32 {
    let mut crc = u32::MAX;
    for byte in bytes {
        crc ^= u32::from(*byte);
        for _ in 0..8 {
            crc = (crc >> 1) ^ (0xedb8_8320 & (crc & 1).wrapping_neg());
        }
    }
    !crc
}

fn identity(keys: Keys, key: &[u8]) -> Vec<u8> {
    match keys {
        Keys::Whole => key.to_vec(),
        Keys::Crc32 => crc32(key).to_be_bytes().to_vec(),
    }
}

impl SharedData {
    /// A value with its number.
    pub(crate) fn get(&self, facts: &SharedFacts, key: &[u8], now: Duration, rng: &mut Rng) -> Option<(Vec<u8>, u32)> {
        let found = self.values.get(&identity(facts.keys, key))?;
        let mut value = found.value.clone();
        if let Some((old, _)) = found.torn.as_ref().filter(|(_, until)| facts.torn_reads && now <= *until) {
            if rng.one_in(2) {
                let at = usize::try_from(rng.below(u64::try_from(value.len()).unwrap_or_default())).unwrap_or_default();
                for (new, old) in value.iter_mut().zip(old).skip(at) {
                    *new = *old;
                }
            }
        }
        Some((value, found.cas))
    }

    /// Writes a value.
    pub(crate) fn set(&mut self, facts: &SharedFacts, key: &[u8], value: &[u8], cas: u32, now: Duration) -> Written {
        let identity = identity(facts.keys, key);
        let found = self.values.get(&identity);
        let refused = match (found, cas) {
            (Some(_), 0) => facts.zero_cas == ZeroCas::OnlyIfAbsent,
            (Some(found), cas) => found.cas != cas,
            (None, 0) => false,
            (None, _) => facts.cas_of_missing == CasOfMissing::Mismatch,
        };
        if refused {
            return Written::Status(Status::CasMismatch);
        }
        let other_length = found.is_some_and(|found| found.value.len() != value.len());
        let freed = found.map_or(0, |found| found.key.len() + found.value.len());
        let bytes = self.bytes + key.len() + value.len() - freed;
        if facts.capacity.is_some_and(|capacity| bytes > capacity) {
            return Written::Full;
        }
        self.bytes = bytes;
        self.last = self.last.wrapping_add(1).max(1);
        let torn = found.map(|found| (found.value.clone(), now + TEARS_FOR));
        let stored = Value { key: key.to_vec(), value: value.to_vec(), cas: self.last, torn };
        self.values.insert(identity, stored);
        if other_length {
            Written::OtherLength
        } else {
            Written::Status(Status::Ok)
        }
    }

    /// All keys with their values, by key.
    pub(crate) fn dump(&self) -> BTreeMap<Vec<u8>, Vec<u8>> {
        self.values.values().map(|value| (value.key.clone(), value.value.clone())).collect()
    }

    /// How many bytes keys and values have.
    pub(crate) const fn bytes(&self) -> usize {
        self.bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::personality::{ENVOY, NGINX};

    const ZERO: Duration = Duration::ZERO;
    const OK: Written = Written::Status(Status::Ok);
    const MISMATCH: Written = Written::Status(Status::CasMismatch);

    #[test]
    fn envoy_ignores_the_number_where_the_key_is_missing_and_without_one_it_writes_always() {
        let (facts, mut data) = (&ENVOY.shared, SharedData::default());
        assert_eq!(data.set(facts, b"k", b"1", u32::MAX, ZERO), OK);
        assert_eq!(data.set(facts, b"k", b"2", u32::MAX, ZERO), MISMATCH);
        assert_eq!(data.set(facts, b"k", b"33", 0, ZERO), Written::OtherLength);
        let (value, cas) = data.get(facts, b"k", ZERO, &mut Rng::new(1)).unwrap();
        assert_eq!(value, b"33");
        assert_eq!(data.set(facts, b"k", b"44", cas, ZERO), OK);
        assert_eq!(data.set(facts, b"k", b"55", cas, ZERO), MISMATCH);
    }

    #[test]
    fn nginx_writes_without_a_number_only_if_absent_and_with_one_only_if_present() {
        let (facts, mut data) = (&NGINX.shared, SharedData::default());
        assert_eq!(data.set(facts, b"k", b"1", u32::MAX, ZERO), MISMATCH);
        assert_eq!(data.set(facts, b"k", b"1", 0, ZERO), OK);
        assert_eq!(data.set(facts, b"k", b"2", 0, ZERO), MISMATCH);
        let (_, cas) = data.get(facts, b"k", ZERO, &mut Rng::new(1)).unwrap();
        assert_eq!(data.set(facts, b"k", b"2", cas, ZERO), OK);
    }

    #[test]
    fn nginx_tells_keys_apart_by_their_crc32_alone() {
        // The best known pair of words with the same CRC32.
        let (one, other) = (b"plumless".as_slice(), b"buckeroo".as_slice());
        assert_eq!(crc32(b"123456789"), 0xcbf4_3926);
        assert_eq!(crc32(one), crc32(other));
        for (facts, same) in [(&NGINX.shared, true), (&ENVOY.shared, false)] {
            let mut data = SharedData::default();
            data.set(facts, one, b"1", 0, ZERO);
            assert_eq!(data.get(facts, other, ZERO, &mut Rng::new(1)).is_some(), same);
        }
    }

    #[test]
    fn nginx_tears_reads_while_a_value_changes_and_envoy_never() {
        for (facts, tears) in [(&NGINX.shared, true), (&ENVOY.shared, false)] {
            let (mut data, mut rng) = (SharedData::default(), Rng::new(4));
            data.set(facts, b"k", &[1; 64], 0, ZERO);
            let (_, cas) = data.get(facts, b"k", ZERO, &mut rng).unwrap();
            data.set(facts, b"k", &[2; 64], cas, ZERO);
            let mut read = |now| data.get(facts, b"k", now, &mut rng).unwrap().0;
            let torn = (0..100).filter(|_| read(ZERO) != [2; 64]).count();
            assert_eq!(torn > 0, tears);
            assert!((0..100).all(|_| read(Duration::from_millis(1)) == [2; 64]), "only while it changes");
        }
    }

    #[test]
    fn a_zone_gets_full_and_a_process_does_not() {
        let big = vec![0; 5 << 20];
        for (facts, last) in [(&NGINX.shared, Written::Full), (&ENVOY.shared, OK)] {
            let mut data = SharedData::default();
            assert_eq!(data.set(facts, b"a", &big, 0, ZERO), OK);
            assert_eq!(data.set(facts, b"b", &big, 0, ZERO), last);
        }
    }
}

//! Shared data: values under keys, with compare-and-swap.

use std::collections::BTreeMap;

use crate::personality::{CasOfMissing, Keys, SharedFacts, ZeroCas};
use crate::rng::Rng;
use crate::status::Status;

/// What a read found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Found {
    pub(crate) value: Vec<u8>,
    pub(crate) cas: u32,
    /// Whether the value got another length while it was copied.
    pub(crate) is_other_length: bool,
}

#[derive(Clone, Debug)]
struct Value {
    key: Vec<u8>,
    value: Vec<u8>,
    cas: u32,
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
    /// There was no room.
    Full,
    /// There was no room for a value that was there, and shorter.
    Grows,
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
    pub(crate) fn get(&self, facts: &SharedFacts, key: &[u8]) -> Option<Found> {
        let found = self.values.get(&identity(facts.keys, key))?;
        Some(Found { value: found.value.clone(), cas: found.cas, is_other_length: false })
    }

    /// What a read comes to that looked up this number and this length, and copies now: whoever wrote since wrote over what it copies.
    pub(crate) fn copied(&self, facts: &SharedFacts, key: &[u8], begun: Found, rng: &mut Rng) -> Found {
        let Some(found) = self.values.get(&identity(facts.keys, key)).filter(|found| found.cas != begun.cas) else {
            return begun;
        };
        let Found { mut value, cas, .. } = begun;
        let length = u64::try_from(value.len()).unwrap_or_default();
        let at = usize::try_from(rng.below(length.saturating_add(1))).unwrap_or_default();
        for (old, new) in value.iter_mut().zip(&found.value).skip(at) {
            *old = *new;
        }
        let is_other_length = value.len() != found.value.len();
        Found { value, cas, is_other_length }
    }

    /// Writes a value.
    pub(crate) fn set(&mut self, facts: &SharedFacts, key: &[u8], value: &[u8], cas: u32) -> Written {
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
        let freed = found.map_or(0, |found| found.key.len() + found.value.len());
        let bytes = self.bytes + key.len() + value.len() - freed;
        if facts.capacity.is_some_and(|capacity| bytes > capacity) {
            return if found.is_some() { Written::Grows } else { Written::Full };
        }
        self.bytes = bytes;
        self.last = self.last.wrapping_add(1).max(1);
        let stored = Value { key: key.to_vec(), value: value.to_vec(), cas: self.last };
        self.values.insert(identity, stored);
        Written::Status(Status::Ok)
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

    const OK: Written = Written::Status(Status::Ok);
    const MISMATCH: Written = Written::Status(Status::CasMismatch);

    #[test]
    fn envoy_ignores_the_number_where_the_key_is_missing_and_without_one_it_writes_always() {
        let (facts, mut data) = (&ENVOY.shared, SharedData::default());
        assert_eq!(data.set(facts, b"k", b"1", u32::MAX), OK);
        assert_eq!(data.set(facts, b"k", b"2", u32::MAX), MISMATCH);
        assert_eq!(data.set(facts, b"k", b"33", 0), OK);
        let Found { value, cas, .. } = data.get(facts, b"k").unwrap();
        assert_eq!(value, b"33");
        assert_eq!(data.set(facts, b"k", b"44", cas), OK);
        assert_eq!(data.set(facts, b"k", b"55", cas), MISMATCH);
    }

    #[test]
    fn nginx_writes_without_a_number_only_if_absent_and_with_one_only_if_present() {
        let (facts, mut data) = (&NGINX.shared, SharedData::default());
        assert_eq!(data.set(facts, b"k", b"1", u32::MAX), MISMATCH);
        assert_eq!(data.set(facts, b"k", b"1", 0), OK);
        assert_eq!(data.set(facts, b"k", b"2", 0), MISMATCH);
        let Found { cas, .. } = data.get(facts, b"k").unwrap();
        assert_eq!(data.set(facts, b"k", b"2", cas), OK);
    }

    #[test]
    fn nginx_tells_keys_apart_by_their_crc32_alone() {
        // The best known pair of words with the same CRC32.
        let (one, other) = (b"plumless".as_slice(), b"buckeroo".as_slice());
        assert_eq!(crc32(b"123456789"), 0xcbf4_3926);
        assert_eq!(crc32(one), crc32(other));
        for (facts, same) in [(&NGINX.shared, true), (&ENVOY.shared, false)] {
            let mut data = SharedData::default();
            data.set(facts, one, b"1", 0);
            assert_eq!(data.get(facts, other).is_some(), same);
        }
    }

    #[test]
    fn a_read_that_was_begun_before_a_write_is_of_both_values_under_the_older_number() {
        let (facts, mut rng) = (&NGINX.shared, Rng::new(4));
        for length in [2_000, 4_000, 8_000] {
            let mut mixed = 0;
            for _ in 0..100 {
                let mut data = SharedData::default();
                data.set(facts, b"k", &[1; 4_000], 0);
                let begun = data.get(facts, b"k").unwrap();
                assert_eq!(data.copied(facts, b"k", begun.clone(), &mut rng), begun, "nobody wrote");
                assert_eq!(data.set(facts, b"k", &vec![2; length], begun.cas), OK);
                let read = data.copied(facts, b"k", begun, &mut rng);
                assert_eq!((read.value.len(), read.cas, read.is_other_length), (4_000, 1, length != 4_000));
                mixed += usize::from(read.value.contains(&1) && read.value.contains(&2));
                let later = data.get(facts, b"k").unwrap();
                assert_eq!((later.value, later.cas), (vec![2; length], 2));
            }
            assert!(mixed > 30, "{mixed} of 100");
        }
    }

    #[test]
    fn a_zone_gets_full_and_a_process_does_not() {
        let big = vec![0; 5 << 20];
        for (facts, last) in [(&NGINX.shared, Written::Full), (&ENVOY.shared, OK)] {
            let mut data = SharedData::default();
            assert_eq!(data.set(facts, b"a", &big, 0), OK);
            assert_eq!(data.set(facts, b"b", &big, 0), last);
        }
    }
}

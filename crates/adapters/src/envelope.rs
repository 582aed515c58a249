//! What a value is wrapped in where shared data does not keep values whole.
//!
//! nginx copies a value after it has let go of the lock, so that a reader may get the beginning of one write and the end of another;
//! and it tells keys apart by a checksum of 32 bits. So a value carries its key, its length and a checksum over both.
//!
//! It is padded to a power of two, and never becomes shorter: a value whose length changes is moved by nginx, which is the moment at
//! which a reader may be handed somebody else's bytes.

use xxhash_rust::xxh64::xxh64;

/// The checksum, the key's length, the value's length.
const HEAD: usize = 8 + 2 + 4;
/// No envelope is smaller.
const SMALLEST: usize = 64;

/// What is in an envelope.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Content<'e> {
    pub(crate) key: &'e [u8],
    pub(crate) value: &'e [u8],
}

/// Wraps a value, in at least so many bytes. `None` for a key or a value that no envelope holds.
pub(crate) fn seal(key: &str, value: &[u8], least: usize) -> Option<Vec<u8>> {
    let key = key.as_bytes();
    let (key_length, value_length) = (u16::try_from(key.len()).ok()?, u32::try_from(value.len()).ok()?);
    let length = HEAD.checked_add(key.len())?.checked_add(value.len())?;
    let length = length.max(SMALLEST).checked_next_power_of_two()?.max(least);
    let mut envelope = Vec::with_capacity(length);
    envelope.extend_from_slice(&checksum(key, value).to_le_bytes());
    envelope.extend_from_slice(&key_length.to_le_bytes());
    envelope.extend_from_slice(&value_length.to_le_bytes());
    envelope.extend_from_slice(key);
    envelope.extend_from_slice(value);
    envelope.resize(length, 0);
    Some(envelope)
}

/// What is in an envelope; `None` if it is not as it was sealed.
pub(crate) fn open(envelope: &[u8]) -> Option<Content<'_>> {
    let (sum, rest) = envelope.split_first_chunk()?;
    let (key_length, rest) = rest.split_first_chunk()?;
    let (value_length, rest) = rest.split_first_chunk()?;
    let (key, rest) = rest.split_at_checked(usize::from(u16::from_le_bytes(*key_length)))?;
    let value = rest.get(..usize::try_from(u32::from_le_bytes(*value_length)).ok()?)?;
    (checksum(key, value) == u64::from_le_bytes(*sum)).then_some(Content { key, value })
}

fn checksum(key: &[u8], value: &[u8]) -> u64 {
    xxh64(value, xxh64(key, 0))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn random(seed: &mut u64) -> usize {
        *seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (*seed >> 33) as usize
    }

    #[test]
    fn what_was_sealed_is_found_again_whatever_it_is() {
        let mut seed = 1;
        for _ in 0..2_000 {
            let value: Vec<u8> = (0..random(&mut seed) % 5_000).map(|_| random(&mut seed) as u8).collect();
            let key = "k".repeat(random(&mut seed) % 300);
            let least = random(&mut seed) % 10_000;
            let envelope = seal(&key, &value, least).unwrap();
            assert!(envelope.len() >= least.max(SMALLEST));
            assert!(envelope.len() == least || envelope.len().is_power_of_two(), "{}", envelope.len());
            assert_eq!(open(&envelope), Some(Content { key: key.as_bytes(), value: &value }));
        }
        assert_eq!(seal(&"k".repeat(70_000), b"", 0), None);
    }

    #[test]
    fn a_torn_envelope_is_never_taken_for_a_whole_one() {
        let mut seed = 2;
        for _ in 0..20_000 {
            let mut make = || -> Vec<u8> {
                let value: Vec<u8> = (0..random(&mut seed) % 400).map(|_| random(&mut seed) as u8).collect();
                seal("durpina/7/upstream/u", &value, 512).unwrap()
            };
            let (before, after) = (make(), make());
            // Copied from the beginning or in words, with the writer anywhere.
            let (from, to) = (random(&mut seed) % 512, random(&mut seed) % 513);
            let mut torn = before.clone();
            if from < to {
                torn[from..to].copy_from_slice(&after[from..to]);
            }
            let found = open(&torn).map(|content| content.value.to_vec());
            let whole = [&before, &after].map(|envelope| open(envelope).unwrap().value.to_vec());
            assert!(found.is_none() || whole.contains(&found.unwrap()));
        }
    }

    #[test]
    fn anything_else_is_no_envelope() {
        let whole = seal("key", b"value", 0).unwrap();
        for cut in 0..HEAD + 8 {
            assert_eq!(open(&whole[..cut]), None, "{cut} bytes");
        }
        for at in 0..HEAD + 8 {
            let mut other = whole.clone();
            other[at] ^= 1;
            assert_eq!(open(&other), None, "byte {at}");
        }
        assert_eq!(open(&[0; 64]), None);
        assert_eq!(open(&[0xff; 64]), None);
    }
}

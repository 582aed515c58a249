//! How values are written to shared data: in [postcard](https://postcard.jamesmunns.com)'s format, all but the failure table.

use serde::de::DeserializeOwned;
use serde::Serialize;

/// The bytes of a value.
pub(crate) fn encode<T: Serialize>(value: &T) -> Vec<u8> {
    // Numbers, texts and lists can always be written; an empty value would be refused by `decode`.
    postcard::to_allocvec(value).unwrap_or_default()
}

/// The value of bytes; `None` if they are not one of these, or if some are left over.
pub(crate) fn decode<T: DeserializeOwned>(bytes: &[u8]) -> Option<T> {
    let (value, rest) = postcard::take_from_bytes(bytes).ok()?;
    rest.is_empty().then_some(value)
}

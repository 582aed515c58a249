//! A door for the fuzzer (`fuzz/`) to what reads bytes of others and is not public: with the feature `fuzzing` alone.

use crate::checks;
use crate::model::codec;
use crate::model::counters::Counters;
use crate::model::failure_table::FailureTable;
use crate::model::index::Index;
use crate::model::log_budget::LogBudget;
use crate::model::obstacle::Obstacles;
use crate::model::status::Status;
use crate::model::upstream::Record;
use crate::model::upstream_state::ToldState;

/// Reads bytes as an answer of a name server to one question, about IPv4 and about IPv6. Returns whether it was one.
#[must_use]
pub fn dns(bytes: &[u8]) -> bool {
    checks::read_dns(bytes)
}

/// How many kinds of stored values [`stored`] knows.
pub const KINDS: u8 = 8;

/// Reads bytes as a stored value of a kind. What is read and written again has to be the same when it is read once more. Returns
/// whether it is, and whether the bytes were such a value; both for all numbers from [`KINDS`] on.
#[must_use]
pub fn stored(kind: u8, bytes: &[u8]) -> (bool, bool) {
    match kind {
        0 => again(bytes, Record::decode, Record::encode),
        1 => again(bytes, Status::decode, Status::encode),
        // Times beyond all that a clock says are read as the last one that can be told.
        2 => match FailureTable::decode(bytes) {
            None => (true, false),
            Some(table) => (again(&table.encode(), FailureTable::decode, FailureTable::encode).0, true),
        },
        3 => again(bytes, codec::decode::<Index>, codec::encode),
        4 => again(bytes, codec::decode::<Counters>, codec::encode),
        5 => again(bytes, codec::decode::<ToldState>, codec::encode),
        6 => again(bytes, |bytes| Some(LogBudget::decode(bytes)), |budget| budget.encode()),
        7 => {
            let obstacles = Obstacles::decode(bytes.to_vec());
            let _ = obstacles.of(None);
            (obstacles.encode() == bytes, true)
        }
        _ => (true, true),
    }
}

fn again<T: PartialEq>(bytes: &[u8], decode: fn(&[u8]) -> Option<T>, encode: fn(&T) -> Vec<u8>) -> (bool, bool) {
    match decode(bytes) {
        None => (true, false),
        Some(value) => (decode(&encode(&value)).is_some_and(|read| read == value), true),
    }
}

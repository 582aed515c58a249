//! Shared data on nginx: `shm_kv`.
//!
//! - Values are in [envelopes](crate::envelope), and read again when they were torn.
//! - Two keys may be one to nginx. The second one gets another name, as often as it takes.
//! - A write without a compare-and-swap number means "only if there is nothing", which is just what [`Expect::Nothing`] is.
//! - Where there is no `shm_kv`, touching it ends this VM, and nobody can ask first. So it is touched at a tick, when no client waits, and
//!   what is about to be tried is noted in a gauge, which outlives the VM: the next one finds the note of an attempt that was not
//!   survived, and does not repeat it for a while. Another gauge says that it was there; a request of a new VM may go by that.
//! - A new value for which there is no room ends the VM too. Its size is noted beforehand. What was not survived is repeated by nobody,
//!   with that size or a larger one, until nginx makes another zone at a reload: none ever has more room than it had.

use std::cell::Cell;
use std::time::Duration;

use durpina_host::{Expect, HostError, Stored, Timestamp};

use crate::abi::{Abi, Status};
use crate::envelope;

/// How often a torn value is read again. A writer takes less than a microsecond.
const READS: usize = 1_000;
/// How many other names a key may get.
const NAMES: usize = 4;
/// A note that is as young as this may be of an attempt that goes well in another worker.
const FRESH: Duration = Duration::from_millis(20);
/// After that long it is tried again, at a tick, whether there is shared data.
const AGAIN: Duration = Duration::from_secs(5);
/// The key that tells a zone from its successor.
const MARK: &str = "durpina";
/// The bits of a note that hold the size of what was tried, as its logarithm.
const SIZE_BITS: u32 = 6;

pub(crate) const NONE: HostError = HostError::Lacking("nginx has no shared data: is there a shm_kv in its wasm block?");

/// The shared data of one nginx.
pub(crate) struct Zone {
    notes: Cell<Option<Notes>>,
    /// It is there.
    is_there: Cell<bool>,
}

/// The gauges of what one VM tells the next one.
#[derive(Clone, Copy)]
struct Notes {
    /// When it was tried whether there is shared data.
    touching: u32,
    /// Whether there was some.
    there: u32,
    /// When something was written that needs room, and how much.
    growing: u32,
}

/// What lies under a key.
enum Found {
    /// Nothing, and this is the name to write it under.
    Nothing(String),
    /// A value, under this name, with this number, in so many bytes.
    Value { name: String, value: Vec<u8>, cas: u32, length: usize },
    /// Something that is no value and that nobody is writing.
    Ruin { name: String, cas: u32, length: usize },
}

impl Zone {
    pub(crate) const fn new() -> Self {
        Self { notes: Cell::new(None), is_there: Cell::new(false) }
    }

    /// To be called while a configuration is read: later is too late on nginx.
    pub(crate) fn define(&self, abi: &impl Abi) {
        if let (Ok(touching), Ok(there), Ok(growing)) =
            (abi.define_gauge("touching"), abi.define_gauge("there"), abi.define_gauge("growing"))
        {
            self.notes.set(Some(Notes { touching, there, growing }));
        }
    }

    /// Whether shared data may be touched. `at_tick` says that nobody is waiting.
    pub(crate) fn may_touch(&self, abi: &impl Abi, now: impl FnOnce() -> Timestamp, at_tick: bool) -> bool {
        if self.is_there.get() {
            return true;
        }
        let Some(Notes { touching, there, growing }) = self.notes.get() else { return false };
        let now = now();
        let may = match age(abi, touching, now) {
            None => at_tick || abi.metric(there).is_ok_and(|there| there > 0),
            Some(age) => at_tick && !(FRESH..AGAIN).contains(&age),
        };
        if may {
            note(abi, touching, now);
            let is_new = matches!(abi.shared_data(MARK), Ok(None));
            let _ = abi.set_metric(touching, 0);
            let _ = abi.set_metric(there, 1);
            self.is_there.set(true);
            if is_new && at_tick {
                let _ = abi.set_metric(growing, 0);
                let _ = abi.set_shared_data(MARK, b"1", 0);
            }
        }
        may
    }

    fn find(&self, abi: &impl Abi, key: &str) -> Result<Found, HostError> {
        let mut name = key.to_owned();
        for _ in 0..NAMES {
            match read_whole(abi, &name)? {
                None => return Ok(Found::Nothing(name)),
                Some(Whole { value: None, cas, length }) => return Ok(Found::Ruin { name, cas, length }),
                Some(Whole { value: Some((owner, value)), cas, length }) if owner == key.as_bytes() => {
                    return Ok(Found::Value { name, value, cas, length })
                }
                Some(_) => name.push('\''),
            }
        }
        Err(HostError::Lacking("four keys of shared data are one to nginx, which does not happen by chance"))
    }

    pub(crate) fn read(
        &self,
        abi: &impl Abi,
        key: &str,
        now: impl FnOnce() -> Timestamp,
    ) -> Result<Option<Stored>, HostError> {
        if !self.may_touch(abi, now, false) {
            return Err(NONE);
        }
        Ok(match self.find(abi, key)? {
            Found::Value { value, cas, .. } => Some(Stored { value, cas }),
            Found::Nothing(_) | Found::Ruin { .. } => None,
        })
    }

    pub(crate) fn write(
        &self,
        abi: &impl Abi,
        key: &str,
        value: &[u8],
        expect: Expect,
        now: impl Fn() -> Timestamp,
    ) -> Result<(), HostError> {
        if !self.may_touch(abi, &now, false) {
            return Err(NONE);
        }
        let (name, cas, length) = match (self.find(abi, key)?, expect) {
            (Found::Nothing(name), Expect::Nothing) => (name, 0, 0),
            (Found::Ruin { name, cas, length }, Expect::Nothing) => (name, cas, length),
            (Found::Value { name, cas, length, .. }, Expect::Cas(expected)) if cas == expected => (name, cas, length),
            _ => return Err(HostError::Conflict),
        };
        let sealed = envelope::seal(key, value, length).ok_or(HostError::Full)?;
        // The number that nginx never takes; it comes once in four thousand million writes to one key.
        if cas == u32::MAX {
            return Err(HostError::Full);
        }
        let Some(Notes { growing, .. }) = self.notes.get().filter(|_| sealed.len() > length) else {
            return set(abi, &name, &sealed, cas);
        };
        let (before, size, now) = (abi.metric(growing).unwrap_or_default(), sealed.len().ilog2(), now());
        let failed = Some(before).filter(|before| *before > 0 && older(before >> SIZE_BITS, now) >= FRESH);
        if failed.is_some_and(|failed| u64::from(size) >= failed & ((1 << SIZE_BITS) - 1)) {
            return Err(HostError::Full);
        }
        // An attempt that is as young as that may go well in another worker; or it did not, and is not made younger by this one.
        if before == 0 || failed.is_some() {
            let _ = abi.set_metric(growing, now.as_millis() << SIZE_BITS | u64::from(size));
        }
        let written = set(abi, &name, &sealed, cas);
        let _ = abi.set_metric(growing, failed.unwrap_or_default());
        written
    }
}

fn set(abi: &impl Abi, name: &str, sealed: &[u8], cas: u32) -> Result<(), HostError> {
    abi.set_shared_data(name, sealed, cas).map_err(|status| match status {
        Status::CAS_MISMATCH => HostError::Conflict,
        Status(status) => HostError::Status("set_shared_data", status),
    })
}

/// How long ago something was noted and not struck out.
fn age(abi: &impl Abi, id: u32, now: Timestamp) -> Option<Duration> {
    abi.metric(id).ok().filter(|at| *at > 0).map(|at| older(at, now))
}

/// How long ago that was, in milliseconds of the clock. What is in the future was noted before the clock was set.
fn older(at: u64, now: Timestamp) -> Duration {
    let at = Timestamp::from_millis(at);
    if at.since(now) > AGAIN {
        AGAIN
    } else {
        now.since(at)
    }
}

/// Notes that something is tried. A fresh note stays: an attempt that is repeated soon enough would be repeated for ever.
fn note(abi: &impl Abi, id: u32, now: Timestamp) {
    if age(abi, id, now).is_none_or(|age| age >= FRESH) {
        let _ = abi.set_metric(id, now.as_millis());
    }
}

/// What lies under a name: the key and its value, unless it is no envelope.
struct Whole {
    value: Option<(Vec<u8>, Vec<u8>)>,
    cas: u32,
    length: usize,
}

fn read_whole(abi: &impl Abi, name: &str) -> Result<Option<Whole>, HostError> {
    let status = |Status(status)| HostError::Status("get_shared_data", status);
    let mut before = None;
    for _ in 0..READS {
        let Some((bytes, cas)) = abi.shared_data(name).map_err(status)? else { return Ok(None) };
        let length = bytes.len();
        if let Some(content) = envelope::open(&bytes) {
            let value = Some((content.key.to_vec(), content.value.to_vec()));
            return Ok(Some(Whole { value, cas, length }));
        }
        // The number is read under the lock: where it is the same again, nobody wrote in between.
        if before == Some((cas, length)) {
            return Ok(Some(Whole { value: None, cas, length }));
        }
        before = Some((cas, length));
    }
    Err(HostError::Status("get_shared_data: torn", 0))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fake::Fake;

    const NOW: Timestamp = Timestamp::from_millis(1_700_000_000_000);

    fn zone() -> (Fake, Zone) {
        let (abi, zone) = (Fake::nginx(), Zone::new());
        zone.define(&abi);
        zone.may_touch(&abi, || NOW, true);
        (abi, zone)
    }

    fn value(zone: &Zone, abi: &Fake, key: &str) -> Option<(Vec<u8>, u32)> {
        zone.read(abi, key, || NOW).unwrap().map(|stored| (stored.value, stored.cas))
    }

    #[test]
    fn writes_are_compared_with_what_is_there() {
        let (abi, zone) = zone();
        let write = |value: &[u8], expect| zone.write(&abi, "k", value, expect, || NOW);
        assert_eq!(write(b"1", Expect::Cas(1)), Err(HostError::Conflict));
        write(b"1", Expect::Nothing).unwrap();
        assert_eq!(write(b"2", Expect::Nothing), Err(HostError::Conflict));
        let cas = value(&zone, &abi, "k").unwrap().1;
        assert_eq!(write(b"2", Expect::Cas(cas + 1)), Err(HostError::Conflict));
        write(b"2", Expect::Cas(cas)).unwrap();
        assert_eq!(value(&zone, &abi, "k"), Some((b"2".to_vec(), cas + 1)));
    }

    #[test]
    fn what_is_stored_never_becomes_shorter() {
        let (abi, zone) = zone();
        let mut cas = Expect::Nothing;
        let mut longest = 0;
        for length in [10, 1_000, 3, 5_000, 0, 4_999, 60] {
            zone.write(&abi, "k", &vec![7; length], cas, || NOW).unwrap();
            let stored = abi.data.borrow().get("k").unwrap().0.len();
            assert!(stored >= longest && stored.is_power_of_two(), "{stored} after {longest}");
            let (found, number) = value(&zone, &abi, "k").unwrap();
            assert_eq!(found.len(), length);
            (longest, cas) = (stored, Expect::Cas(number));
        }
    }

    #[test]
    fn a_torn_value_is_read_again() {
        let (abi, zone) = zone();
        zone.write(&abi, "k", b"whole", Expect::Nothing, || NOW).unwrap();
        for tears in [1, 2, 20] {
            abi.tears.set(tears);
            assert_eq!(value(&zone, &abi, "k").unwrap().0, b"whole", "{tears} times");
        }
    }

    #[test]
    fn what_is_no_value_is_nothing_and_can_be_written_over() {
        let (abi, zone) = zone();
        abi.data.borrow_mut().insert("k".to_owned(), (b"rubbish".to_vec(), 9));
        assert_eq!(value(&zone, &abi, "k"), None);
        zone.write(&abi, "k", b"new", Expect::Nothing, || NOW).unwrap();
        assert_eq!(value(&zone, &abi, "k"), Some((b"new".to_vec(), 10)));
    }

    #[test]
    fn keys_that_are_one_to_nginx_keep_apart() {
        let (abi, zone) = zone();
        abi.collides.borrow_mut().extend(["one".to_owned(), "two".to_owned()]);
        zone.write(&abi, "one", b"1", Expect::Nothing, || NOW).unwrap();
        assert_eq!(value(&zone, &abi, "two"), None);
        zone.write(&abi, "two", b"2", Expect::Nothing, || NOW).unwrap();
        assert_eq!(value(&zone, &abi, "one").unwrap().0, b"1");
        assert_eq!(value(&zone, &abi, "two").unwrap().0, b"2");
    }

    #[test]
    fn what_a_vm_did_not_survive_is_not_repeated_at_once() {
        let (abi, first) = zone();
        let Notes { touching, there, .. } = first.notes.get().unwrap();
        for (age, request, tick) in [(1, false, true), (50, false, false), (4_900, false, false), (5_001, false, true)]
        {
            let now = NOW.after(Duration::from_millis(age));
            for (at_tick, expected) in [(false, request), (true, tick)] {
                note(&abi, touching, NOW);
                let next = Zone::new();
                next.define(&abi);
                assert_eq!(next.may_touch(&abi, || now, at_tick), expected, "after {age} ms, {at_tick}");
                assert_eq!(next.read(&abi, "k", || now).is_ok(), expected);
            }
        }
        assert_eq!(age(&abi, touching, NOW), None, "it is struck out");
        abi.set_metric(there, 0).unwrap();
        assert_eq!(Zone::new().read(&abi, "k", || NOW), Err(NONE));
    }

    #[test]
    fn a_request_does_not_try_whether_there_is_shared_data() {
        let (abi, first) = (Fake::nginx(), Zone::new());
        first.define(&abi);
        assert_eq!(first.read(&abi, "k", || NOW), Err(NONE));
        assert!(first.may_touch(&abi, || NOW, true));
        let next = Zone::new();
        next.define(&abi);
        assert_eq!(next.read(&abi, "k", || NOW), Ok(None), "the one before it found some");
    }

    #[test]
    fn what_had_no_room_is_not_tried_again_in_that_zone() {
        let (abi, zone) = zone();
        let Notes { growing, .. } = zone.notes.get().unwrap();
        let (soon, later) = (NOW.after(Duration::from_millis(19)), NOW.after(Duration::from_secs(3_600)));
        let write = |key: &str, length, now| zone.write(&abi, key, &vec![7; length], Expect::Nothing, || now);
        // As a VM leaves it that ended while it wrote 1,024 bytes.
        let failed = NOW.as_millis() << SIZE_BITS | 10;
        abi.set_metric(growing, failed).unwrap();
        assert_eq!(write("soon", 2_000, soon), Ok(()), "that may be another worker, at this moment");
        abi.set_metric(growing, failed).unwrap();
        assert_eq!(write("large", 2_000, later), Err(HostError::Full));
        assert_eq!(write("same", 900, later), Err(HostError::Full));
        assert_eq!(write("small", 300, later), Ok(()));
        assert_eq!(write("large", 2_000, later), Err(HostError::Full), "still");
        assert_eq!(zone.write(&abi, "small", &[1; 400], Expect::Cas(1), || later), Ok(()), "it does not grow");
        // A reload makes a new zone.
        abi.data.borrow_mut().clear();
        let next = Zone::new();
        next.define(&abi);
        assert!(next.may_touch(&abi, || later, true));
        assert_eq!(next.write(&abi, "large", &[7; 2_000], Expect::Nothing, || later), Ok(()));
    }
}

//! What a monitor of one's own keeps for all workers: one value for each monitor of an upstream.
//!
//! Layout: the monitor's number (4 bytes, little endian), by which the value of an earlier monitor of the same id is told, and the
//! monitor's own bytes.

use crate::host::Expect;
use crate::model::error::Error;
use crate::model::spec::MonitorSpec;
use crate::store::{keys, Store};

/// The most bytes of a value: shared data has no limit of its own on every host.
pub(crate) const LONGEST_VALUE: usize = 65_536;

impl Store<'_> {
    /// The value; empty while there is none.
    pub(crate) fn script_value(&self, upstream: &str, monitor: &MonitorSpec) -> Result<Vec<u8>, Error> {
        let stored = self.host().read(&keys::script(upstream, &monitor.id))?;
        Ok(stored.and_then(|stored| own(monitor, &stored.value).map(<[u8]>::to_vec)).unwrap_or_default())
    }

    /// Changes the value. `change` is asked again if somebody else was faster.
    pub(crate) fn update_script_value(
        &self,
        upstream: &str,
        monitor: &MonitorSpec,
        change: &mut dyn FnMut(&mut Vec<u8>),
    ) -> Result<(), Error> {
        let key = keys::script(upstream, &monitor.id);
        self.retry(&mut || {
            let stored = self.host().read(&key)?;
            let expect = stored.as_ref().map_or(Expect::Nothing, |stored| Expect::Cas(stored.cas));
            let known = stored.as_ref().and_then(|stored| own(monitor, &stored.value));
            let mut value = known.unwrap_or_default().to_vec();
            change(&mut value);
            if value.len() > LONGEST_VALUE {
                let most = format!("a monitor's shared value has {LONGEST_VALUE} bytes at most, found {}", value.len());
                return Err(Error::Invalid(most));
            }
            if known != Some(value.as_slice()) {
                let bytes = [monitor.number.to_le_bytes().as_slice(), &value].concat();
                self.host().write(&key, &bytes, expect)?;
            }
            Ok(())
        })
    }
}

fn own<'v>(monitor: &MonitorSpec, value: &'v [u8]) -> Option<&'v [u8]> {
    let (number, own) = value.split_first_chunk()?;
    (u32::from_le_bytes(*number) == monitor.number).then_some(own)
}

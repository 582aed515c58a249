//! A module in the middle of a host call: its memory, and what it is doing.

use std::cell::RefMut;

use wasmi::{AsContextMut, StoreContextMut};

use crate::core::{Core, VmFacts};
use crate::host::exchange::Exchange;
use crate::personality::Situation;
use crate::status::{Answer, Status, Stop};
use crate::vm::{Now, VmData, VmId};

/// The caller of a host call.
pub(crate) struct Guest<'a> {
    context: StoreContextMut<'a, VmData>,
}

impl<'a> Guest<'a> {
    pub(crate) const fn new(context: StoreContextMut<'a, VmData>) -> Self {
        Self { context }
    }

    /// What the whole process shares. Not to be held while the module is called.
    pub(crate) fn core(&self) -> RefMut<'_, Core> {
        self.context.data().core.borrow_mut()
    }

    pub(crate) fn vm(&self) -> VmId {
        self.context.data().vm
    }

    pub(crate) fn now(&self) -> Now {
        self.context.data().now
    }

    pub(crate) fn set_now(&mut self, now: Now) {
        self.context.data_mut().now = now;
    }

    /// What is known of this VM.
    pub(crate) fn facts(&self) -> Result<RefMut<'_, VmFacts>, Stop> {
        let vm = self.vm();
        RefMut::filter_map(self.core(), |core| core.vms.get_mut(&vm)).map_err(|_| gone())
    }

    /// The root context of the current context.
    pub(crate) fn root(&self) -> Result<u32, Stop> {
        let now = self.now();
        Ok(self.facts()?.streams.get(&now.context).map_or(now.context, |stream| stream.root))
    }

    /// The request of the current context, if it has one.
    pub(crate) fn exchange(&self) -> Option<RefMut<'_, Exchange>> {
        let request = self.now().request?;
        RefMut::filter_map(self.core(), |core| core.exchanges.get_mut(&request)).ok()
    }

    /// What this host does in a situation of which hosts differ: `None` if nothing special.
    pub(crate) fn rule(&self, situation: Situation) -> Result<Option<Status>, Stop> {
        self.core().personality.rule(situation)
    }

    /// Bytes of the module's memory.
    pub(crate) fn read(&self, at: u64, size: u64) -> Result<Vec<u8>, Stop> {
        let memory = self.context.data().memory.ok_or_else(gone)?;
        let (at, size) = (position(at), position(size));
        let found = at.checked_add(size).and_then(|end| memory.data(&self.context).get(at..end));
        found.map(<[u8]>::to_vec).ok_or_else(out_of_bounds)
    }

    /// A text in the module's memory.
    pub(crate) fn text(&self, at: u64, size: u64) -> Result<String, Stop> {
        Ok(String::from_utf8_lossy(&self.read(at, size)?).into_owned())
    }

    /// Writes to the module's memory.
    pub(crate) fn write(&mut self, at: u64, bytes: &[u8]) -> Result<(), Stop> {
        let memory = self.context.data().memory.ok_or_else(gone)?;
        memory.write(self.context.as_context_mut(), position(at), bytes).map_err(|_| out_of_bounds())
    }

    pub(crate) fn write_u32(&mut self, at: u64, number: u32) -> Answer {
        self.write(at, &number.to_le_bytes()).map(|()| Status::Ok)
    }

    pub(crate) fn write_u64(&mut self, at: u64, number: u64) -> Answer {
        self.write(at, &number.to_le_bytes()).map(|()| Status::Ok)
    }

    /// Hands bytes over to the module: in memory that its allocator gives, whose address and size go to these places.
    pub(crate) fn give(&mut self, bytes: &[u8], data: u64, size: u64) -> Answer {
        let count = u32::try_from(bytes.len()).map_err(|_| out_of_bounds())?;
        let mut address = 0;
        if count > 0 {
            let allocate = self.context.data().allocate.ok_or_else(|| {
                Stop::Trap("the module exports neither malloc nor proxy_on_memory_allocate".to_owned())
            })?;
            address = allocate
                .call(self.context.as_context_mut(), count)
                .map_err(|error| Stop::Trap(format!("the module's allocator trapped: {error}")))?;
            self.write(u64::from(address), bytes)?;
        }
        self.write_u32(data, address)?;
        self.write_u32(size, count)
    }

    /// Hands bytes over, or says that there are none.
    pub(crate) fn give_if(&mut self, bytes: Option<Vec<u8>>, data: u64, size: u64) -> Answer {
        match bytes {
            Some(bytes) => self.give(&bytes, data, size),
            None => Ok(Status::NotFound),
        }
    }
}

fn position(number: u64) -> usize {
    usize::try_from(number).unwrap_or(usize::MAX)
}

fn out_of_bounds() -> Stop {
    Stop::Trap("a host call names memory that the module does not have".to_owned())
}

fn gone() -> Stop {
    Stop::Trap("the VM is gone".to_owned())
}

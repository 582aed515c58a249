//! A VM: one instance of a module, whose callbacks can be stopped at a host call and resumed later.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;

use wasmi::{
    AsContextMut, Extern, Func, Instance, Linker, Memory, ResumableCall, ResumableCallHostTrap, Store, TypedFunc, Val,
};

use crate::abi::{self, Args, Import};
use crate::core::Core;
use crate::guest::Guest;
use crate::module::Module;
use crate::request::RequestId;
use crate::status::Stop;

/// Enough for anything but an endless loop.
const FUEL: u64 = 2_000_000_000;

/// A VM's number: never used again.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct VmId(pub(crate) u32);

/// What a VM is doing.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Now {
    pub(crate) callback: &'static str,
    pub(crate) context: u32,
    /// Whose headers and properties are asked for.
    pub(crate) request: Option<RequestId>,
    /// Whose reply is being told.
    pub(crate) call: Option<u32>,
}

/// What the host keeps with each VM.
pub(crate) struct VmData {
    pub(crate) core: Rc<RefCell<Core>>,
    pub(crate) vm: VmId,
    pub(crate) memory: Option<Memory>,
    pub(crate) allocate: Option<TypedFunc<u32, u32>>,
    pub(crate) now: Now,
    /// The host call that waits.
    pending: Option<(&'static Import, Args)>,
}

/// A running instance.
pub(crate) struct Vm {
    store: Store<VmData>,
    instance: Instance,
    functions: BTreeMap<&'static str, Option<Func>>,
}

/// How a callback went on.
pub(crate) enum Ran {
    /// It returned; a number if it has one.
    Returned(Option<u64>),
    /// The VM is of no use any more.
    Trapped(String),
    /// The host does not survive it.
    Crashed(String),
    /// It stands before a host call.
    Waits(Suspended),
}

/// A callback that stands before a host call.
pub(crate) struct Suspended {
    call: ResumableCallHostTrap,
    fuel: u64,
    returns: bool,
}

/// The host calls, for all VMs of a process.
pub(crate) fn linker(module: &Module) -> Result<Linker<VmData>, String> {
    let mut linker = Linker::new(&module.engine);
    for import in abi::imports() {
        let call = move |mut caller: wasmi::Caller<'_, VmData>, given: &[Val], results: &mut [Val]| {
            let mut args = Args::default();
            for (arg, value) in args.iter_mut().zip(given) {
                *arg = match value {
                    Val::I32(number) => u64::from(*number as u32),
                    Val::I64(number) => *number as u64,
                    _ => 0,
                };
            }
            let mut guest = Guest::new(caller.as_context_mut());
            let answer = before(&guest, import, &args).and_then(|()| (import.run)(&mut guest, &args));
            match answer {
                Ok(status) => {
                    if let Some(result) = results.first_mut() {
                        *result = Val::I32(import.number(status));
                    }
                    Ok(())
                }
                Err(stop) => {
                    if stop == Stop::Wait {
                        caller.data_mut().pending = Some((import, args));
                    }
                    Err(wasmi::Error::host(stop))
                }
            }
        };
        linker
            .func_new(import.module, import.name, import.signature(), call)
            .map_err(|error| format!("{}: {error}", import.name))?;
    }
    Ok(linker)
}

/// What the test and chance do at a host call.
fn before(guest: &Guest<'_>, import: &Import, &[about, size, ..]: &Args) -> Result<(), Stop> {
    let is_meant = guest.core().holds.next.as_ref().is_some_and(|hold| hold.call == import.name);
    if is_meant && holds(guest, about, size) {
        return Err(Stop::Wait);
    }
    if !import.yields {
        return Ok(());
    }
    let mut core = guest.core();
    let faults = core.faults;
    if core.may_fault && faults.trap > 0 && core.rng.one_in(faults.trap) {
        core.traps_made += 1;
        return Err(Stop::Trap("a fault of the simulation".to_owned()));
    }
    if core.may_wait && faults.preempt > 0 && core.rng.one_in(faults.preempt) {
        return Err(Stop::Wait);
    }
    Ok(())
}

/// Whether the call is held that is about these bytes.
fn holds(guest: &Guest<'_>, about: u64, size: u64) -> bool {
    let mut core = guest.core();
    if !core.may_wait {
        return false;
    }
    let Some(hold) = core.holds.next.take() else { return false };
    let is_met = hold.about.is_empty()
        || guest.read(about, size).is_ok_and(|bytes| bytes.windows(hold.about.len()).any(|part| part == hold.about));
    if is_met {
        let until = core.now() + hold.time;
        (core.holds.time, core.holds.until) = (Some(hold.time), Some(until));
    } else {
        core.holds.next = Some(hold);
    }
    is_met
}

impl Vm {
    /// An instance in which nothing has run yet.
    pub(crate) fn new(
        module: &Module,
        linker: &Linker<VmData>,
        core: &Rc<RefCell<Core>>,
        vm: VmId,
    ) -> Result<Self, String> {
        let data =
            VmData { core: Rc::clone(core), vm, memory: None, allocate: None, now: Now::default(), pending: None };
        let mut store = Store::new(&module.engine, data);
        store.set_fuel(FUEL).map_err(|error| error.to_string())?;
        let instance = linker.instantiate_and_start(&mut store, &module.module).map_err(|error| error.to_string())?;
        let memory = instance.get_export(&store, "memory").and_then(Extern::into_memory);
        let allocate = ["proxy_on_memory_allocate", "malloc"]
            .iter()
            .find_map(|name| instance.get_typed_func::<u32, u32>(&store, name).ok());
        store.data_mut().memory = memory;
        store.data_mut().allocate = allocate;
        Ok(Self { store, instance, functions: BTreeMap::new() })
    }

    fn function(&mut self, name: &'static str) -> Option<Func> {
        let (instance, store) = (&self.instance, &self.store);
        *self.functions.entry(name).or_insert_with(|| instance.get_func(store, name))
    }

    /// Whether the module has this callback.
    pub(crate) fn has(&mut self, name: &'static str) -> bool {
        self.function(name).is_some()
    }

    /// Calls a function of the module; `None` if it has none of the name. Arguments that it does not take are left out.
    pub(crate) fn call(&mut self, now: Now, args: &[u32]) -> Option<Ran> {
        let function = self.function(now.callback)?;
        let ty = function.ty(&self.store);
        let args: Vec<Val> = args.iter().take(ty.params().len()).map(|arg| Val::I32(*arg as i32)).collect();
        let returns = !ty.results().is_empty();
        self.store.data_mut().now = now;
        let _ = self.store.set_fuel(FUEL);
        let mut results = [Val::I32(0)];
        let outputs = results.get_mut(..usize::from(returns)).unwrap_or_default();
        let ran = function.call_resumable(&mut self.store, &args, outputs);
        let used = FUEL.saturating_sub(self.store.get_fuel().unwrap_or_default());
        Some(self.ran(ran, &results, returns, used))
    }

    /// Goes on with a callback that waited, by the host call that it stood before.
    pub(crate) fn resume(&mut self, suspended: Suspended) -> Ran {
        let Some((import, args)) = self.store.data_mut().pending.take() else {
            return Ran::Trapped("nothing waits".to_owned());
        };
        let _ = self.store.set_fuel(FUEL);
        let answer = (import.run)(&mut Guest::new(self.store.as_context_mut()), &args);
        let status = match answer {
            Ok(status) => status,
            Err(Stop::Wait) => {
                self.store.data_mut().pending = Some((import, args));
                return Ran::Waits(suspended);
            }
            Err(stop) => return self.stopped(stop),
        };
        let mut results = [Val::I32(0)];
        let outputs = results.get_mut(..usize::from(suspended.returns)).unwrap_or_default();
        let ran = suspended.call.resume(&mut self.store, &[Val::I32(import.number(status))], outputs);
        let used = FUEL.saturating_sub(self.store.get_fuel().unwrap_or_default());
        self.ran(ran, &results, suspended.returns, suspended.fuel + used)
    }

    fn ran(&mut self, ran: Result<ResumableCall, wasmi::Error>, results: &[Val], returns: bool, fuel: u64) -> Ran {
        match ran {
            Ok(ResumableCall::Finished) => {
                let data = self.store.data();
                data.core.borrow_mut().fuel.add(data.now.callback, fuel);
                let number = match results.first().filter(|_| returns) {
                    Some(Val::I32(number)) => Some(u64::from(*number as u32)),
                    Some(Val::I64(number)) => Some(*number as u64),
                    _ => None,
                };
                Ran::Returned(number)
            }
            Ok(ResumableCall::HostTrap(call)) => match call.host_error().downcast_ref::<Stop>().cloned() {
                Some(Stop::Wait) => Ran::Waits(Suspended { call, fuel, returns }),
                Some(stop) => self.stopped(stop),
                None => Ran::Trapped(call.host_error().to_string()),
            },
            Ok(ResumableCall::OutOfFuel(_)) => Ran::Trapped("an endless loop".to_owned()),
            Err(error) => Ran::Trapped(error.to_string()),
        }
    }

    fn stopped(&mut self, stop: Stop) -> Ran {
        self.store.data_mut().pending = None;
        match stop {
            Stop::Crash(why) => Ran::Crashed(why),
            other => Ran::Trapped(other.to_string()),
        }
    }
}

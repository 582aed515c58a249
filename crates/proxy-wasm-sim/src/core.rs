//! What all VMs of a simulated process share.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::rc::Rc;
use std::time::Duration;

use crate::faults::{Faults, Holds};
use crate::fuel::FuelTable;
use crate::host::call::Call;
use crate::host::events::{Event, Events};
use crate::host::exchange::Exchange;
use crate::host::metrics::Metrics;
use crate::host::queues::Queues;
use crate::host::shared_data::{Found, SharedData};
use crate::personality::Personality;
use crate::plugin::Plugin;
use crate::request::RequestId;
use crate::rng::Rng;
use crate::trace::{LogLine, Trace, Who};
use crate::vm::VmId;
use crate::wiring::Wiring;
use crate::world::World;

/// A root context.
#[derive(Clone, Debug)]
pub(crate) struct Root {
    pub(crate) plugin: Rc<Plugin>,
    /// Zero for none.
    pub(crate) period: Duration,
    pub(crate) timers: BTreeSet<u32>,
    /// Whether it was told to end, and the module has not agreed yet.
    pub(crate) is_ending: bool,
}

/// A context of a request.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Stream {
    pub(crate) root: u32,
    pub(crate) request: RequestId,
}

/// What the host knows of a VM.
#[derive(Clone, Debug)]
pub(crate) struct VmFacts {
    /// `None` for one that only tries a configuration.
    pub(crate) worker: Option<usize>,
    /// Which shared data it sees.
    pub(crate) zone: usize,
    pub(crate) roots: BTreeMap<u32, Root>,
    pub(crate) streams: BTreeMap<u32, Stream>,
    pub(crate) next_context: u32,
    /// Calls of root contexts that are under way, and slots that were lost, for hosts that have slots.
    pub(crate) lost_slots: u32,
    /// What a read looked up that has not copied it yet.
    pub(crate) reading: Option<Found>,
}

/// The process around the VMs.
pub(crate) struct Core {
    pub(crate) personality: &'static Personality,
    pub(crate) rng: Rng,
    pub(crate) events: Events,
    pub(crate) trace: Trace,
    pub(crate) logs: Vec<LogLine>,
    pub(crate) log_level: u32,
    /// One for each generation of workers that share it.
    pub(crate) zones: Vec<SharedData>,
    pub(crate) metrics: Metrics,
    pub(crate) queues: Queues,
    pub(crate) world: World,
    pub(crate) wiring: Rc<dyn Wiring>,
    pub(crate) vms: BTreeMap<VmId, VmFacts>,
    pub(crate) exchanges: BTreeMap<RequestId, Exchange>,
    pub(crate) calls: BTreeMap<u32, Call>,
    pub(crate) next_call: u32,
    pub(crate) next_timer: u32,
    pub(crate) faults: Faults,
    pub(crate) holds: Holds,
    /// Whether what runs now may be stopped at a host call.
    pub(crate) may_wait: bool,
    pub(crate) may_fault: bool,
    /// How many traps chance made.
    pub(crate) traps_made: u64,
    pub(crate) fuel: FuelTable,
}

impl Core {
    pub(crate) fn new(personality: &'static Personality, seed: u64, wiring: Rc<dyn Wiring>) -> Self {
        Self {
            personality,
            rng: Rng::new(seed),
            events: Events::default(),
            trace: Trace::default(),
            logs: Vec::new(),
            log_level: 2,
            zones: vec![SharedData::default()],
            metrics: Metrics::default(),
            queues: Queues::default(),
            world: World::default(),
            wiring,
            vms: BTreeMap::new(),
            exchanges: BTreeMap::new(),
            calls: BTreeMap::new(),
            next_call: 1,
            next_timer: 1,
            faults: Faults::default(),
            holds: Holds::default(),
            may_wait: false,
            may_fault: false,
            traps_made: 0,
            fuel: FuelTable::default(),
        }
    }

    pub(crate) fn now(&self) -> Duration {
        self.events.now()
    }

    /// Something is to happen after this time.
    pub(crate) fn after(&mut self, wait: Duration, event: Event) {
        let chance = self.rng.bits();
        self.events.add(wait, chance, event);
    }

    pub(crate) fn who(&self, vm: VmId) -> Who {
        match self.vms.get(&vm).and_then(|facts| facts.worker) {
            Some(worker) => Who::Worker(worker),
            None => Who::Canary,
        }
    }

    pub(crate) fn note(&mut self, who: Who, what: fmt::Arguments<'_>) {
        let now = self.now();
        self.trace.add(now, who, what);
    }

    pub(crate) fn root(&mut self, vm: VmId, root: u32) -> Option<&mut Root> {
        self.vms.get_mut(&vm)?.roots.get_mut(&root)
    }

    /// The shared data that a VM sees.
    pub(crate) fn zone(&mut self, vm: VmId) -> Option<&mut SharedData> {
        let zone = self.vms.get(&vm)?.zone;
        self.zones.get_mut(zone)
    }

    /// One more timer of a root context.
    pub(crate) fn start_timer(&mut self, vm: VmId, root: u32, timer: Option<u32>) {
        let timer = timer.unwrap_or_else(|| {
            self.next_timer += 1;
            self.next_timer
        });
        let late = self.rng.between(Duration::ZERO, self.personality.ticks.late);
        let Some(found) = self.root(vm, root) else { return };
        found.timers.insert(timer);
        let wait = found.period + late;
        self.after(wait, Event::Tick { vm, root, timer });
    }
}

//! Monitors of one's own: how they are made and run, what they keep, and what is written down while one runs.
//!
//! All of this is behind traits, so that a filter without such monitors does not hold any of it.

use std::any::Any;
use std::collections::BTreeMap;
use std::time::Duration;

use super::check::{Check, Local};
use super::{Finding, Monitor, Step};
use crate::host::subject::about;
use crate::host::{Failure, Reply};
use crate::model::failures::Failures;
use crate::model::id::PeerId;
use crate::model::peer::PeerRecord;
use crate::model::peer_status::PeerStatus;
use crate::model::report::shortened;
use crate::model::spec::MonitorSpec;
use crate::repeats::Repeats;
use crate::settings::{Reading, Settings};
use crate::store::runs::Begun;
use crate::store::Store;
use crate::time::format_duration;

/// The most questions of one check.
const MOST_QUESTIONS: u32 = 16;
/// How often it is said that one monitor of an upstream failed by itself.
const PAUSE: Duration = Duration::from_secs(60);

/// A kind of monitor of one's own.
pub(crate) trait Own {
    /// Reads its options.
    fn read(&self, reading: &mut Reading<'_>);

    /// Makes one; what is wrong with its options goes into these.
    fn make(&self, settings: &mut Settings) -> Box<dyn Monitor>;

    /// What a worker keeps of all such monitors.
    fn keeper(&self) -> Box<dyn Keeper>;
}

/// What a worker keeps of all monitors of one's own.
pub(crate) trait Keeper {
    /// Has one take the next step of a check. `None` while it rests.
    fn step(&mut self, own: &dyn Own, check: &OwnCheck<'_>, reply: Option<&Reply>) -> Option<Step>;

    /// Drops what is of monitors and peers that the upstream at this position does not have any more.
    fn restrict(&mut self, position: usize, monitors: &[MonitorSpec], has_peer: &dyn Fn(PeerId) -> bool);
}

/// A check that such a monitor makes.
pub(crate) struct OwnCheck<'c> {
    pub(crate) store: Store<'c>,
    /// See [`Check`].
    pub(crate) registry: &'c dyn Any,
    /// The number of this worker.
    pub(crate) worker: u64,
    /// The upstream's position.
    pub(crate) position: usize,
    pub(crate) upstream: &'c str,
    pub(crate) peer: &'c PeerRecord,
    pub(crate) status: Option<&'c PeerStatus>,
    pub(crate) failures: Failures,
    pub(crate) spec: &'c MonitorSpec,
    /// How often it has asked.
    pub(crate) asked: u32,
    /// Its time is over.
    pub(crate) is_late: bool,
    /// Finds the name of a peer.
    pub(crate) name: &'c dyn Fn(PeerId) -> Option<String>,
}

/// Made by a function.
pub(super) struct Made<F>(pub(super) F);

impl<F: Fn(&mut Settings) -> Box<dyn Monitor>> Own for Made<F> {
    fn read(&self, reading: &mut Reading<'_>) {
        let text =
            |key: &str| reading.entries.iter().find(|(name, _)| name == key).and_then(|(_, value)| value.as_str());
        let subject = format!("{} monitor={:?}", reading.at, text("id").or_else(|| text("name")).unwrap_or_default());
        about(subject.trim_start().to_owned(), || reading.read(|settings| drop(self.make(settings))));
    }

    fn make(&self, settings: &mut Settings) -> Box<dyn Monitor> {
        (self.0)(settings)
    }

    fn keeper(&self) -> Box<dyn Keeper> {
        Box::new(Kept { monitors: BTreeMap::new(), local: BTreeMap::new(), told: Repeats::new(PAUSE) })
    }
}

/// By the upstream's position, the monitor's number and the peer's id.
type PeerKey = (usize, u32, PeerId);

struct Kept {
    /// By the upstream's position and the monitor's number; each with the options that it was made from.
    monitors: BTreeMap<(usize, u32), (String, Box<dyn Monitor>)>,
    local: BTreeMap<PeerKey, Local>,
    told: Repeats,
}

impl Keeper for Kept {
    fn step(&mut self, own: &dyn Own, of: &OwnCheck<'_>, reply: Option<&Reply>) -> Option<Step> {
        let OwnCheck { store, upstream, peer, spec, asked, .. } = *of;
        if !may_run(of) {
            return None;
        }
        let local = self.local.entry((of.position, spec.number, peer.id)).or_default();
        let (registry, status, failures) = (of.registry, of.status, of.failures);
        let mut check = Check { spec, upstream, peer, status, failures, store, registry, local, asked };
        let monitors = &mut self.monitors;
        let step = about(subject(of), || {
            let make = || (spec.options.clone(), own.make(&mut Settings::stored(&spec.options)));
            let monitor = monitors.entry((of.position, spec.number)).or_insert_with(make);
            if monitor.0 != spec.options {
                *monitor = make();
            }
            monitor.1.check(&mut check, reply)
        });
        // One that cannot be written rests by mistake, once.
        let _ = store.end_run(upstream, spec, of.worker);
        Some(match step {
            Ok(Step::Ask(_)) if asked >= MOST_QUESTIONS => self.fault(of, "it asks more than 16 times in one check"),
            Ok(Step::Ask(_)) if of.is_late => Step::Done(Finding::Bad(Failure::Timeout.to_string())),
            Ok(mut step) => {
                if let Step::Done(Finding::Bad(text) | Finding::Silent(text)) = &mut step {
                    *text = shortened(text);
                }
                if let Step::Done(Finding::Reported(report)) = &mut step {
                    report.shorten();
                }
                if matches!(step, Step::Done(_)) && reply.is_none() {
                    // It did not ask anybody, so nothing keeps it from asking.
                    let _ = store.set_obstacle(upstream, Some(spec), None);
                }
                step
            }
            Err(why) => self.fault(of, &why),
        })
    }

    fn restrict(&mut self, position: usize, monitors: &[MonitorSpec], has_peer: &dyn Fn(PeerId) -> bool) {
        let is_there = |number: u32| monitors.iter().any(|spec| spec.number == number);
        self.monitors.retain(|(at, number), _| *at != position || is_there(*number));
        self.local.retain(|(at, number, peer), _| *at != position || (is_there(*number) && has_peer(*peer)));
    }
}

impl Kept {
    /// The end of a check whose monitor could not find out anything.
    fn fault(&mut self, of: &OwnCheck<'_>, why: &str) -> Step {
        let why = format!("the monitor failed: {}", shortened(why));
        let line = || format!("{}: {why}", subject(of));
        let cause = (of.position as u64) << 32 | u64::from(of.spec.number);
        self.told.say(of.store.now(), cause, log::Level::Error, &line);
        Step::Done(Finding::Silent(why))
    }
}

/// What stands in front of all that is said of a check.
fn subject(of: &OwnCheck<'_>) -> String {
    format!("upstream={} peer={} monitor={:?}", of.upstream, of.peer.server.name, of.spec.id)
}

/// Writes down that a monitor runs. Returns whether it may: not while it rests.
fn may_run(of: &OwnCheck<'_>) -> bool {
    let OwnCheck { store, upstream, spec, .. } = of;
    match store.begin_run(upstream, spec, of.worker, of.peer.id) {
        Ok(Begun::Rests) => false,
        Ok(Begun::Crashed(at, times, rest)) => {
            let (peer, rest) = ((of.name)(at).unwrap_or_default(), format_duration(rest));
            let why =
                format!("it crashed or hung while it looked at {peer}, {times} times by now, and rests for {rest}");
            log::error!("upstream={upstream} peer={peer} monitor={:?} rests: {why}", spec.id);
            // What cannot be written now is told by the log alone.
            let _ = store.set_obstacle(upstream, Some(spec), Some(&why));
            false
        }
        // Where nothing can be written down, checks go on.
        Ok(Begun::Runs) | Err(_) => true,
    }
}

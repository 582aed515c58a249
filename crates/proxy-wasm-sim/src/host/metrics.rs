//! Metrics: shared by all VMs, and not lost with them.

use std::collections::BTreeMap;

/// What a metric is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Counter,
    Gauge,
    Histogram,
}

impl Kind {
    pub(crate) const fn of(number: u64) -> Option<Self> {
        match number {
            0 => Some(Self::Counter),
            1 => Some(Self::Gauge),
            2 => Some(Self::Histogram),
            _ => None,
        }
    }
}

#[derive(Clone, Debug)]
struct Metric {
    kind: Kind,
    value: u64,
}

/// All metrics.
#[derive(Clone, Debug, Default)]
pub(crate) struct Metrics {
    by_name: BTreeMap<String, Metric>,
    /// What each id that was ever given out stands for.
    ids: Vec<String>,
}

impl Metrics {
    /// An id for a metric, which is made if there is none of the name and kind.
    pub(crate) fn define(&mut self, kind: Kind, name: &str, new_id: bool) -> Option<u32> {
        let metric = self.by_name.entry(name.to_owned()).or_insert(Metric { kind, value: 0 });
        if metric.kind != kind {
            return None;
        }
        let known = self.ids.iter().position(|found| found == name).filter(|_| !new_id);
        let id = known.unwrap_or_else(|| {
            self.ids.push(name.to_owned());
            self.ids.len() - 1
        });
        u32::try_from(id).ok()
    }

    pub(crate) fn kind(&self, id: u64) -> Option<Kind> {
        Some(self.by_name.get(self.name(id)?)?.kind)
    }

    pub(crate) fn get(&self, id: u64) -> Option<u64> {
        Some(self.by_name.get(self.name(id)?)?.value)
    }

    pub(crate) fn change(&mut self, id: u64, change: impl FnOnce(u64) -> u64) -> bool {
        let name = usize::try_from(id).ok().and_then(|id| self.ids.get(id));
        let Some(metric) = name.and_then(|name| self.by_name.get_mut(name)) else { return false };
        metric.value = change(metric.value);
        true
    }

    fn name(&self, id: u64) -> Option<&str> {
        self.ids.get(usize::try_from(id).ok()?).map(String::as_str)
    }

    pub(crate) fn dump(&self) -> BTreeMap<String, u64> {
        self.by_name.iter().map(|(name, metric)| (name.clone(), metric.value)).collect()
    }

    /// How many ids were given out.
    pub(crate) fn ids(&self) -> usize {
        self.ids.len()
    }
}

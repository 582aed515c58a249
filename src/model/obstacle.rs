//! What keeps an upstream's monitors, or the resolver, from asking anybody. That is no peer's fault, and says nothing of any.

use serde::{Deserialize, Serialize};

use crate::model::spec::MonitorSpec;
use crate::model::upstream::Record;

/// Who asks: a monitor by its id and number, or the resolver, which has no id.
type Asker = (String, u32);

/// What keeps whom from asking, in sentences.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Obstacles(Vec<(Asker, String)>);

impl Obstacles {
    /// What keeps this monitor, or without one the resolver, from asking.
    pub(crate) fn of(&self, monitor: Option<&MonitorSpec>) -> Option<&str> {
        self.0.iter().find(|(known, _)| is(known, monitor)).map(|(_, why)| why.as_str())
    }

    /// Says what does now, or that nothing does. What concerns monitors that are gone is left out.
    pub(crate) fn set(&mut self, record: &Record, monitor: Option<&MonitorSpec>, why: Option<&str>) {
        let is_there = |asker: &Asker| asker.0.is_empty() || record.monitors.iter().any(|known| is(asker, Some(known)));
        self.0.retain(|(known, _)| !is(known, monitor) && is_there(known));
        let asker = || monitor.map(|monitor| (monitor.id.clone(), monitor.number)).unwrap_or_default();
        self.0.extend(why.map(|why| (asker(), why.to_owned())));
    }
}

fn is(asker: &Asker, monitor: Option<&MonitorSpec>) -> bool {
    let (id, number) = monitor.map_or(("", 0), |monitor| (monitor.id.as_str(), monitor.number));
    asker.0 == id && asker.1 == number
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::test;

    #[test]
    fn each_has_its_own_and_what_is_gone_is_left_out() {
        let [tcp, http] = ["tcp", "http"].map(|id| MonitorSpec { id: id.to_owned(), ..MonitorSpec::default() });
        let mut record = Record::new("web");
        record.monitors = vec![tcp.clone(), http.clone()];
        let mut obstacles = Obstacles::default();
        obstacles.set(&record, Some(&tcp), Some("no gateway"));
        obstacles.set(&record, None, Some("none either"));
        obstacles.set(&record, Some(&http), None);
        let shown = |obstacles: &Obstacles| {
            [Some(&tcp), Some(&http), None].map(|monitor| obstacles.of(monitor).map(str::to_owned))
        };
        assert_eq!(shown(&obstacles), [Some("no gateway".to_owned()), None, Some("none either".to_owned())]);
        let other = MonitorSpec { number: tcp.number + 100, ..tcp.clone() };
        assert_eq!(obstacles.of(Some(&other)), None, "another monitor of the same id");
        record.monitors.retain(|monitor| monitor.id != "tcp");
        obstacles.set(&record, None, None);
        assert_eq!(obstacles, Obstacles::default());
    }
}

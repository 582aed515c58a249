//! Monitors of one's own that do not keep to what is expected of them.

use super::*;
use crate::host::Reply;
use crate::model::report::Report;
use crate::monitor::{Check, Finding, Monitor, MonitorKind, Step};
use crate::settings::Settings;
use crate::testing::test;

const OWN: &str = r#"{"name": "own", "schedule": "all"}"#;

fn checking(check: impl Fn(&mut Check<'_>, Option<&Reply>) -> Result<Step, String> + 'static) -> Registry {
    Registry::default().with_monitor(MonitorKind::with_check("own", check).interval(secs(1)))
}

fn start(sim: &Sim, registry: &Registry, monitors: &str) -> Vec<Worker> {
    vec![Worker::with(registry, sim, "test", &with_api(&two_servers(monitors))).unwrap()]
}

#[test]
fn plain_lines_of_a_monitor_say_what_they_are_about() {
    struct Own;
    impl Monitor for Own {
        fn init(_: &mut Settings) -> Self {
            log::info!(target: "mine", "init");
            Self
        }

        fn check(&mut self, check: &mut Check<'_>, reply: Option<&Reply>) -> Result<Step, String> {
            log::info!(target: "mine::own", "{}\nforged", if reply.is_some() { "reply" } else { "check" });
            log::info!(target: "durpina::store", "ours");
            check.log(log::Level::Info, "by\rcheck");
            Ok(reply.map_or_else(|| Step::Ask(check.request("/")), |_| Step::Done(Finding::Good)))
        }
    }
    let sim = Sim::new();
    let registry = Registry::default().with_monitor(MonitorKind::new::<Own>("own").interval(secs(1)));
    let mut all = start(&sim, &registry, r#"{"name": "own", "schedule": "all", "id": "mine"}"#);
    assert_eq!(sim.logged("init"), [r#"upstreams.u.monitors[0] monitor="mine": init"#]);
    pass(&sim, &mut all, millis(1_500));
    let about = format!(r#"upstream=u peer={A} monitor="mine": "#);
    for said in ["init", r"check\nforged", r"reply\nforged", r"by\rcheck"] {
        let found = sim.logged(&format!("{about}{said}"));
        assert!(!found.is_empty() && found[0].starts_with(&about), "{said}: {:?}", sim.logged("mine"));
    }
    assert!(sim.logged("ours").iter().all(|line| line == "ours") && !sim.logged("ours").is_empty());
    log::info!(target: "mine", "outside");
    assert_eq!(sim.logged("outside"), ["outside"]);
    let refused = upstream_of(&all[0].host, &registry).add_monitor("own", r#"{"id": "two", "what": 1}"#);
    assert!(refused.is_err() && sim.logged("init").last().unwrap() == r#"monitor="two": init"#);
}

fn upstream_of<'h>(host: &'h SimHost, registry: &Registry) -> Upstream<'h> {
    Upstream::get(Store::new(host), registry, "u").unwrap().unwrap()
}

/// Servers choose what they say, and a monitor may hand it on as it is.
#[test]
fn what_a_monitor_says_is_one_line_and_not_long() {
    let long = format!("no\npeer state: forged {}", "x".repeat(100_000));
    for kind in ["bad", "silent", "error", "report"] {
        let (sim, say) = (Sim::new(), long.clone());
        let registry = checking(move |_, _| match kind {
            "bad" => Ok(Step::Done(Finding::Bad(say.clone()))),
            "silent" => Ok(Step::Done(Finding::Silent(say.clone()))),
            "error" => Err(say.clone()),
            _ => Ok(Step::Done(Finding::Reported(Report {
                description: Some(say.clone()),
                unknown: vec![say.clone()],
                ..Report::default()
            }))),
        });
        let mut all = start(&sim, &registry, OWN);
        pass(&sim, &mut all, secs(5));
        let document = api(&mut all[0], "/upstreams/u");
        assert!(document.contains("peer state: forged") && document.len() < 5_000, "{kind}: {}", document.len());
        let lines = sim.logged("forged");
        let is_good = |line: &String| line.len() < 1_000 && !line.contains('\n');
        assert!(lines.iter().all(is_good) && lines.is_empty() == (kind == "silent"), "{kind}: {} lines", lines.len());
    }
}

#[test]
fn a_type_with_more_options_reads_those_of_its_own() {
    struct Own(f64);
    impl Monitor for Own {
        fn init(settings: &mut Settings) -> Self {
            Self(settings.number("least", 0.0..=100.0).unwrap_or(10.0))
        }

        fn check(&mut self, check: &mut Check<'_>, _: Option<&Reply>) -> Result<Step, String> {
            let [a, b] = ["a", "b"].map(|key| check.option(key).and_then(|value| value.as_f64()));
            check.log(log::Level::Info, format_args!("{} {a:?} {b:?}", self.0));
            Ok(Step::Done(Finding::Good))
        }
    }
    let kind = MonitorKind::new::<Own>("own").options(&["a"]).options(&["b"]).interval(secs(1));
    let registry = Registry::default().with_monitor(kind);
    let monitor = |least: &str| format!(r#"{{"name": "own", "schedule": "all", "least": {least}, "a": 1, "b": 2}}"#);
    let sim = Sim::new();
    let mut all = start(&sim, &registry, &monitor("33"));
    pass(&sim, &mut all, secs(2));
    assert!(!sim.logged("33 Some(1.0) Some(2.0)").is_empty(), "{:?}", sim.logged("own"));
    let refused = Worker::with(&registry, &sim, "test", &two_servers(&monitor("101"))).err().unwrap();
    let expected = "upstreams.u.monitors[0].least: expected a number from 0 to 100, found 101";
    assert_eq!(refused.to_string(), expected);
}

#[test]
fn no_monitor_checks_more_often_than_a_configuration_could_say() {
    for (interval, least, most) in [(Duration::ZERO, 15, 21), (Duration::MAX, 0, 0)] {
        let sim = Sim::new();
        let kind = MonitorKind::with_check("own", |check, reply| match reply {
            None => Ok(Step::Ask(check.request("/"))),
            Some(_) => Ok(Step::Done(Finding::Good)),
        });
        let registry = Registry::default().with_monitor(kind.interval(interval));
        let mut all = start(&sim, &registry, OWN);
        pass(&sim, &mut all, secs(2));
        let calls = sim.calls(A).len();
        assert!((least..=most).contains(&calls), "{interval:?}: {calls} calls");
    }
}

/// Its reply is on its way when the monitor is removed, and another one of its id is added.
#[test]
fn a_monitor_that_was_removed_takes_no_further_step() {
    let sim = Sim::new();
    let registry = checking(|check, reply| {
        let number = check.spec().rise;
        check.update_shared(|value| value.push(number as u8)).map_err(|error| error.to_string())?;
        check.log(log::Level::Info, format_args!("rise {number} {}", reply.is_some()));
        Ok(reply.map_or_else(|| Step::Ask(check.request("/")), |_| Step::Done(Finding::Good)))
    });
    let mut all = start(&sim, &registry, r#"{"name": "own", "schedule": "all", "rise": 7}"#);
    for _ in 0..300 {
        sim.advance(millis(10));
        all[0].tick();
        if !sim.logged("rise 7 false").is_empty() {
            break;
        }
    }
    assert_eq!(sim.logged("rise 7 true").len(), 0);
    let mut handle = upstream_of(&all[0].host, &registry);
    handle.remove_monitor("own").unwrap();
    handle.add_monitor("own", r#"{"rise": 8, "schedule": "all"}"#).unwrap();
    assert_eq!(all[0].deliver(), 1);
    assert_eq!(sim.logged("rise 7 true").len(), 0, "{:?}", sim.logged("rise"));
    pass(&sim, &mut all, secs(3));
    assert!(!sim.logged("rise 8 true").is_empty());
}

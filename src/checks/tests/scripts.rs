//! Monitors of one's own.

use std::cell::RefCell;
use std::rc::Rc;

use super::*;
use crate::host::{CallId, Capabilities, Guest, Reply};
use crate::model::report::{Report, Weight};
use crate::monitor::{Check, Finding, Monitor, MonitorKind, Step};
use crate::settings::Settings;
use crate::testing::test;

type Said = Rc<RefCell<Vec<String>>>;

fn registry(kind: MonitorKind) -> Registry {
    Registry::default().with_monitor(kind)
}

/// A monitor that is this closure, every second at every peer.
fn checking(check: impl Fn(&mut Check<'_>, Option<&Reply>) -> Result<Step, String> + 'static) -> Registry {
    registry(MonitorKind::with_check("own", check).interval(secs(1)).options(&["say"]))
}

const OWN: &str = r#"{"name": "own", "schedule": "all"}"#;

fn start(sim: &Sim, registry: &Registry, count: usize, monitors: &str) -> Vec<Worker> {
    let config = with_api(&two_servers(monitors));
    (0..count).map(|_| Worker::with(registry, sim, "test", &config).unwrap()).collect()
}

fn ask(check: &Check<'_>) -> Result<Step, String> {
    Ok(Step::Ask(check.request("/")))
}

#[test]
fn a_check_asks_as_often_as_it_has_to_and_is_done() {
    for calls_from_replies in [true, false] {
        let sim = Sim::with(Capabilities { calls_from_replies, ..Capabilities::default() });
        let registry = checking(|check, reply| match (check.answers(), reply) {
            (0, None) | (1 | 2, Some(Reply::Http(200, _))) => ask(check),
            (3, Some(_)) if check.host() == "10.0.0.1" => {
                let report = Report { weight: Some(Weight::Exactly(7)), ..Report::default() };
                Ok(Step::Done(Finding::Reported(report)))
            }
            (3, Some(_)) => Ok(Step::Done(Finding::Good)),
            other => Err(format!("{other:?}")),
        });
        let mut all = start(&sim, &registry, 2, OWN);
        pass(&sim, &mut all, millis(5_500));
        let calls = sim.calls(A).len();
        assert!((12..=18).contains(&calls) && calls % 3 == 0, "{calls} calls");
        let document = api(&mut all[1], "/upstreams/u");
        assert!(document.contains("\"weight\":7") && !document.contains("failed\""), "{document}");
        assert_eq!(upstream(&all[0].host).get_peer(A).unwrap().get_weight(), 7);
    }
}

#[test]
fn a_check_that_fails_by_itself_spoils_no_other_and_takes_no_peer_out() {
    let sim = Sim::new();
    let registry = checking(|check, reply| match reply {
        Some(_) if check.peer() == A => Err("no idea".to_owned()),
        Some(_) => Ok(Step::Done(Finding::Good)),
        None => ask(check),
    });
    let mut all = start(&sim, &registry, 2, &format!("{OWN}, {HTTP}"));
    pass(&sim, &mut all, secs(20));
    assert_eq!(served(&mut all[0]), [A, B]);
    let line = format!("upstream=u peer={A} monitor=\"own\": the monitor failed: no idea");
    assert_eq!(sim.logged(&line).len(), 1, "and the log is not filled with it");
    let document = api(&mut all[0], &format!("/upstreams/u/peers/{A}"));
    assert!(document.contains("\"why\":\"the monitor failed: no idea\""), "{document}");
    assert!(document.contains("\"monitor\":\"http\",\"state\":\"up\",\"result\":\"ok\""), "{document}");
    assert!(!api(&mut all[0], &format!("/upstreams/u/peers/{B}")).contains("the monitor failed"));
}

#[test]
fn what_a_monitor_found_bad_is_good_again_when_the_peer_reports_itself() {
    let sim = Sim::new();
    let registry = checking(|check, reply| match reply {
        None => ask(check),
        Some(Reply::Http(200, _)) => Ok(Step::Done(Finding::Reported(Report::parse(b"50%")))),
        Some(_) => Ok(Step::Done(Finding::Bad("sick".to_owned()))),
    });
    let mut all = start(&sim, &registry, 2, OWN);
    sim.server(A, Behaviour::Answers(500));
    pass(&sim, &mut all, secs(4));
    assert_eq!(served(&mut all[0]), [B]);
    sim.server(A, Behaviour::Answers(200));
    pass(&sim, &mut all, secs(4));
    assert_eq!(served(&mut all[0]), [A, B]);
    assert_eq!(sim.logged("from=down to=up by=\"monitor own\" why=\"2 good checks in a row\"").len(), 1);
}

#[test]
fn a_check_that_never_ends_is_ended() {
    let sim = Sim::new();
    let mut all = start(&sim, &checking(|check, _| ask(check)), 1, OWN);
    pass(&sim, &mut all, secs(3));
    let document = api(&mut all[0], &format!("/upstreams/u/peers/{A}"));
    assert!(document.contains("the monitor failed: it asks more than 16 times in one check"), "{document}");
    assert_eq!(served(&mut all[0]), [A, B]);
}

#[test]
fn a_check_that_gets_no_answer_ends_by_its_timeout_also_in_a_later_step() {
    for step in [0, 1] {
        let sim = Sim::new();
        let registry = checking(|check, reply| match (check.answers(), reply) {
            (_, Some(Reply::Failed(failure))) => Ok(Step::Done(Finding::Bad(failure.to_string()))),
            (2, _) => Ok(Step::Done(Finding::Good)),
            _ => ask(check),
        });
        let mut all = start(&sim, &registry, 1, OWN);
        let mut seen = 0;
        for _ in 0..1_000 {
            sim.advance(millis(10));
            all[0].tick();
            seen = sim.calls(A).len() + sim.calls(B).len();
            if seen > step && all[0].lose_calls() > 0 {
                break;
            }
            all[0].deliver();
        }
        assert!(seen > step);
        pass(&sim, &mut all, millis(2_010));
        let peers = api(&mut all[0], "/upstreams/u/peers");
        let why = peers.matches("\"result\":\"failed\",\"why\":\"no answer in time\"").count();
        assert_eq!(why, 1, "step {step}: {peers}");
    }
}

#[test]
fn an_answer_counts_once() {
    let sim = Sim::new();
    let replies: Said = Rc::default();
    let seen = Rc::clone(&replies);
    let registry = checking(move |check, reply| match reply {
        Some(reply) => {
            seen.borrow_mut().push(format!("{reply:?}"));
            Ok(Step::Done(Finding::Good))
        }
        None => ask(check),
    });
    let mut all = start(&sim, &registry, 1, OWN);
    pass(&sim, &mut all, secs(2));
    let before = replies.borrow().len();
    for id in 0..20 {
        let Worker { filter, host } = &mut all[0];
        filter.reply(host, CallId::Reply(id), &Reply::Http(500, Vec::new()));
    }
    assert!(before > 0 && replies.borrow().len() == before);
}

/// A wasm VM that panics is gone; here the worker is, which comes to the same.
#[cfg(not(target_arch = "wasm32"))]
#[test]
fn a_monitor_that_panics_rests_for_longer_each_time_and_all_other_checks_go_on() {
    use std::panic::{catch_unwind, set_hook, take_hook, AssertUnwindSafe};
    let sim = Sim::new();
    let registry = checking(|check, reply| match reply {
        Some(_) => panic!("a bug, at {}", check.peer()),
        None => ask(check),
    });
    let both = format!("{OWN}, {HTTP}");
    let mut all = start(&sim, &registry, 3, &both);
    let hook = take_hook();
    set_hook(Box::new(|_| {}));
    let (mut crashes, mut gaps, mut last_http) = (Vec::new(), Vec::new(), 0);
    let http = |sim: &Sim| sim.calls(B).len();
    for ms in (0..100_000u64).step_by(10) {
        sim.advance(millis(10));
        for worker in &mut all {
            let died = catch_unwind(AssertUnwindSafe(|| {
                worker.tick();
                worker.deliver();
            }));
            if died.is_err() {
                crashes.push(ms / 1_000);
                *worker = start(&sim, &registry, 1, &both).remove(0);
            }
        }
        if http(&sim) > last_http {
            last_http = http(&sim);
            gaps.push(ms);
        }
    }
    set_hook(hook);
    let rests: Vec<u64> = crashes.windows(2).map(|pair| pair[1] - pair[0]).collect();
    assert_eq!(rests.len(), 3, "{crashes:?}");
    for (rest, least) in rests.iter().zip([10, 20, 40]) {
        assert!((least..least + 5).contains(rest), "{rests:?}");
    }
    let gap = gaps.windows(2).map(|pair| pair[1] - pair[0]).max().unwrap();
    assert!(gap < 3_000, "B is checked by http all the time: {gap} ms");
    let told = sim.logged("monitor=\"own\" rests: it crashed or hung while it looked at 10.0.0.");
    assert_eq!(told.len(), 4, "{told:?}");
    assert!(told[1].ends_with("2 times by now, and rests for 20s"), "{told:?}");
    let document = api(&mut all[0], "/upstreams/u");
    assert!(document.contains("\"problem\":\"it crashed or hung while it looked at 10.0.0."), "{document}");
    assert_eq!(served(&mut all[0]), [A, B]);
}

#[derive(Default)]
struct Counting {
    checks: u32,
    word: String,
}

impl Monitor for Counting {
    fn init(settings: &mut Settings) -> Self {
        let word = settings.text("word").unwrap_or_default();
        if word.is_empty() {
            settings.error("word", "expected a word");
        }
        Self { checks: 0, word }
    }

    fn check(&mut self, check: &mut Check<'_>, _reply: Option<&Reply>) -> Result<Step, String> {
        self.checks += 1;
        *check.local::<u32>() += 1;
        let local = *check.local::<u32>();
        check.update_shared(|value| *value = vec![value.first().map_or(1, |n| n + 1)]).map_err(|e| e.to_string())?;
        let shared = check.shared().map_err(|error| error.to_string())?;
        check.log(
            log::Level::Info,
            format_args!("{} {} {local} {shared:?} {}", self.word, self.checks, check.label("zone")),
        );
        Ok(Step::Done(Finding::Good))
    }
}

const COUNTING: &str = r#"{"name": "counting", "schedule": "all", "interval": 1, "word": "abc"}"#;

#[test]
fn a_monitor_keeps_what_it_wants_for_itself_for_a_peer_and_for_all_workers() {
    let sim = Sim::new();
    let registry = registry(MonitorKind::new::<Counting>("counting"));
    let config =
        two_servers(COUNTING).replace(&format!("\"{A}\""), r#"{"name": "10.0.0.1:80", "labels": {"zone": "eu-1"}}"#);
    let mut all = vec![Worker::with(&registry, &sim, "test", &config).unwrap()];
    pass(&sim, &mut all, secs(3));
    let lines = sim.logged("abc");
    let last = lines.iter().rfind(|line| line.contains(A)).unwrap();
    assert!(
        last.contains(&format!("upstream=u peer={A} monitor=\"counting\": abc ")) && last.ends_with("eu-1"),
        "{last}"
    );
    let numbers = |line: &str| -> Vec<u32> {
        line.split(|c: char| !c.is_ascii_digit()).filter_map(|n| n.parse().ok()).rev().take(3).collect()
    };
    let of_b = numbers(lines.iter().rfind(|line| line.contains(B)).unwrap());
    let (shared, local, checks) = (of_b[0], of_b[1], of_b[2]);
    assert!(shared == checks && (5..=6).contains(&checks) && local == checks.div_ceil(2), "{of_b:?}");
    // Another worker begins anew, but for what is shared.
    all = vec![Worker::with(&registry, &sim, "test", &config).unwrap()];
    pass(&sim, &mut all, secs(3));
    let of_b = numbers(sim.logged("abc").iter().rfind(|line| line.contains(B)).unwrap());
    assert!(of_b[0] > of_b[2], "{of_b:?}");
    // And so does a peer that was removed and added again.
    let mut handle = upstream(&all[0].host);
    let peer = handle.get_peer(B).unwrap();
    handle.remove_peer(&peer).unwrap();
    pass(&sim, &mut all, secs(2));
    upstream(&all[0].host).add_peer(B).unwrap();
    pass(&sim, &mut all, secs(2));
    let again = numbers(sim.logged("abc").iter().rfind(|line| line.contains(B)).unwrap());
    assert!(again[1] <= 2 && again[2] > of_b[2], "{again:?} after {of_b:?}");
}

#[test]
fn what_a_monitor_shares_is_bounded() {
    let sim = Sim::new();
    let registry = checking(|check, _| {
        check.update_shared(|value| value.resize(65_537, 0)).map_err(|error| error.to_string())?;
        Ok(Step::Done(Finding::Good))
    });
    let mut all = start(&sim, &registry, 1, OWN);
    pass(&sim, &mut all, secs(3));
    let line = "the monitor failed: a monitor's shared value has 65536 bytes at most, found 65537";
    assert_eq!(sim.logged(line).len(), 1, "{:?}", sim.logged("shared value"));
}

#[test]
fn a_monitor_changes_a_peer_as_a_script_does() {
    let sim = Sim::new();
    let registry = checking(|check, _| {
        let peer = check.get_peer().map_err(|error| error.to_string())?;
        let mut peer = peer.filter(|peer| peer.get_weight() != 9).ok_or("nothing to do")?;
        peer.set_weight(9).map_err(|error| error.to_string())?;
        Ok(Step::Done(Finding::Good))
    });
    let mut all = start(&sim, &registry, 1, OWN);
    pass(&sim, &mut all, millis(1_500));
    assert_eq!(upstream(&all[0].host).get_peer(B).unwrap().get_weight(), 9);
}

#[test]
fn options_of_ones_own_are_read_with_places_and_survive() {
    let registry = registry(MonitorKind::new::<Counting>("counting")).with_monitor(
        MonitorKind::with_check("own", |check, _| {
            let said = check.option("say").and_then(|said| said.as_str().map(str::to_owned));
            check.log(log::Level::Info, format_args!("says {said:?}"));
            Ok(Step::Done(Finding::Good))
        })
        .options(&["say"])
        .interval(millis(500)),
    );
    let errors = |monitor: &str| {
        let sim = Sim::new();
        let refused = Worker::with(&registry, &sim, "test", &two_servers(monitor)).err().unwrap();
        refused.errors().iter().map(ToString::to_string).collect::<Vec<_>>()
    };
    assert_eq!(errors(r#"{"name": "counting"}"#), ["upstreams.u.monitors[0].word: expected a word"]);
    let [one, two] = &errors(r#"{"name": "counting", "word": 7, "wrod": 8}"#)[..2] else { panic!("two errors") };
    assert_eq!(one, "upstreams.u.monitors[0].word: expected a text, found 7");
    assert_eq!(two, "upstreams.u.monitors[0].word: expected a word");
    let unknown = errors(r#"{"name": "own", "say": "a", "sya": "b"}"#);
    assert!(unknown[0].starts_with("upstreams.u.monitors[0].sya: unknown key, expected one of"), "{unknown:?}");
    assert!(unknown[0].ends_with("say") && unknown.len() == 1, "{unknown:?}");
    let named = errors(r#"{"name": "none"}"#);
    assert!(named[0].contains("\"counting\", \"own\""), "{named:?}");

    let sim = Sim::new();
    let config = with_api(&two_servers(r#"{"name": "own", "schedule": "all", "say": "é\"\\"}"#));
    let mut all = vec![Worker::with(&registry, &sim, "test", &config).unwrap()];
    pass(&sim, &mut all, secs(3));
    let said = sim.logged(r#"says Some("é\"\\")"#).len();
    assert!((10..=12).contains(&said), "every half second, as the monitor has it: {said}");
    assert!(api(&mut all[0], "/upstreams/u/monitors").contains("\"name\":\"own\",\"interval\":\"500ms\""));
    let mut handle = upstream_of(&all[0].host, &registry);
    handle.add_monitor("counting", r#"{"word": "w"}"#).unwrap();
    assert!(handle
        .add_monitor("counting", r#"{"id": "2"}"#)
        .unwrap_err()
        .to_string()
        .contains("word: expected a word"));
}

fn upstream_of<'h>(host: &'h SimHost, registry: &Registry) -> Upstream<'h> {
    Upstream::get(Store::new(host), registry, "u").unwrap().unwrap()
}

#[test]
fn a_name_that_is_registered_twice_has_every_configuration_refused() {
    let registry = checking(|check, _| ask(check)).with_monitor(MonitorKind::new::<Counting>("http"));
    let sim = Sim::new();
    let refused = Worker::with(&registry, &sim, "test", &two_servers(HTTP)).err().unwrap();
    assert_eq!(refused.to_string(), "configuration: there is a monitor \"http\" already");
    assert_eq!(sim.logged("configuration: there is a monitor \"http\" already").len(), 1);
}

//! What a module may not do, or what comes of it.

use std::time::Duration;

use proxy_wasm_sim::{
    Answer, Decision, Destination, Faults, Module, Outgoing, Peer, Plugin, Process, Received, Refused, Request, Routed,
    Situation, Wiring, ENVOY, NGINX, NGINX_WITHOUT_EVICTION,
};

use crate::filters::{at_headers, module, said, without_bodies};

enum Comes {
    /// The statuses that the host calls answered.
    Statuses(&'static str),
    /// The request fails because the module trapped.
    Trap,
    /// The worker ends.
    Crash(Situation),
}

/// Runs a request, and says what came of it.
fn check(what: &str, mut process: Process, expected: &Comes) {
    process.start(&[Plugin::filter("f", "")]).unwrap();
    let outcome = process.request(Request::get("/"));
    match expected {
        Comes::Statuses(statuses) => {
            assert_eq!(outcome.map(|outcome| outcome.status), Ok(Some(200)), "{what}");
            assert_eq!(said(&process), **statuses, "{what}");
        }
        Comes::Trap => {
            let failed = outcome.unwrap().status;
            assert!(failed == Some(500) || failed == Some(503), "{what}: {failed:?}");
            assert_eq!(process.traps().len(), 1, "{what}");
        }
        Comes::Crash(situation) => {
            let crash = outcome.expect_err(what);
            assert_eq!(Some(crash.rule.as_str()), NGINX.sentence(*situation), "{what}");
        }
    }
}

#[test]
fn what_hosts_differ_in_when_a_module_calls_them() {
    use Comes::{Crash, Statuses, Trap};
    let rows: [(&str, &str, &str, Comes, Comes); 13] = [
        (
            "another tick period",
            "",
            "(call $say (call $tick (i32.const 5000))) (call $say (call $tick (i32.const 6000)))",
            Statuses("00"),
            Trap,
        ),
        (
            "incrementing a gauge",
            r#"(data (i32.const 100) "gauge")"#,
            "(call $say (call $define (i32.const 1) (i32.const 100) (i32.const 5) (i32.const 8)))
             (call $say (call $increment (i32.load (i32.const 8)) (i64.const 1)))",
            Statuses("00"),
            Trap,
        ),
        (
            "reading a histogram",
            r#"(data (i32.const 100) "hist")"#,
            "(call $say (call $define (i32.const 2) (i32.const 100) (i32.const 4) (i32.const 8)))
             (call $say (call $metric (i32.load (i32.const 8)) (i32.const 16)))",
            Statuses("02"),
            Trap,
        ),
        (
            "a gRPC stream",
            "",
            "(call $say (call $grpc (i32.const 1100) (i32.const 4) (i32.const 1100) (i32.const 4) (i32.const 1100)
               (i32.const 4) (i32.const 0) (i32.const 0) (i32.const 8)))",
            Statuses("0"),
            Trap,
        ),
        ("proxy_done when nothing ends", "", "(call $say (call $done))", Statuses("1"), Trap),
        ("the log level", "", "(call $say (call $log_level (i32.const 8)))", Statuses("0"), Trap),
        (
            "resolving a queue",
            "",
            "(call $say (call $resolve (i32.const 0) (i32.const 0) (i32.const 1100) (i32.const 4) (i32.const 8)))",
            Statuses("1"),
            Trap,
        ),
        (
            "upstream.address",
            r#"(data (i32.const 100) "upstream\00address")"#,
            "(call $say (call $property (i32.const 100) (i32.const 16) (i32.const 8) (i32.const 12)))",
            Statuses("1"),
            Crash(Situation::UpstreamAddress),
        ),
        (
            "xds: what tells the hosts apart",
            r#"(data (i32.const 100) "xds")"#,
            "(call $say (call $property (i32.const 100) (i32.const 3) (i32.const 8) (i32.const 12)))",
            Statuses("3"),
            Statuses("1"),
        ),
        (
            "a variable that was not declared",
            r#"(data (i32.const 100) "ngx\00none")"#,
            "(call $say (call $set_property (i32.const 100) (i32.const 8) (i32.const 100) (i32.const 1)))",
            Statuses("0"),
            Statuses("1"),
        ),
        (
            "creating with a number that no value has",
            r#"(data (i32.const 100) "key")"#,
            "(call $say (call $set (i32.const 100) (i32.const 3) (i32.const 100) (i32.const 1) (i32.const -1)))
             (call $say (call $set (i32.const 100) (i32.const 3) (i32.const 100) (i32.const 1) (i32.const -1)))",
            Statuses("08"),
            Statuses("88"),
        ),
        (
            "writing without a number, twice",
            r#"(data (i32.const 100) "key")"#,
            "(call $say (call $set (i32.const 100) (i32.const 3) (i32.const 100) (i32.const 1) (i32.const 0)))
             (call $say (call $set (i32.const 100) (i32.const 3) (i32.const 101) (i32.const 1) (i32.const 0)))",
            Statuses("00"),
            Statuses("08"),
        ),
        (
            "defining a metric again: another id, or the same",
            r#"(data (i32.const 100) "counter")"#,
            "(drop (call $define (i32.const 0) (i32.const 100) (i32.const 7) (i32.const 8)))
             (drop (call $define (i32.const 0) (i32.const 100) (i32.const 7) (i32.const 12)))
             (call $say (i32.ne (i32.load (i32.const 8)) (i32.load (i32.const 12))))",
            Statuses("1"),
            Statuses("0"),
        ),
    ];
    for (what, data, code, envoy, nginx) in rows {
        let module = at_headers(data, code);
        check(&format!("envoy: {what}"), Process::envoy(&module, 1).workers(1).everything_to("10.0.0.1:80"), &envoy);
        check(&format!("nginx: {what}"), Process::nginx(&module, 1).workers(1).everything_to("10.0.0.1:80"), &nginx);
    }
}

#[test]
fn a_module_without_body_callbacks_crashes_nginx_at_the_first_request() {
    let module = without_bodies("");
    check("envoy", Process::envoy(&module, 1).everything_to("10.0.0.1:80"), &Comes::Statuses(""));
    check("nginx", Process::nginx(&module, 1).everything_to("10.0.0.1:80"), &Comes::Crash(Situation::NoBodyCallbacks));
}

#[test]
fn plugin_name_in_on_configure_crashes_nginx_and_is_there_on_envoy() {
    let module = module(
        r#"(data (i32.const 100) "plugin_name")
           (func (export "proxy_on_configure") (param i32 i32) (result i32)
             (drop (call $property (i32.const 100) (i32.const 11) (i32.const 8) (i32.const 12)))
             (call $text (i32.load (i32.const 8)) (i32.load (i32.const 12)))
             (i32.const 1))"#,
    );
    let mut envoy = Process::envoy(&module, 1).workers(1);
    envoy.start(&[Plugin::filter("name", "")]).unwrap();
    assert_eq!(said(&envoy), "namenamename", "the trial, the worker, the main thread");
    match Process::nginx(&module, 1).start(&[Plugin::filter("name", "")]) {
        Err(Refused::Crashed(crash)) => {
            assert_eq!(Some(crash.rule.as_str()), NGINX.sentence(Situation::PluginNameInConfigure));
        }
        other => panic!("{other:?}"),
    }
}

/// A root context that dispatches a call from each reply to a call.
const CALLS_FROM_REPLIES: &str = r#"
  (func (export "proxy_on_configure") (param i32 i32) (result i32) (drop (call $tick (i32.const 1000))) (i32.const 1))
  (func (export "proxy_on_tick") (param i32) (call $say (call $call)))
  (func (export "proxy_on_http_call_response") (param i32 i32 i32 i32 i32) (call $say (call $call)))"#;

#[test]
fn a_call_from_a_reply_crashes_nginx() {
    let module = module(CALLS_FROM_REPLIES);
    let mut envoy = Process::envoy(&module, 1).workers(1).everything_to("10.0.0.1:80");
    envoy.start(&[Plugin::filter("f", "")]).unwrap();
    envoy.run_for(Duration::from_secs(2)).unwrap();
    assert!(said(&envoy).len() > 100 && said(&envoy).bytes().all(|letter| letter == b'0'));

    let mut nginx = Process::nginx(&module, 1).workers(1).everything_to("10.0.0.1:80");
    nginx.start(&[Plugin::filter("f", "")]).unwrap();
    let crash = nginx.run_for(Duration::from_secs(2)).unwrap_err();
    assert_eq!(Some(crash.rule.as_str()), NGINX.sentence(Situation::CallFromReply));
    assert!(crash.to_string().contains("crashes the worker"), "{crash}");
}

#[test]
fn two_calls_at_a_time_leak_nginx_s_slots() {
    let module = module(
        r#"(func (export "proxy_on_configure") (param i32 i32) (result i32) (drop (call $tick (i32.const 50))) (i32.const 1))
           (func (export "proxy_on_tick") (param i32) (drop (call $call)) (drop (call $call)))"#,
    );
    let mut nginx = Process::nginx(&module, 1).workers(1).everything_to("10.0.0.1:80");
    nginx.start(&[Plugin::filter("f", "")]).unwrap();
    let crash = nginx.run_for(Duration::from_secs(60)).unwrap_err();
    assert_eq!(Some(crash.rule.as_str()), NGINX.sentence(Situation::NoSlot));
    let mut envoy = Process::envoy(&module, 1).workers(1).everything_to("10.0.0.1:80");
    envoy.start(&[Plugin::filter("f", "")]).unwrap();
    envoy.run_for(Duration::from_secs(60)).unwrap();
}

/// Reads a value of 4,000 bytes at each tick, and writes it again at its number: by as many bytes as the configuration has on top.
const WRITES: &str = r#"
  (global $more (mut i32) (i32.const 0))
  (data (i32.const 100) "key")
  (func (export "proxy_on_configure") (param i32 i32) (result i32)
    (global.set $more (local.get 1)) (drop (call $tick (i32.const 1))) (i32.const 1))
  (func (export "proxy_on_tick") (param i32)
    (global.set $top (i32.const 131072))
    (i32.store (i32.const 16) (i32.const 0))
    (drop (call $get (i32.const 100) (i32.const 3) (i32.const 8) (i32.const 12) (i32.const 16)))
    ;; All bytes are the same, unless two values are mixed.
    (if (i32.load (i32.const 12)) (then
      (if (i32.ne (i32.load8_u (i32.load (i32.const 8)))
            (i32.load8_u (i32.sub (i32.add (i32.load (i32.const 8)) (i32.load (i32.const 12))) (i32.const 1))))
        (then (call $say (i32.const 1))))))
    (memory.fill (i32.const 70000) (i32.load8_u (i32.const 16)) (i32.const 5000))
    (drop (call $set (i32.const 100) (i32.const 3) (i32.const 70000)
      (i32.add (i32.const 4000) (i32.mul (global.get $more) (i32.and (i32.load (i32.const 16)) (i32.const 1))))
      (i32.load (i32.const 16)))))"#;

#[test]
fn reads_are_torn_on_nginx_and_a_changing_length_ends_who_reads() {
    let module = module(WRITES);
    let run = |mut process: Process, configuration: &str| {
        process.start(&[Plugin::filter("f", configuration)]).unwrap();
        process.set_faults(Faults { preempt: 2, ..Faults::default() });
        let crash = process.run_for(Duration::from_secs(20)).err();
        assert_eq!(process.traps(), [""; 0]);
        (crash.map(|crash| crash.rule), !said(&process).is_empty())
    };
    assert_eq!(run(Process::envoy(&module, 1), ""), (None, false));
    assert_eq!(run(Process::envoy(&module, 1), "longer"), (None, false));
    assert_eq!(run(Process::nginx(&module, 1), ""), (None, true), "mixtures");
    assert_eq!(run(Process::nginx(&module, 1).workers(1), "longer"), (None, false), "nobody else reads");
    let (rule, _) = run(Process::nginx(&module, 1), "longer");
    assert_eq!(rule.as_deref(), NGINX.sentence(Situation::LengthChanges));
}

/// Writes a short value at the first request and long ones under other keys at the next ones; at the eighth there is no room: for another
/// one, or for the first one to grow.
fn fills(grows: bool) -> Module {
    let turns = if grows { 7 } else { 8 };
    module(&format!(
        r#"(global $turn (mut i32) (i32.const 0))
           (func (export "proxy_on_request_headers") (param i32 i32 i32) (result i32)
             (global.set $top (i32.const 65536))
             (i32.store8 (i32.const 100) (i32.rem_u (global.get $turn) (i32.const {turns})))
             (i32.store (i32.const 16) (i32.const 0))
             (drop (call $get (i32.const 100) (i32.const 1) (i32.const 8) (i32.const 12) (i32.const 16)))
             (call $say (call $set (i32.const 100) (i32.const 1) (i32.const 200000)
               (select (i32.const 1300000) (i32.const 10) (global.get $turn)) (i32.load (i32.const 16))))
             (global.set $turn (i32.add (global.get $turn) (i32.const 1)))
             (i32.const 0))"#
    ))
}

#[test]
fn a_full_zone_of_nginx_crashes_or_traps_and_a_value_that_grows_in_it_ends_the_worker() {
    let run = |personality, grows| {
        let mut process = Process::of(personality, &fills(grows), 1).everything_to("10.0.0.1:80");
        process.start(&[Plugin::filter("f", "")]).unwrap();
        for _ in 0..7 {
            assert_eq!(process.request(Request::get("/").at(0)).unwrap().status, Some(200));
        }
        assert_eq!(said(&process), "0000000");
        let last = process.request(Request::get("/").at(0)).map(|outcome| outcome.status);
        (last.map_err(|crash| crash.rule), process)
    };
    let sentence = |situation| Err(NGINX.sentence(situation).unwrap().to_owned());
    for grows in [false, true] {
        assert_eq!(run(&ENVOY, grows).0, Ok(Some(200)));
    }
    assert_eq!(run(&NGINX, false).0, sentence(Situation::SharedDataFull));
    assert_eq!(run(&NGINX, true).0, sentence(Situation::ValueGrowsInFull));
    assert_eq!(run(&NGINX_WITHOUT_EVICTION, true).0, sentence(Situation::ValueGrowsInFull));
    let (last, mut process) = run(&NGINX_WITHOUT_EVICTION, false);
    assert_eq!(last, Ok(Some(500)), "it trapped, and the workers live");
    assert_eq!(process.traps().len(), 1);
    assert_eq!(process.shared_data().len(), 7, "nothing was evicted");
    for worker in 0..2 {
        assert_eq!(process.request(Request::get("/").at(worker)).unwrap().status, Some(200));
    }
}

/// A helper of nginx's own on a Unix socket, which speaks HTTP here and TCP with the peer of the query.
struct Helper;

impl Wiring for Helper {
    fn route(&self, _: &Routed<'_>) -> Decision {
        Decision::Status(204)
    }

    fn call(&self, call: &Outgoing<'_>) -> Destination {
        assert_eq!(call.header(":path").as_deref(), Some("/"));
        if call.to.starts_with("unix:/") {
            Destination::Http(call.to.to_owned())
        } else {
            Destination::Unknown
        }
    }
}

#[test]
fn a_call_reaches_a_helper_on_a_unix_socket() {
    let module = module(
        r#"(data (i32.const 100) "unix:/run/helper.sock")
           (func (export "proxy_on_configure") (param i32 i32) (result i32) (drop (call $tick (i32.const 1000))) (i32.const 1))
           (func (export "proxy_on_tick") (param i32)
             (call $say (call $http (i32.const 100) (i32.const 21) (i32.const 1000) (i32.const 62)
               (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 500) (i32.const 8))))
           (func (export "proxy_on_http_call_response") (param i32 i32 i32 i32 i32) (call $say (local.get 3)))"#,
    );
    let mut nginx = Process::nginx(&module, 1).workers(1).wiring(Helper);
    let agent = |_: &Received| Answer { body: b"up 50%\n".to_vec(), ..Answer::of(200) };
    nginx.world().peers.insert("unix:/run/helper.sock".to_owned(), Peer::answering(agent));
    nginx.start(&[Plugin::filter("f", "")]).unwrap();
    nginx.run_for(Duration::from_millis(1_500)).unwrap();
    assert_eq!(said(&nginx), "07", "the call was made, and its body came: seven bytes");
    assert_eq!(nginx.world().peer("unix:/run/helper.sock").received.len(), 1);
}

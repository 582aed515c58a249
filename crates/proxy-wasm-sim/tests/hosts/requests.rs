//! Requests: attempts, what the host says of them, answers of the module.

use std::time::Duration;

use proxy_wasm_sim::{
    Behaviour, Decision, Destination, End, Outcome, Outgoing, Plugin, Process, Request, Route, Routed, Variable, Wiring,
};

use crate::filters::{at_headers, module, said};

struct Three;

impl Wiring for Three {
    fn route(&self, request: &Routed<'_>) -> Decision {
        // Where failed requests start again, in new contexts, the next address follows from the attempts so far.
        let all = ["10.0.0.1:80", "10.0.0.2:80", "10.0.0.3:80"];
        let mut route =
            Route::to(all.iter().skip(request.attempts.len()).map(|address| (*address).to_owned()).collect());
        route.retries = 2;
        Decision::To(route)
    }

    fn call(&self, _: &Outgoing<'_>) -> Destination {
        Destination::Unknown
    }

    fn variable(&self, _: &str) -> Variable {
        Variable::Writable
    }
}

#[test]
fn each_host_tries_the_next_peer_in_its_own_way() {
    let module = at_headers("", "(call $say (i32.const 7))");
    for (mut process, contexts) in
        [(Process::envoy(&module, 3).wiring(Three), "7"), (Process::nginx(&module, 3).wiring(Three), "777")]
    {
        for (address, behaviour) in [
            ("10.0.0.1:80", Behaviour::Refuses),
            ("10.0.0.2:80", Behaviour::Resets),
            ("10.0.0.3:80", Behaviour::Answers),
        ] {
            process.world().peer(address).behaviour = behaviour;
        }
        process.start(&[Plugin::filter("f", "")]).unwrap();
        let outcome = process.request(Request::get("/")).unwrap();
        assert_eq!(outcome.status, Some(200));
        let ends: Vec<End> = outcome.attempts.iter().map(|attempt| attempt.end).collect();
        assert_eq!(ends, [End::Refused, End::Reset, End::Answered(200)]);
        assert_eq!(said(&process), contexts, "how often the filter ran");
    }
}

fn one(behaviour: Behaviour) -> (Outcome, Process) {
    let module = module(r#"(func (export "proxy_on_log") (param i32) (call $say (i32.const 7)))"#);
    let mut process = Process::envoy(&module, 1).everything_to("10.0.0.1:80");
    process.world().peer("10.0.0.1:80").behaviour = behaviour;
    process.start(&[Plugin::filter("f", "")]).unwrap();
    let outcome = process.request(Request::get("/")).unwrap();
    (outcome, process)
}

#[test]
fn envoy_tells_by_status_and_flags_how_a_request_ended() {
    for (behaviour, status, flags) in [
        (Behaviour::Answers, 200, 0),
        (Behaviour::Refuses, 503, 32),
        (Behaviour::BlackHole, 503, 32),
        (Behaviour::Resets, 503, 64),
        (Behaviour::Hangs, 504, 4),
        (Behaviour::Stalls, 200, 4),
        (Behaviour::CutsOff, 200, 64),
        (Behaviour::Garbage, 502, 0x0080_0000),
    ] {
        let (outcome, process) = one(behaviour);
        assert_eq!((outcome.status, outcome.flags), (Some(status), flags), "{behaviour:?}");
        assert_eq!(said(&process), "7", "{behaviour:?}: the log is always told");
    }
}

#[test]
fn envoy_tells_of_a_client_that_went_away_and_of_no_peer() {
    let module = module(r#"(func (export "proxy_on_log") (param i32) (call $say (i32.const 7)))"#);
    let mut process = Process::envoy(&module, 1).everything_to("10.0.0.1:80");
    process.world().peer("10.0.0.1:80").behaviour = Behaviour::Hangs;
    process.start(&[Plugin::filter("f", "")]).unwrap();
    let outcome = process.request(Request::get("/").aborts_after(Duration::from_millis(5))).unwrap();
    assert_eq!((outcome.status, outcome.flags), (None, 16_384));
    assert_eq!(said(&process), "7");

    let outcome = process.request(Request::get("/").aborts_after(Duration::ZERO)).unwrap();
    assert_eq!(outcome.status, None);
    assert_eq!(said(&process), "77", "also of a request whose headers the module never saw");

    struct Nowhere;
    impl Wiring for Nowhere {
        fn route(&self, _: &Routed<'_>) -> Decision {
            Decision::To(Route::to(Vec::new()))
        }
        fn call(&self, _: &Outgoing<'_>) -> Destination {
            Destination::Unknown
        }
    }
    let mut process = Process::envoy(&module, 1).wiring(Nowhere);
    process.start(&[Plugin::filter("f", "")]).unwrap();
    let outcome = process.request(Request::get("/")).unwrap();
    assert_eq!((outcome.status, outcome.flags, outcome.details.as_str()), (Some(503), 2, "no_healthy_upstream"));
}

#[test]
fn a_module_answers_by_itself_and_no_peer_is_asked() {
    let module = module(
        r#"(data (i32.const 100) "teapot")
           (func (export "proxy_on_request_headers") (param i32 i32 i32) (result i32)
             (drop (call $answer (i32.const 418) (i32.const 0) (i32.const 0) (i32.const 100) (i32.const 6)
               (i32.const 0) (i32.const 0) (i32.const -1)))
             (i32.const 1))"#,
    );
    for mut process in [Process::envoy(&module, 1), Process::nginx(&module, 1)] {
        process = process.everything_to("10.0.0.1:80");
        process.start(&[Plugin::filter("f", "")]).unwrap();
        let outcome = process.request(Request::get("/")).unwrap();
        assert_eq!(
            (outcome.status, outcome.body.as_slice(), outcome.by_module),
            (Some(418), b"teapot".as_slice(), true)
        );
        assert!(process.world().peer("10.0.0.1:80").received.is_empty());
    }
}

#[test]
fn the_end_of_a_request_without_a_body_is_told_at_the_headers_by_envoy_alone() {
    let module = module(
        r#"(func (export "proxy_on_request_headers") (param i32 i32 i32) (result i32)
             (call $say (local.get 2)) (i32.const 0))"#,
    );
    for (mut process, end) in [(Process::envoy(&module, 1), "1"), (Process::nginx(&module, 1), "0")] {
        process = process.everything_to("10.0.0.1:80");
        process.start(&[Plugin::filter("f", "")]).unwrap();
        process.request(Request::get("/")).unwrap();
        assert_eq!(said(&process), end);
    }
}

#[test]
fn a_header_that_the_module_adds_reaches_the_peer() {
    let module = at_headers(
        r#"(data (i32.const 100) "x-wat")"#,
        "(drop (call $add_header (i32.const 0) (i32.const 100) (i32.const 5) (i32.const 102) (i32.const 3)))",
    );
    let mut process = Process::envoy(&module, 1).everything_to("10.0.0.1:80");
    process.start(&[Plugin::filter("f", "")]).unwrap();
    process.request(Request::get("/")).unwrap();
    let received = process.world().peer("10.0.0.1:80").received.clone();
    assert_eq!(received.len(), 1);
    assert!(received[0].headers.contains(&("x-wat".to_owned(), b"wat".to_vec())), "{received:?}");
}

#[test]
fn request_headers_are_out_of_reach_in_the_response_phase_of_envoy() {
    let module = module(
        r#"(data (i32.const 100) ":path")
           (func (export "proxy_on_response_headers") (param i32 i32 i32) (result i32)
             (call $say (call $header (i32.const 0) (i32.const 100) (i32.const 5) (i32.const 8) (i32.const 12)))
             (i32.const 0))"#,
    );
    for (mut process, status) in [(Process::envoy(&module, 1), "2"), (Process::nginx(&module, 1), "0")] {
        process = process.everything_to("10.0.0.1:80");
        process.start(&[Plugin::filter("f", "")]).unwrap();
        process.request(Request::get("/")).unwrap();
        assert_eq!(said(&process), status);
    }
}

/// What a gateway says bears its mark, be it an answer or a word on a peer that is not there; without a gateway nothing does.
#[test]
fn a_gateway_marks_what_it_says_of_a_peer() {
    struct Calls(Destination);
    impl Wiring for Calls {
        fn route(&self, _: &Routed<'_>) -> Decision {
            Decision::Status(204)
        }
        fn call(&self, _: &Outgoing<'_>) -> Destination {
            self.0.clone()
        }
    }
    // For each callback a letter, the number of headers, and whether the mark is there (0) or not (1).
    let module = module(
        r#"(data (i32.const 100) "x-mark") (data (i32.const 110) "<>[]{}")
           (func (export "proxy_on_request_headers") (param i32 i32 i32) (result i32)
             (drop (call $grpc (i32.const 1100) (i32.const 4) (i32.const 1100) (i32.const 4) (i32.const 1100) (i32.const 4)
               (i32.const 0) (i32.const 0) (i32.const 8)))
             (i32.const 1))
           (func $tell (param $letter i32) (param $map i32) (param $count i32)
             (call $text (local.get $letter) (i32.const 1))
             (call $say (local.get $count))
             (call $say (call $header (local.get $map) (i32.const 100) (i32.const 6) (i32.const 8) (i32.const 12))))
           (func (export "proxy_on_grpc_receive_initial_metadata") (param i32 i32 i32)
             (call $tell (i32.const 110) (i32.const 4) (local.get 2)))
           (func (export "proxy_on_grpc_receive_trailing_metadata") (param i32 i32 i32)
             (call $tell (i32.const 111) (i32.const 5) (local.get 2)))
           (func (export "proxy_on_grpc_close") (param i32 i32 i32) (call $say (local.get 2)))"#,
    );
    let peer = || "10.0.0.1:80".to_owned();
    let gateway = || Destination::Gateway(peer(), vec![("x-mark".to_owned(), "1".to_owned())]);
    for (to, behaviour, told) in [
        (gateway(), Behaviour::Answers, "<20"),
        (gateway(), Behaviour::Refuses, "<01>50>"),
        (Destination::Tcp(peer()), Behaviour::Answers, "<11"),
        (Destination::Tcp(peer()), Behaviour::Refuses, "<01>41>"),
    ] {
        let what = format!("{to:?} {behaviour:?}");
        let mut process = Process::envoy(&module, 1).wiring(Calls(to));
        process.world().peer("10.0.0.1:80").behaviour = behaviour;
        process.start(&[Plugin::filter("f", "")]).unwrap();
        // It waits: with it the call would end.
        process.send(Request::get("/"));
        process.run_for(Duration::from_secs(3)).unwrap();
        assert_eq!(said(&process), told, "{what}");
    }
}

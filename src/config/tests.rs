//! What a configuration's author is told.

use std::time::Duration;

use super::*;
use crate::model::server::Server;
use crate::testing::test;

fn parse(text: &str) -> Result<Config, ConfigErrors> {
    Config::parse(text.as_bytes(), Capabilities::default(), &Registry::default())
}

fn errors(text: &str) -> Vec<String> {
    parse(text).unwrap_err().errors().iter().map(ToString::to_string).collect()
}

/// The errors of one upstream with these members.
fn upstream_errors(members: &str) -> Vec<String> {
    errors(&format!("{{\"upstreams\": {{\"foo\": {{{members}}}}}}}"))
}

fn servers(list: &str) -> Vec<Server> {
    parse(&format!("{{\"upstreams\": {{\"foo\": {{\"servers\": {list}}}}}}}")).unwrap().upstreams.remove(0).1.servers
}

#[test]
fn a_server_means_just_what_it_says() {
    let read = servers(
        r#"["localhost:8080 weight=7 fail_timeout=15", {"host": "10.0.0.2", "port": 8090, "weight": 7,
        "fail_timeout": "1m 30s"}, {"name": "[::1]:81", "max_fails": 0, "backup": true}, "10.0.0.3", "0.0.0.0",
        "10.0.0.4:1 down", "10.0.0.5:1 drain max_fails=3", {"host": "::2"}]"#,
    );
    let names: Vec<&str> = read.iter().map(|server| server.name.as_str()).collect();
    let expected =
        ["localhost:8080", "10.0.0.2:8090", "[::1]:81", "10.0.0.3:80", "10.0.0.4:1", "10.0.0.5:1", "[::2]:80"];
    assert_eq!(names, expected, "and the placeholder is ignored");
    assert_eq!((read[0].weight, read[0].fail_timeout), (7, Duration::from_secs(15)));
    assert_eq!((read[1].weight, read[1].fail_timeout), (7, Duration::from_secs(90)));
    assert_eq!((read[2].max_fails, read[2].backup, read[2].weight), (0, true, 1));
    assert!(read[4].down && read[5].drain && read[5].max_fails == 3);
}

#[test]
fn server_defaults_apply_where_a_server_says_nothing() {
    let text = r#"{"default_port": 8080, "upstreams": {"foo": {"server_defaults": {"weight": 3, "fail_timeout": 2.5},
        "servers": ["10.0.0.1", "10.0.0.2:81 weight=5", {"host": "10.0.0.3"}]}}}"#;
    let read = parse(text).unwrap().upstreams.remove(0).1.servers;
    let all: Vec<(&str, u16)> = read.iter().map(|server| (server.name.as_str(), server.weight)).collect();
    assert_eq!(all, [("10.0.0.1:8080", 3), ("10.0.0.2:81", 5), ("10.0.0.3:8080", 3)]);
    assert!(read.iter().all(|server| server.fail_timeout == Duration::from_millis(2_500)));
}

#[test]
fn every_error_has_its_place() {
    for (members, expected) in [
        (r#""servers": ["a:1", "b:1", "10.0.0.1 weight=0"]"#, "upstreams.foo.servers[2].weight: expected an integer from 1 to 65535, found 0"),
        (r#""servers": [{"host": "10.0.0.1", "weight": 2.5}]"#, "upstreams.foo.servers[0].weight: expected an integer from 1 to 65535, found 2.5"),
        (r#""servers": [{"host": "10.0.0.1", "weight": "9"}]"#, "upstreams.foo.servers[0].weight: expected an integer from 1 to 65535, found \"9\""),
        (r#""servers": ["10.0.0.1 weight=-1"]"#, "upstreams.foo.servers[0].weight: expected an integer from 1 to 65535, found \"-1\""),
        (r#""servers": ["10.0.0.1 weight=65536"]"#, "upstreams.foo.servers[0].weight: expected an integer from 1 to 65535, found 65536"),
        (r#""servers": ["10.0.0.1 weight"]"#, "upstreams.foo.servers[0].weight: expected weight=…, found weight alone"),
        (r#""servers": ["10.0.0.1 down=1"]"#, "upstreams.foo.servers[0].down: expected down alone, found \"down=1\""),
        (r#""servers": ["10.0.0.1 weight=1 weight=2"]"#, "upstreams.foo.servers[0].weight: this parameter appears more than once"),
        (r#""servers": ["10.0.0.1 wait=1"]"#, "upstreams.foo.servers[0]: unknown parameter \"wait=1\", expected one of weight, max_fails, fail_timeout, max_conns, slow_start, down, backup, drain"),
        (r#""servers": ["10.0.0.1 fail_timeout=10x"]"#, "upstreams.foo.servers[0].fail_timeout: expected a time such as 10, \"250ms\", \"10s\", \"5m\" or \"1h 30m\", found \"10x\""),
        (r#""servers": ["10.0.0.1 service=http"]"#, "upstreams.foo.servers[0]: the parameter \"service=http\" is not supported yet"),
        (r#""servers": [""]"#, "upstreams.foo.servers[0]: expected a server such as \"host:port weight=5\", found \"\""),
        (r#""servers": ["10.0.0.1:99999"]"#, "upstreams.foo.servers[0]: expected a port from 1 to 65535, found \"10.0.0.1:99999\""),
        (r#""servers": [7]"#, "upstreams.foo.servers[0]: expected a server as a string or an object, found 7"),
        (r#""servers": [{"port": 80}]"#, "upstreams.foo.servers[0]: expected a server with a \"name\" or a \"host\", found neither"),
        (r#""servers": [{"name": "10.0.0.1:80", "port": 81}]"#, "upstreams.foo.servers[0].port: expected the port of \"name\", or no port at all"),
        (r#""servers": [{"name": "10.0.0.1:80", "host": "10.0.0.2"}]"#, "upstreams.foo.servers[0].host: expected the host of \"name\", or no host at all"),
        (r#""servers": ["10.0.0.1", "10.0.0.1:80"]"#, "upstreams.foo.servers[1]: two servers of the name \"10.0.0.1:80\""),
        (r#""servers": {}"#, "upstreams.foo.servers: expected an array of servers, found an object"),
        (r#""retries": 3"#, "upstreams.foo.retries: expected an integer from 0 to 2, found 3"),
        (r#""retires": 2"#, "upstreams.foo.retires: unknown key, expected one of servers, balancer, retries, monitors, fail_codes, max_ejected_percent, server_defaults"),
        (r#""balancer": "roundrobin""#, "upstreams.foo.balancer: expected one of \"round-robin\", \"unweighted-round-robin\", \"ip-hash\", \"consistent-hash\", \"ketama\", \"random\", \"least-conn\", \"least-time\", found \"roundrobin\""),
        (r#""balancer": "ketama""#, "upstreams.foo.balancer: expected ketama with a \"key\", found none"),
        (r#""balancer": {"name": "ip-hash", "key": "$host"}"#, "upstreams.foo.balancer.key: ip-hash hashes the client's address"),
        (r#""balancer": {"name": "ip-hash", "bound": 1}"#, "upstreams.foo.balancer.bound: expected a number above 1 and up to 100, found 1"),
        (r#""balancer": {"name": "random", "bound": 2}"#, "upstreams.foo.balancer.bound: random hashes no key, so there is nothing to bound"),
        (r#""balancer": {"name": "ip-hash", "bind": 2}"#, "upstreams.foo.balancer.bind: unknown key, expected one of name, key, bound"),
        (r#""max_ejected_percent": 101"#, "upstreams.foo.max_ejected_percent: expected an integer from 0 to 100, found 101"),
        (r#""balancer": {"name": "round-robin", "key": "$host"}"#, "upstreams.foo.balancer.key: round-robin hashes no key"),
        (r#""fail_codes": "5xx 99""#, "upstreams.foo.fail_codes: expected status codes such as \"101 102 2xx 3xx\", found \"99\""),
        (r#""server_defaults": {"backup": true}"#, "upstreams.foo.server_defaults.backup: unknown key, expected one of weight, max_fails, fail_timeout, max_conns, slow_start"),
        (r#""retries": 1, "retries": 2"#, "upstreams.foo.retries: this key appears more than once"),
    ] {
        let found = upstream_errors(members);
        assert!(found.iter().any(|error| error == expected), "{members}\n  expected {expected}\n  found    {found:#?}");
    }
}

#[test]
fn errors_of_the_whole_have_their_place_too() {
    for (text, expected) in [
        ("", "configuration: expected a JSON object, found nothing"),
        ("[]", "configuration: expected a JSON object, found an array"),
        ("{", "configuration: not valid JSON: EOF while parsing an object at line 1 column 1"),
        (r#"{"upstream": "foo", "routes": []}"#, "upstream: expected either \"upstream\" or \"routes\", found both"),
        (r#"{"default_port": 0}"#, "default_port: expected an integer from 1 to 65535, found 0"),
        (r#"{"upstreams": {"a.b": 1}}"#, "upstreams[\"a.b\"]: expected an upstream, found 1"),
        (
            r#"{"upstreams": {"": {}}}"#,
            "upstreams[\"\"]: expected a name of 1 to 255 bytes without control characters, found \"\"",
        ),
        (
            r#"{"routes": [{"prefix": "foo", "upstream": "u"}]}"#,
            "routes[0].prefix: expected a path that starts with / and has no query, found \"foo\"",
        ),
        (r#"{"routes": [{"prefix": "/"}]}"#, "routes[0]: expected a route with an \"upstream\", found none"),
        (
            r#"{"routes": [{"regex": "^/(", "upstream": "u"}]}"#,
            "routes[0].regex: not a regular expression: found open group without closing ')'",
        ),
        (
            r#"{"routes": [{"regex": "^/x", "upstream": "$1"}]}"#,
            "routes[0].upstream: expected variables up to $0, the groups of the route's regex, found $1",
        ),
        (
            r#"{"routes": [{"host": "a:80", "upstream": "u"}]}"#,
            "routes[0].host: expected an IP address or a host name without a port, found \"a:80\"",
        ),
        (
            r#"{"routes": [{"method": "get", "upstream": "u"}]}"#,
            "routes[0].method: expected a request method in upper case, found \"get\"",
        ),
        (r#"{"resolver_ipv6": "off"}"#, "resolver_ipv6: expected true or false, found \"off\""),
        (r#"{"resolver": "dns"}"#, "resolver: expected a name server as \"IP\" or \"IP:port\", found \"dns\""),
        (
            r#"{"resolver": ["8.8.8.8", "1.1.1.1:0"]}"#,
            "resolver[1]: expected a name server as \"IP\" or \"IP:port\", found \"1.1.1.1:0\"",
        ),
        (
            r#"{"admin": {"prefix": "durpina"}}"#,
            "admin.prefix: expected a path such as \"/durpina\", without a slash at its end, found \"durpina\"",
        ),
        (
            r#"{"admin": {"prefix": "/d", "allow": ["10.0.0.0/33"]}}"#,
            "admin.allow[0]: expected a network such as \"10.0.0.0/8\" or \"::1\", found \"10.0.0.0/33\"",
        ),
        (
            r#"{"admin": {"prefix": "/d", "hosts": ["a:80"]}}"#,
            "admin.hosts[0]: expected an IP address or a host name without a port, found \"a:80\"",
        ),
        (r#"{"admin": {"prefix": "/d", "hosts": "a"}}"#, "admin.hosts: expected an array of host names, found \"a\""),
        (r#"{"admin": {"token": "x"}}"#, "admin.prefix: expected a path such as \"/durpina\", found nothing"),
    ] {
        let found = errors(text);
        assert!(found.iter().any(|error| error == expected), "{text}\n  expected {expected}\n  found    {found:#?}");
    }
}

#[test]
fn all_errors_are_reported_at_once() {
    let found = errors(
        r#"{"upstreams": {"foo": {"servers": ["10.0.0.1 weight=0", "10.0.0.2 weight=x down=1"], "retries": -1}}, "x": 1}"#,
    );
    assert_eq!(found.len(), 5, "{found:#?}");
    let many: String = (0..500).map(|_| "\"10.0.0.1 weight=0\",").collect();
    let errors = parse(&format!("{{\"upstreams\": {{\"foo\": {{\"servers\": [{many} \"a\"]}}}}}}")).unwrap_err();
    assert!(errors.count() > 500 && errors.errors().len() <= 100);
    assert!(errors.to_string().ends_with("more errors"));
}

#[test]
fn no_secret_is_in_an_error() {
    for token in ["[\"hunter2\"]", "{\"hunter2\": 1}", "271828182", ""] {
        let text = format!(
            "{{\"admin\": {{\"prefix\": \"/d\", \"token\": {}}}}}",
            if token.is_empty() { "\"\"" } else { token }
        );
        let found = errors(&text).join("\n");
        assert!(found.contains("admin.token: expected a string"), "{found}");
        assert!(!found.contains("hunter2") && !found.contains("271828182"), "{found}");
    }
}

#[test]
fn names_without_a_resolver_are_an_error_where_the_host_resolves_none() {
    assert!(upstream_errors(r#""servers": ["host1:8080"]"#)[0]
        .starts_with("upstreams.foo.servers[0]: expected an IP address"));
    let text = r#"{"upstreams": {"foo": {"servers": ["host1:8080"]}}}"#;
    let host = Capabilities { resolves_names: true, ..Capabilities::default() };
    assert!(Config::parse(text.as_bytes(), host, &Registry::default()).is_ok());
}

#[test]
fn an_upstream_of_somebody_else_is_a_warning() {
    let config = parse(r#"{"routes": [{"prefix": "/", "upstream": "elsewhere"}]}"#).unwrap();
    assert_eq!(config.warnings.len(), 1);
    assert_eq!(config.warnings[0].place, "routes[0].upstream");
}

#[test]
fn a_monitor_s_cluster_counts_where_the_host_has_such_things_and_is_a_warning_elsewhere() {
    let text = r#"{"upstreams": {"foo": {"monitors": [{"name": "tcp"}, {"name": "grpc", "cluster": "h2", "service": ""}]}},
        "envoy": {"grpc_cluster": "other"}}"#;
    let config = parse(text).unwrap();
    let monitors = &config.upstreams[0].1.monitors;
    assert_eq!((monitors[0].cluster.as_str(), monitors[1].cluster.as_str()), ("", "h2"));
    assert_eq!((config.clusters.grpc.as_str(), config.warnings.len()), ("other", 0));
    let host = Capabilities { has_clusters: false, ..Capabilities::default() };
    let config = Config::parse(text.as_bytes(), host, &Registry::default()).unwrap();
    let warnings: Vec<String> = config.warnings.iter().map(ToString::to_string).collect();
    let warning =
        "upstreams.foo.monitors[1].cluster: this proxy has no clusters by name: the monitor asks servers directly";
    assert_eq!(warnings, [warning]);
}

#[test]
fn kept_connections_are_of_monitors_over_http_and_a_warning_where_the_host_keeps_none() {
    let text = r#"{"upstreams": {"foo": {"monitors": [{"name": "http"}, {"name": "grpc", "keepalive": true},
        {"name": "http-haproxy-agent-check", "keepalive": true}]}}}"#;
    let config = parse(text).unwrap();
    assert_eq!(
        config.upstreams[0].1.monitors.iter().map(|spec| spec.keepalive).collect::<Vec<_>>(),
        [false, true, true]
    );
    let host = Capabilities { has_clusters: false, ..Capabilities::default() };
    let config = Config::parse(text.as_bytes(), host, &Registry::default()).unwrap();
    let warnings: Vec<String> = config.warnings.iter().map(ToString::to_string).collect();
    let warning =
        "upstreams.foo.monitors[1].keepalive: this proxy keeps no connections of checks: each check makes a new one";
    assert_eq!(warnings, [warning]);
    assert!(config.upstreams[0].1.monitors.iter().all(|spec| !spec.keepalive));
}

#[test]
fn nginx_has_a_helper_in_place_of_clusters() {
    let nginx = Capabilities { has_clusters: false, ..Capabilities::default() };
    let helper = |text: &str, host| Config::parse(text.as_bytes(), host, &Registry::default()).unwrap().clusters.tcp;
    let text = r#"{"nginx": {"helper": "unix:/run/durpina.sock"}, "envoy": {"tcp_cluster": "other"}}"#;
    assert_eq!(helper(text, nginx), "unix:/run/durpina.sock");
    assert_eq!(helper(text, Capabilities::default()), "other");
    assert_eq!(helper("{}", nginx), "", "none is needed for checks over HTTP");
    for wrong in ["/run/durpina.sock", "unix:run", "unix:/run/a b", "unix:/run/a:b", "127.0.0.1:80", "unix:"] {
        let found = errors(&format!(r#"{{"nginx": {{"helper": "{wrong}"}}}}"#));
        assert!(found[0].starts_with("nginx.helper: expected the address of a Unix socket"), "{wrong}: {found:?}");
    }
    assert_eq!(errors(&format!(r#"{{"nginx": {{"helper": "unix:/{}"}}}}"#, "x".repeat(107))).len(), 1);
    assert_eq!(errors(r#"{"nginx": {"sock": 1}}"#).len(), 1);
}

#[test]
fn what_is_wrong_with_a_monitor_is_said() {
    for (monitor, expected) in [
        (r#"{"name": "http", "interval": 0}"#, "upstreams.foo.monitors[0].interval: expected a time"),
        (r#"{"name": "htp"}"#, "upstreams.foo.monitors[0].name: expected one of \"http\""),
        (r#"{"name": "tcp", "url": "/"}"#, "upstreams.foo.monitors[0].url: unknown key"),
        (r#"{"name": "http", "header_": "x"}"#, "upstreams.foo.monitors[0].header_: expected header_ and the name"),
        (
            r#"{"name": "tcp", "cluster": ""}"#,
            "upstreams.foo.monitors[0].cluster: expected the name of a cluster of 1 to 120 bytes, found \"\"",
        ),
        (
            r#"{"name": "tcp", "cluster": 7}"#,
            "upstreams.foo.monitors[0].cluster: expected the name of a cluster, found 7",
        ),
        (
            r#"{"name": "http", "expect_body": ""}"#,
            "upstreams.foo.monitors[0].expect_body: expected a text of 1 to 1000 bytes, found \"\"",
        ),
        (r#"{"name": "tcp", "expect_body": "a"}"#, "upstreams.foo.monitors[0].expect_body: unknown key"),
        (r#"{"name": "tcp", "keepalive": true}"#, "upstreams.foo.monitors[0].keepalive: unknown key"),
        (r#"{"name": "http", "keepalive": 1}"#, "upstreams.foo.monitors[0].keepalive: expected "),
        (r#"{"name": "grpc", "service": ["a"]}"#, "upstreams.foo.monitors[0].service: expected a text, found "),
        (r#"{"name": "grpc", "url": "/"}"#, "upstreams.foo.monitors[0].url: unknown key"),
        (r#"{"name": "http", "ok_codes": "2x"}"#, "upstreams.foo.monitors[0].ok_codes: expected status codes"),
        (
            r#"{"name": "http", "schedule": "random"}"#,
            "upstreams.foo.monitors[0].schedule: expected one of \"rotate\", \"all\"",
        ),
        (r#"{"name": "http"}, {"name": "http"}"#, "upstreams.foo.monitors[1]: two monitors of the id \"http\""),
    ] {
        let found = upstream_errors(&format!("\"monitors\": [{monitor}]"));
        assert!(found.iter().any(|error| error.starts_with(expected)), "{monitor}: {found:#?}");
    }
}

#[test]
fn no_input_makes_it_panic() {
    let good = r#"{"upstreams": {"f": {"servers": ["10.0.0.1:80 weight=5", {"host": "::1", "port": 1}], "retries": 1,
        "balancer": {"name": "consistent-hash", "key": "${property:a.b}$1"}, "monitors": [{"name": "http", "timeout": 5}]}},
        "routes": [{"regex": "^/(a|b)+", "upstream": "$1", "host": "a"}], "admin": {"prefix": "/d", "allow": ["::/0"]}}"#;
    let mut random = fastrand::Rng::with_seed(3);
    for _ in 0..20_000 {
        let mut bytes = good.as_bytes().to_vec();
        for _ in 0..random.usize(1..6) {
            let at = random.usize(..bytes.len());
            match random.u8(..3) {
                0 => bytes[at] = random.u8(..),
                1 => drop(bytes.remove(at)),
                _ => bytes.insert(at, *random.choice(b"{}[]\",:0-9e.$\\\xff").unwrap()),
            }
        }
        let _ = Config::parse(&bytes, Capabilities::default(), &Registry::default());
    }
    let deep = "[".repeat(100_000);
    assert!(parse(&deep).is_err());
}

#[test]
fn tables_that_there_is_no_room_for_are_reduced_with_a_warning() {
    let config = |upstreams: usize, balancer: &str, weight: u16| {
        let servers: Vec<String> = (0..20).map(|n| format!("\"10.0.0.{n} weight={weight}\"")).collect();
        let servers = servers.join(",");
        let upstream =
            |n| format!(r#""u{n}": {{"servers": [{servers}], "balancer": {{"name": "{balancer}", "key": "$uri"}}}}"#);
        let upstreams: Vec<String> = (0..upstreams).map(upstream).collect();
        parse(&format!(r#"{{"upstreams": {{"other": {{}}, {}}}}}"#, upstreams.join(","))).unwrap()
    };
    for (upstreams, balancer, weight) in [(60, "consistent-hash", 1), (100, "ketama", 10)] {
        let few = config(upstreams, balancer, weight);
        assert!(few.warnings.is_empty(), "{:?}", few.warnings);
        assert!(few.upstreams.iter().all(|(_, spec)| spec.balancer.reduction == 0));
    }
    let many = config(1_000, "consistent-hash", 1);
    assert_eq!(
        many.warnings[0].to_string(),
        "upstreams: the tables of ip-hash and consistent-hash, 1000 upstreams, would take 126 MiB of each worker's memory if all \
         were in use, and there is room for 8 MiB: they are reduced to 0 MiB, so shares of traffic are less exact, and a peer \
         that goes moves more keys of others"
    );
    assert_eq!(many.upstreams.iter().filter(|(_, spec)| spec.balancer.reduction == 1).count(), 1_000);
    let heavy = config(100, "ketama", 65_535);
    assert!(heavy.warnings[0].message.contains("picks may differ from nginx's"), "{:?}", heavy.warnings);
}

#[test]
fn labels_are_texts_by_name() {
    let read = servers(r#"[{"host": "10.0.0.1", "labels": {"zone": "eu-1"}}]"#);
    assert_eq!(read[0].labels, [("zone".to_owned(), "eu-1".to_owned())]);
    let of = |labels: &str| upstream_errors(&format!(r#""servers": [{{"host": "10.0.0.1", "labels": {labels}}}]"#));
    let place = "upstreams.foo.servers[0].labels";
    let what = "expected at most 16 labels: names of 1 to 63 bytes, texts of 0 to 255, found";
    assert_eq!(of(r#"{"zone": 1}"#), [format!("{place}.zone: {what} 1")]);
    assert_eq!(of("[]"), [format!("{place}: expected an object of labels by name, found an array")]);
    assert_eq!(of(r#"{"": "x"}"#), [format!("{place}[\"\"]: {what} \"x\"")]);
    let many: Vec<String> = (0..17).map(|n| format!("\"{n}\": \"x\"")).collect();
    assert_eq!(of(&format!("{{{}}}", many.join(","))), [format!("{place}.16: {what} \"x\"")]);
}

#[test]
fn maps_and_groups_are_variables_where_they_are_known() {
    let with = |maps: &str, key: &str, route: &str| {
        format!(
            r#"{{"maps": {maps}, "upstreams": {{"u": {{"balancer": {{"name": "ketama", "key": "{key}"}}}}}}, "routes": [{route}]}}"#
        )
    };
    let zone = r#"{"zone": {"from": "$http_x_zone", "values": {"eu-1": "eu", "$x": "$host"}, "default": "us"}}"#;
    let user = r#"{"regex": "^/(?<user>[0-9]+)", "upstream": "u-$user-$zone"}"#;
    assert!(parse(&with(zone, "$zone/$user", user)).is_ok());
    let no_zone = errors(&with("{}", "$zone", r#"{"upstream": "u"}"#));
    assert!(no_zone[0].starts_with("upstreams.u.balancer.key: expected a variable out of"), "{no_zone:?}");
    assert!(no_zone[0].ends_with("found \"$zone\"") && no_zone.len() == 1);
    let other_route =
        errors(&with("{}", "$user", &format!(r#"{}, {{"upstream": "$user"}}"#, user.replace("-$zone", ""))));
    assert!(other_route[0].starts_with("routes[1].upstream: expected a variable out of"), "{other_route:?}");
    for (maps, route, expected) in [
        (
            r#"{"host": {"from": "$uri"}}"#,
            "",
            "maps.host: expected a map's name of 1 to 64 letters, digits and _ that no variable has, found \"host\"",
        ),
        (
            r#"{"1a": {"from": "$uri"}}"#,
            "",
            "maps.1a: expected a map's name of 1 to 64 letters, digits and _ that no variable has, found \"1a\"",
        ),
        (r#"{"a": {}}"#, "", "maps.a: expected a map with \"from\", found none"),
        (
            r#"{"a": {"from": "$uri", "values": {"x": 1}}}"#,
            "",
            "maps.a.values.x: expected a text with variables, found 1",
        ),
        (
            r#"{"a": {"from": "$uri", "vlaues": {}}}"#,
            "",
            "maps.a.vlaues: unknown key, expected one of from, values, default",
        ),
        (
            r#"{"a": {"from": "$b"}, "b": {"from": "$uri", "default": "$c"}, "c": {"from": "$a"}}"#,
            "",
            "maps.a: the map $a needs itself, directly or through others, or more than 1000 variables",
        ),
        (
            r#"{"a": {"from": "$a"}}"#,
            "",
            "maps.a: the map $a needs itself, directly or through others, or more than 1000 variables",
        ),
        (
            r#"{"user": {"from": "$uri"}}"#,
            r#"{"regex": "(?P<user>x)", "upstream": "u"}"#,
            "routes[0].regex: there is a variable $user already",
        ),
        ("{}", r#"{"regex": "(?<uri>x)", "upstream": "u"}"#, "routes[0].regex: there is a variable $uri already"),
    ] {
        assert_eq!(errors(&with(maps, "$uri", route)), [expected], "{maps} {route}");
    }
}

/// It is what whoever comes from there copies.
#[test]
fn the_guide_s_configuration_is_good() {
    let guide = include_str!("../../docs/from-durpina.md");
    let json = guide.split("```json\n").nth(1).and_then(|rest| rest.split("```").next()).unwrap();
    let config = parse(json).unwrap();
    assert_eq!((config.upstreams.len(), config.route_count(), config.warnings.len()), (2, 2, 0));
}

/// Each of them uses the next one twice: forty would be a million million variables.
#[test]
fn maps_that_come_to_more_than_a_request_can_wait_for_are_refused() {
    let doubling = |count: usize| {
        let map = |at: usize| format!(r#""m{at}": {{"from": "$uri", "default": "$m{0}$m{0}"}}"#, at + 1);
        let last = format!(r#""m{count}": {{"from": "$uri", "default": "x"}}"#);
        let maps: Vec<String> = (0..count).map(map).chain([last]).collect();
        format!(r#"{{"maps": {{{}}}, "upstreams": {{"u": {{}}}}, "upstream": "$m0"}}"#, maps.join(", "))
    };
    assert!(parse(&doubling(7)).is_ok());
    let refused = parse(&doubling(40)).unwrap_err().to_string();
    let expected = "needs itself, directly or through others, or more than 1000 variables";
    assert!(refused.starts_with("maps.m") && refused.ends_with(expected) && !refused.contains('\n'), "{refused}");
    let chain = |count: usize| {
        let map = |at: usize| format!(r#""m{at}": {{"from": "$m{}"}}"#, at + 1);
        let last = format!(r#""m{count}": {{"from": "$uri"}}"#);
        let maps: Vec<String> = (0..count).map(map).chain([last]).collect();
        format!(r#"{{"maps": {{{}}}, "upstreams": {{"u": {{}}}}, "upstream": "$m0"}}"#, maps.join(", "))
    };
    assert!(parse(&chain(300)).is_ok() && parse(&chain(900)).is_err());
}

#[test]
fn headers_of_the_candidates_have_three_different_names_of_no_other_use() {
    let names = |names: &str| parse(&format!(r#"{{"envoy": {{"peer_headers": {names}}}}}"#));
    let good = names(r#"[":durpina-1", "x-envoy-retriable-status-codes", "x-a"]"#).unwrap();
    assert_eq!(good.peer_headers.names(), &[":durpina-1", "x-envoy-retriable-status-codes", "x-a"]);
    assert_eq!(good.peer_headers.others(), ["x-durpina-peer", "x-durpina-peer-2", "x-durpina-peer-3"]);
    assert_eq!(parse("{}").unwrap().peer_headers, crate::host::PeerHeaders::default());
    for (text, place) in [
        (r#""x-a""#, "envoy.peer_headers: expected an array of three header names"),
        (r#"["x-a", "x-b"]"#, "envoy.peer_headers: expected 3 header names, found 2"),
        (r#"["x-a", "x-b", "x-a"]"#, "envoy.peer_headers[2]: expected three different names"),
        (r#"["x-a", "X-b", "x-c"]"#, "envoy.peer_headers[1]: expected the name of a header, in lower case"),
        (r#"["x a", "x-b", "x-c"]"#, "envoy.peer_headers[0]: expected the name of a header, in lower case"),
        (r#"[":", "x-b", "x-c"]"#, "envoy.peer_headers[0]: expected the name of a header, in lower case"),
        (r#"["x-a", "::b", "x-c"]"#, "envoy.peer_headers[1]: expected the name of a header, in lower case"),
        (r#"["x-a", "x-b", 3]"#, "envoy.peer_headers[2]: expected the name of a header"),
        (
            r#"[":authority", "x-b", "x-c"]"#,
            "envoy.peer_headers[0]: expected the name of a header that is of no other use",
        ),
        (r#"["x-a", ":abc", "x-c"]"#, "envoy.peer_headers[1]: expected the name of a header that is of no other use"),
        (r#"["x-a", ":path", "x-c"]"#, "envoy.peer_headers[1]: expected the name of a header that is of no other use"),
        (r#"["x-a", "x-b", "host"]"#, "envoy.peer_headers[2]: expected the name of a header that is of no other use"),
    ] {
        let errors = names(text).unwrap_err().to_string();
        assert!(errors.starts_with(place), "{text}: {errors}");
    }
}

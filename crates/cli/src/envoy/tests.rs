//! What is put in comes out to the byte, however the text is written.

use super::check::check;
use super::filter::Filter;
use super::graft::{graft, Wishes};
use super::part::{Part, Style};
use super::places::File;
use super::prune::{pointed, prune};
use super::yaml::Doc;
use super::{places, put, remove};

const JSON: &str = r#"{"upstreams": {"web": {"servers": ["127.0.0.1:1"], "monitors": [{"name": "http"}, {"name": "tcp"}]}},
  "upstream": "web"}
"#;

fn files(texts: &[String]) -> Vec<File> {
    let read = |(at, text): (usize, &String)| File {
        name: at.to_string(),
        doc: Doc::parse(text).unwrap_or_else(|error| panic!("{error}\n{text}")),
    };
    texts.iter().enumerate().map(read).collect()
}

fn texts(files: Vec<File>) -> Vec<String> {
    files.into_iter().map(|file| file.doc.text().to_owned()).collect()
}

fn wishes(routes: &[&str]) -> Wishes {
    Wishes {
        managers: Vec::new(),
        routes: routes.iter().map(|route| (*route).to_owned()).collect(),
        peers: None,
        wasm: Some("/durpina.wasm".to_owned()),
        socket: Some("/tmp/durpina.sock".to_owned()),
    }
}

/// Fails with the difference.
#[track_caller]
fn same(left: &[String], right: &[String], why: &str) {
    for (left, right) in left.iter().zip(right) {
        let difference = similar::TextDiff::from_lines(left, right).unified_diff().context_radius(8).to_string();
        // What differs in the ends of lines alone is seen only so.
        assert!(left == right, "{why}:\n{}", difference.replace('\r', "\\r"));
    }
}

/// Puts it in and takes it out; gives what was in between.
#[track_caller]
fn round_trip(before: &[String], routes: &[&str], json: &str) -> Vec<String> {
    let filter = Filter::read(json).unwrap();
    let wishes = wishes(routes);
    let (with, _) = graft(files(before), &filter, &[], &wishes)
        .unwrap_or_else(|problems| panic!("{}\n{}", problems.join("\n"), before.join("\n---\n")));
    let with = texts(with);
    let (again, _) = put(files(&with), None, &wishes)
        .unwrap_or_else(|problems| panic!("{}\n{}", problems.join("\n"), with.join("\n---\n")));
    same(&with, &texts(again), "again it changes nothing");
    let (report, good) = check(&files(&with), &durpina::Registry::default());
    assert!(good, "{report}\n{}", with.join("\n---\n"));
    let after = texts(prune(files(&with)).unwrap());
    same(before, &after, "it comes out to the byte");
    with
}

const MANAGER: &str =
    "type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager";
const ROUTER: &str = "type.googleapis.com/envoy.extensions.filters.http.router.v3.Router";

/// A small configuration with these routes.
fn small(routes: &str) -> String {
    format!(
        "static_resources:
  listeners:
  - name: one
    filter_chains:
    - filters:
      - name: manager
        typed_config:
          \"@type\": {MANAGER}
          stat_prefix: p
          route_config:
            virtual_hosts:
            - name: h
              domains: ['*']
              routes:
{routes}
          http_filters:
          # the router
          - name: router
            typed_config: {{ \"@type\": {ROUTER} }}
  # the clusters
  clusters:
  - name: \"c\" # a comment
    connect_timeout: 3s
    type: STATIC
# the end
"
    )
}

const ROUTE: &str = "              - match: { prefix: / }\n                route: { cluster: \"c\" } # here";

#[test]
fn everything_else_stays() {
    let before = small(ROUTE);
    let with = round_trip(std::slice::from_ref(&before), &["h/"], JSON).remove(0);
    // What was there is there, line by line, but for the one route.
    let mut lines = with.lines();
    for line in before.lines().filter(|line| !line.contains("cluster: \"c\"")) {
        assert!(lines.any(|other| other == line), "{line}\n{with}");
    }
    assert!(with.contains("          - name: durpina\n"), "{with}");
    assert!(with.find("- name: durpina") < with.find("# the router"), "{with}");
    assert!(
        with.contains("connect_timeout: 3s\n    type: ORIGINAL_DST"),
        "the settings of the cluster came along:\n{with}"
    );
}

#[test]
fn block_flow_json_tabs_line_ends() {
    let part = |text: &str| {
        let doc = Doc::parse(text).unwrap();
        Part::of(&doc, doc.root())
    };
    let before = small(ROUTE);
    let yaml = Style { step: 2, dash: 0, json: false };
    let json = Style { json: true, ..yaml };
    for text in [
        before.replace('\n', "\r\n"),
        before.trim_end().to_owned(),
        before.trim_end().replace('\n', "\r\n"),
        before.replace("# the end\n", ""),
        before.replace("\n# the end\n", ""),
        before.replace("# the end\n", "\n\n# the end\n\n"),
        format!("---\n{before}...\n"),
        before.replace("    type: STATIC\n", "    type: STATIC\n    alt_stat_name: |+\n      x\n\n\n"),
        before.replace("    type: STATIC\n", "    type: STATIC\n    alt_stat_name: >-\n      x\n      y\n\n"),
        before.replace("    type: STATIC\n", "    type: STATIC\n    alt_stat_name:\n"),
        part(&before).line(yaml),
        part(&before).line(json),
        part(&before).lines("", "  ", json),
        part(&before).lines("", "\t", json) + "\n",
        part(&before).lines("", "    ", yaml).replace('\n', "\r\n"),
        // Comments within brackets.
        before.replace("{ cluster: \"c\" } # here", "{ # one\n                  cluster: \"c\" # two\n                  } # three"),
        before.replace("route: { cluster", "metadata: { filter_metadata: { other: { a: 1 } } }\n                route: { cluster"),
        before.replace("route: { cluster", "metadata:\n                  filter_metadata:\n                    other: x\n                route: { cluster"),
        before.replace("domains: ['*']", "domains: ['*']\n              include_request_attempt_count: false # no"),
        before.replace("domains: ['*']", "domains: ['*']\n              request_headers_to_remove: [x, X-Durpina-Peer-2] # no"),
        before.replace("domains: ['*']", "domains: ['*']\n              request_headers_to_remove:\n              # one\n              - x\n              # two\n              - x-durpina-peer"),
        before.replace("domains: ['*']", "domains: ['*']\n              request_headers_to_remove: []"),
        before.replace("domains: ['*']", "domains: ['*']\n              request_body_buffer_limit: 4194304"),
        before.replace("stat_prefix: p", "stat_prefix: p\n          access_log:\n          - name: other"),
        before.replace("# the end\n", "layered_runtime: { layers: [{ name: x, admin_layer: {} }] }\n"),
        before.replace("prefix: /", "prefix: /, headers: [{ name: a, present_match: true }]"),
    ] {
        round_trip(&[text], &["h/"], JSON);
    }
}

#[test]
fn what_cannot_be_done_is_said_with_its_place() {
    let filter = Filter::read(JSON).unwrap();
    let before = small(ROUTE);
    let cases = [
        (before.replace("cluster: \"c\"", "weighted_clusters: { clusters: [{ name: c }] }"), "weighted_clusters"),
        (before.replace("cluster: \"c\"", "cluster_header: x"), "cluster_header"),
        (before.replace("route: { cluster: \"c\" }", "redirect: { path_redirect: /x }"), "has redirect"),
        (
            before.replace(
                "  clusters:\n  - name: \"c\" # a comment\n    connect_timeout: 3s\n    type: STATIC\n",
                "  clusters: []\n",
            ),
            "not in these files",
        ),
        (before.replace("stat_prefix: p", "stat_prefix: p\n          access_log: []"), "is an empty list"),
        (
            before.replace("domains: ['*']\n              routes:", "domains: ['*']\n              routes: &r")
                + "x: *r\n",
            "has an anchor",
        ),
        (before.replace(ROUTER, "x.Other"), "has no router"),
        (before.replace("- name: router", "- name: durpina\n          - name: router"), "this command did not write"),
        (
            before.replace("    type: STATIC\n", "    transport_socket_matches: [{ name: x }]\n"),
            "transport_socket_matches",
        ),
        (before.replace("- name: h\n", "- name: other\n"), "there is no route \"h/\"; there are other/"),
    ];
    for (text, expected) in cases {
        assert_ne!(text, before, "{expected}");
        let problems = graft(files(std::slice::from_ref(&text)), &filter, &[], &wishes(&["h/"]));
        let problems = problems.err().unwrap_or_else(|| panic!("no {expected:?} in\n{text}")).join("\n");
        assert!(problems.contains(expected), "no {expected:?} in {problems}");
    }
    let by_hand = include_str!("../../../../envoy/durpina.yaml").to_owned();
    assert!(remove(files(std::slice::from_ref(&by_hand))).unwrap_err()[0].contains("did not write"));
    assert!(put(files(&[by_hand]), Some(JSON.to_owned()), &wishes(&[])).is_err());
}

#[test]
fn only_what_is_needed_is_put_in() {
    let before = small(ROUTE);
    let with = |monitors: &str| {
        let json = format!(
            "{{\"upstreams\": {{\"web\": {{\"servers\": [], \"monitors\": [{monitors}]}}}}, \"upstream\": \"web\"}}"
        );
        round_trip(std::slice::from_ref(&before), &["h"], &json).remove(0)
    };
    let has = |text: &str| {
        ["durpina_probe", "durpina_probe_tls", "durpina_probe_h2", "durpina_tcp", "layered_runtime"].map(|name| {
            text.lines().any(|line| line.trim_end().ends_with(name) || line.starts_with(&format!("{name}:")))
        })
    };
    assert_eq!(has(&with("")), [false; 5]);
    assert_eq!(has(&with("{\"name\": \"http\"}")), [true, false, false, false, true]);
    assert_eq!(
        has(&with("{\"name\": \"http\", \"cluster\": \"durpina_probe_tls\"}")),
        [false, true, false, false, true]
    );
    assert_eq!(has(&with("{\"name\": \"grpc\"}")), [false, false, true, false, true]);
    assert_eq!(has(&with("{\"name\": \"tcp\"}")), [false, false, false, true, true]);
}

#[test]
fn what_a_cluster_speaks_comes_along() {
    let before = small(ROUTE).replace(
        "    type: STATIC\n",
        "    type: STATIC\n    transport_socket: &t\n      name: envoy.transport_sockets.tls\n      typed_config: { \"@type\": x.UpstreamTlsContext, sni: name.example }\n  - name: other\n    transport_socket: *t\n",
    );
    let with = round_trip(&[before], &["h/"], JSON).remove(0);
    let doc = Doc::parse(&with).unwrap();
    let clusters = &doc.value(doc.root())["static_resources"]["clusters"];
    for at in 3..6 {
        assert_eq!(clusters[at]["transport_socket"]["typed_config"]["sni"], "name.example", "{with}");
        assert_eq!(clusters[at]["connect_timeout"], "3s");
    }
}

/// How the second peer comes to its cluster, and the headers that the filter JSON names.
fn wiring(with: &str) -> (String, Option<String>) {
    let doc = Doc::parse(with).unwrap();
    let value = doc.value(doc.root());
    let clusters = value["static_resources"]["clusters"].as_array().unwrap();
    let second = clusters.iter().find(|cluster| cluster["name"] == "durpina_2").unwrap();
    let manager = &value["static_resources"]["listeners"][0]["filter_chains"][0]["filters"][0]["typed_config"];
    let json = manager["http_filters"][0]["typed_config"]["config"]["configuration"]["value"].as_str().unwrap();
    let json: serde_json::Value = serde_json::from_str(json).unwrap();
    let names = json["envoy"].get("peer_headers").map(ToString::to_string);
    let next = &manager["http_filters"][1]["typed_config"]["request_rules"][1]["header"];
    let lookup = &second["original_dst_lb_config"];
    let by = match lookup["http_header_name"].as_str() {
        Some(header) => header.to_owned(),
        None => {
            format!("{} from {}", lookup["metadata_key"]["path"][0]["key"].as_str().unwrap(), next.as_str().unwrap())
        }
    };
    (by, names)
}

#[test]
fn servers_of_http1_are_found_by_headers_and_all_others_by_metadata() {
    let before = small(ROUTE);
    let own = |names: &str| JSON.replacen('{', &format!("{{\"envoy\": {{\"peer_headers\": {names}}}, "), 1);
    let hidden = Some("[\":durpina-1\",\":durpina-2\",\":durpina-3\"]".to_owned());
    let named = |names: &str| Some(names.replace(' ', ""));
    let http2 =
        |before: &str| before.replace("    type: STATIC\n", "    type: STATIC\n    http2_protocol_options: {}\n");
    // Another route of the same connection manager, to servers of HTTP/2; of any kind; to nobody knows whom.
    let beside = |cluster: &str, route: &str| {
        let other = format!("\n              - match: {{ path: /other }}\n                route: {{ {route} }}");
        let cluster = format!("  clusters:\n  - name: other\n    {cluster}\n");
        small(&format!("{ROUTE}{other}")).replace("  clusters:\n", &cluster)
    };
    let auto = "typed_extension_protocol_options: { x: { auto_config: {} } }";
    let (by_header, by_metadata) = (":durpina-2".to_owned(), "peer_2 from x-durpina-peer-2".to_owned());
    let cases = [
        (before.clone(), JSON.to_owned(), (by_header.clone(), hidden.clone())),
        (http2(&before), JSON.to_owned(), (by_metadata.clone(), None)),
        (beside("type: STATIC", "cluster: other"), JSON.to_owned(), (by_header.clone(), hidden)),
        (beside("http2_protocol_options: {}", "cluster: other"), JSON.to_owned(), (by_metadata.clone(), None)),
        (
            beside(auto, "weighted_clusters: { clusters: [{ name: other }] }"),
            JSON.to_owned(),
            (by_metadata.clone(), None),
        ),
        (beside("type: STATIC", "cluster_header: x"), JSON.to_owned(), (by_metadata.clone(), None)),
        (beside("type: STATIC", "cluster: unknown"), JSON.to_owned(), (by_metadata, None)),
        (
            before.clone(),
            own("[\":x-a\", \":x-b\", \":x-c\"]"),
            (":x-b".to_owned(), named("[\":x-a\",\":x-b\",\":x-c\"]")),
        ),
        // Servers would see these.
        (before.clone(), own("[\"a\", \"b\", \"c\"]"), ("peer_2 from b".to_owned(), named("[\"a\",\"b\",\"c\"]"))),
        (
            http2(&before),
            own("[\":x-a\", \":x-b\", \":x-c\"]"),
            ("peer_2 from :x-b".to_owned(), named("[\":x-a\",\":x-b\",\":x-c\"]")),
        ),
    ];
    for (before, json, expected) in cases {
        let with = round_trip(&[before], &["h/"], &json).remove(0);
        assert_eq!(wiring(&with), expected, "{with}");
    }
}

#[test]
fn routes_stay_pointed_and_more_are_added() {
    let before = small("              - match: { prefix: /a }\n                route: { cluster: c }\n              - match: { prefix: /b }\n                route:\n                  cluster: 'c'\n                  retry_policy: { retry_on: 5xx }");
    let filter = Filter::read(JSON).unwrap();
    let (one, _) = graft(files(std::slice::from_ref(&before)), &filter, &[], &wishes(&["h/a"])).unwrap();
    let (both, notes) = put(one, None, &wishes(&["*/b"])).unwrap();
    assert_eq!(pointed(&both).len(), 2);
    assert!(notes.iter().any(|note| note.contains("retry_policy") && note.contains("stays as it is")), "{notes:?}");
    let both = texts(both);
    assert_eq!(both[0].matches("retry_on: 5xx").count(), 1, "a route with a policy of its own is not copied");
    let (again, _) = put(files(&both), None, &wishes(&[])).unwrap();
    same(&both, &texts(again), "nothing changes");
    same(&[before], &texts(prune(files(&both)).unwrap()), "both are as they were");
}

#[test]
fn what_was_wished_before_holds_until_somebody_says_otherwise() {
    let before = small(ROUTE);
    let filter = Filter::read(JSON).unwrap();
    let mut first = wishes(&["h/"]);
    first.peers = Some(super::Peers::Tls);
    first.managers = vec!["one".to_owned()];
    let (with, _) = graft(files(std::slice::from_ref(&before)), &filter, &[], &first).unwrap();
    let with = texts(with);
    assert!(with[0].contains("UpstreamTlsContext"));
    let nothing = Wishes { managers: Vec::new(), routes: Vec::new(), peers: None, wasm: None, socket: None };
    same(&with, &texts(put(files(&with), None, &nothing).unwrap().0), "nothing was wished");
    let other = Wishes { wasm: Some("/other.wasm".to_owned()), peers: Some(super::Peers::Http1), ..nothing };
    let changed = texts(put(files(&with), None, &other).unwrap().0);
    assert!(changed[0].contains("/other.wasm") && changed[0].contains("/tmp/durpina.sock"), "{}", changed[0]);
    assert!(!changed[0].contains("UpstreamTlsContext"));
    same(&[before], &texts(prune(files(&changed)).unwrap()), "it comes out to the byte");
}

#[test]
fn what_others_changed_meanwhile_stays() {
    let before = small(ROUTE);
    let with = round_trip(std::slice::from_ref(&before), &["h/"], JSON).remove(0);
    // A route before the others, a cluster behind ours, another filter behind durpina's.
    let changed = with
        .replace("              routes:\n", "              routes:\n              - match: { path: /new }\n                direct_response: { status: 204 }\n")
        .replace("layered_runtime:\n", "  - name: new\n    type: STATIC\nlayered_runtime:\n");
    let after = texts(prune(files(&[changed])).unwrap()).remove(0);
    assert!(after.contains("path: /new") && after.contains("name: new") && !after.contains("durpina"), "{after}");
    let cut = after
        .replace("              - match: { path: /new }\n                direct_response: { status: 204 }\n", "")
        .replace("  - name: new\n    type: STATIC\n", "");
    same(std::slice::from_ref(&before), &[cut], "the rest is as it was");
    // Written anew as JSON by some program, it can still be taken out.
    let doc = Doc::parse(&with).unwrap();
    let json = doc.value(doc.root()).to_string();
    let out = texts(prune(files(&[json])).unwrap()).remove(0);
    assert!(!out.contains("durpina"), "{out}");
    let (out, original) = (Doc::parse(&out).unwrap(), Doc::parse(&before).unwrap());
    assert_eq!(out.value(out.root()), original.value(original.root()));
}

/// Numbers that look random: xorshift.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 >> 33).unwrap() % bound
    }
}

/// The same configuration, written in another way.
fn rewritten(text: &str, random: &mut Random) -> String {
    let part = |text: &str| {
        let doc = Doc::parse(text).unwrap();
        Part::of(&doc, doc.root())
    };
    let style = |step, dash| Style { step, dash, json: false };
    let text = text.replace("\r\n", "\n");
    let text = text.as_str();
    let mut text = match random.below(8) {
        0 => part(text).block(0, style(2, 2)),
        1 => part(text).block(0, style(4, [0, 2, 4][random.below(3)])),
        2 => part(text).lines("", ["  ", "\t", "   "][random.below(3)], Style { json: true, ..style(2, 0) }),
        3 => part(text).line(Style { json: random.below(2) == 0, ..style(2, 0) }),
        4 => part(text).lines("", "  ", style(2, 0)),
        _ => text.to_owned(),
    };
    let has_blocks = text.lines().any(|line| [": |", ": >-"].iter().any(|end| line.ends_with(end)));
    let is_plain = !has_blocks && !text.starts_with('{');
    if is_plain {
        // Not within texts of several lines, where all of this counts.
        text = text
            .lines()
            .map(|line| {
                let indent = line.len() - line.trim_start().len();
                match random.below(12) {
                    0 => format!("{line}  \n"),
                    1 => format!("{line} # comment\n"),
                    2 => format!("{line}\n\n"),
                    3 => format!("{:indent$}# above\n{line}\n", ""),
                    4 => format!("# far\n{line}\n"),
                    _ => format!("{line}\n"),
                }
            })
            .collect();
    }
    match random.below(4) {
        0 => text = text.trim_end().to_owned(),
        1 => text += "\n\n# end\n",
        2 => text += "\n",
        _ => {}
    }
    if random.below(3) == 0 {
        text = text.replace('\n', "\r\n");
    }
    text
}

/// What is put into each of them, by turns.
const JSONS: [&str; 3] =
    [JSON, "{\"upstreams\": {}, \"upstream\": \"x\"}", "{\"upstream\": \"x\", \"envoy\": {\"access_log\": false}}"];

#[test]
fn what_is_put_into_whole_configurations_comes_out_however_they_are_written() {
    macro_rules! example {
        ($($file:literal),+) => {
            vec![$(include_str!(concat!("../../../../tests/data/configurations/", $file)).to_owned()),+]
        };
    }
    let examples = [
        example!("access.yaml"),
        example!("chain-edge.yaml"),
        example!("chain-inner.yaml"),
        example!("comments.yaml"),
        example!("cors.yaml"),
        example!("files/bootstrap.yaml", "files/lds.yaml", "files/rds.yaml", "files/cds.yaml"),
        example!("flow.yaml"),
        example!("gateway.json"),
        example!("grpc-bridge.yaml"),
        example!("grpc.yaml"),
        example!("live-route.yaml"),
        example!("live.yaml"),
        example!("rate-limit.yaml"),
        example!("shop-front.yaml"),
        example!("tls-both.yaml"),
        example!("tls-from-clients.yaml"),
        example!("tls-to-servers.yaml"),
        example!("../envoy-rds/envoy.yaml", "../envoy-rds/lds.yaml", "../envoy-rds/rds.yaml", "../envoy-rds/cds.yaml"),
    ];
    for (number, example) in examples.iter().enumerate() {
        for seed in 0..6_u64 {
            let mut random = Random(seed * 1_000 + number as u64 + 1);
            for _ in 0..10 {
                random.below(2);
            }
            let texts: Vec<String> = match seed {
                0 => example.clone(),
                _ => example.iter().map(|text| rewritten(text, &mut random)).collect(),
            };
            let files = files(&texts);
            let hosts: Vec<String> = places::managers(&files)
                .into_iter()
                .flat_map(|manager| places::routes_of(&files, manager.routes.unwrap()))
                .map(|route| route.host_name)
                .collect();
            let routes: Vec<&str> =
                if random.below(4) == 0 { Vec::new() } else { vec![&hosts[random.below(hosts.len())]] };
            round_trip(&texts, &routes, JSONS[random.below(JSONS.len())]);
        }
    }
}

/// The configurations of Envoy's below a directory, each with those beside it, by path.
fn below(directory: &std::path::Path) -> Vec<(std::path::PathBuf, String)> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        let ending = path.extension().and_then(|ending| ending.to_str());
        if path.is_dir() && !path.is_symlink() {
            found.extend(below(&path));
        } else if path.is_file() && matches!(ending, Some("yaml" | "yml" | "json")) {
            let text = std::fs::read_to_string(&path).unwrap_or_default();
            if Doc::parse(&text).is_ok_and(|doc| places::is_envoy(&doc)) {
                found.push((path, text));
            }
        }
    }
    found.sort();
    found
}

/// The name of the first route to one cluster, and the cluster.
fn first_route(files: &[File]) -> Option<(String, String)> {
    let configs = places::managers(files).into_iter().filter_map(|manager| manager.routes.ok());
    configs.flat_map(|config| places::routes_of(files, config)).find_map(|route| {
        let doc = &files[route.place.file].doc;
        let cluster = doc.text_at(route.place.id, &["route", "cluster"])?;
        let (_, path) = places::matched(doc, route.place.id)?;
        Some((format!("{}{path}", route.host_name), cluster.to_owned()))
    })
}

/// Configurations of others, in a directory that `ENVOY_EXAMPLES` names: `tests/data/configurations/README.md` says which there are.
#[test]
fn what_is_put_into_configurations_of_others_comes_out() {
    use std::io::Write as _;
    // Also without `--nocapture`.
    let say = |line: &str| writeln!(std::io::stderr(), "{line}").unwrap();
    let Some(root) = std::env::var_os("ENVOY_EXAMPLES") else {
        say("skipped: ENVOY_EXAMPLES names no directory with configurations of others");
        return;
    };
    let all = below(root.as_ref());
    let (mut done, mut refused, mut without) = (0, 0, 0);
    for (path, text) in &all {
        let mut texts = vec![text.clone()];
        let Some((route, cluster)) = first_route(&files(&texts)) else {
            without += 1;
            continue;
        };
        if places::cluster(&files(&texts), &cluster).is_none() {
            let beside = |other: &&(std::path::PathBuf, String)| other.0 != *path && other.0.parent() == path.parent();
            texts.extend(all.iter().filter(beside).map(|(_, text)| text.clone()));
        }
        let wish = wishes(&[&route]);
        match graft(files(&texts), &Filter::read(JSON).unwrap(), &[], &wish) {
            Ok(_) => {
                for json in JSONS {
                    round_trip(&texts, &[&route], json);
                }
                done += 1;
            }
            Err(problems) => {
                say(&format!("refused: {}: {}", path.display(), problems.join("; ")));
                refused += 1;
            }
        }
    }
    say(&format!(
        "{} files: {done} there and back, {refused} refused, {without} without a route to one cluster",
        all.len()
    ));
    assert!(done > 0, "nothing was tried");
}

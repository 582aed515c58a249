//! The reference configuration in the files of LDS, RDS and CDS, as `envoy/files` has it.

use std::fs;

use serde_json::Value;

use crate::adopted::{envoy, listens, Process};
use crate::support::client::{Client, Request};
use crate::support::config::{repository, REFERENCE};
use crate::support::envoy::{filter_module, Directory};
use crate::support::ports::Port;
use crate::support::server::Server;
use crate::support::{command_line, eventually};
use crate::PATIENCE;

const FILES: [&str; 4] = ["envoy.yaml", "lds.yaml", "rds.yaml", "cds.yaml"];

fn text(name: &str) -> String {
    let path = repository().join("envoy/files").join(name);
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn value(text: &str) -> Value {
    serde_norway::from_str(text).expect("YAML")
}

/// The resources of a file, without their types.
fn resources(name: &str) -> Vec<Value> {
    let mut file = value(&text(name));
    let resources = file["resources"].as_array_mut().expect("resources");
    for resource in resources.iter_mut() {
        resource.as_object_mut().and_then(|resource| resource.remove("@type")).expect("a type");
    }
    resources.clone()
}

#[test]
fn together_they_are_the_reference_configuration() {
    let reference = value(&fs::read_to_string(repository().join(REFERENCE)).unwrap());
    let bootstrap = value(&text("envoy.yaml"));
    for key in ["admin", "layered_runtime"] {
        assert_eq!(bootstrap[key], reference[key]);
    }
    assert_eq!(Value::Array(resources("cds.yaml")), reference["static_resources"]["clusters"]);

    let mut listeners = Value::Array(resources("lds.yaml"));
    let mut routes = resources("rds.yaml").remove(0);
    let manager = &mut listeners[0]["filter_chains"][0]["filters"][0]["typed_config"];
    let rds = manager.as_object_mut().and_then(|manager| manager.remove("rds")).expect("routes from a file");
    let name = routes.as_object_mut().and_then(|routes| routes.remove("name"));
    assert_eq!(Some(&rds["route_config_name"]), name.as_ref());
    manager["route_config"] = routes;
    assert_eq!(listeners, reference["static_resources"]["listeners"]);
}

/// Who copies a listener must not miss what a cluster calls by an anchor, and the other way round.
#[test]
fn no_anchor_crosses_from_listeners_to_clusters() {
    let names = |text: &str, mark: char| -> Vec<String> {
        let words = text.lines().filter(|line| !line.trim_start().starts_with('#')).flat_map(str::split_whitespace);
        let is_name = |c: char| c.is_ascii_alphanumeric() || c == '_';
        let found = words.filter_map(|word| word.strip_prefix(mark));
        found.map(|name| name.chars().take_while(|c| is_name(*c)).collect()).collect()
    };
    for file in ["durpina.yaml", "durpina-h2.yaml", "minimal.yaml", "admin.yaml"] {
        let text = fs::read_to_string(repository().join("envoy").join(file)).unwrap();
        let (listeners, clusters) = text.split_once("\n  clusters:\n").expect("listeners, then clusters");
        for (part, what) in [(listeners, "a listener"), (clusters, "a cluster")] {
            let anchors = names(part, '&');
            for alias in names(part, '*') {
                assert!(anchors.contains(&alias), "{file}: *{alias} in {what} is an anchor elsewhere");
            }
        }
    }
}

#[test]
fn a_real_envoy_serves_with_them() {
    let mut servers = ["a", "b", "c"].map(Server::start);
    let (port, directory) = (Port::free(), Directory::create());
    let mut changes = vec![
        ("/etc/envoy/durpina.wasm".to_owned(), filter_module().to_string_lossy().into_owned()),
        ("/run/envoy/".to_owned(), directory.path("").to_string_lossy().into_owned()),
        ("port_value: 8000".to_owned(), format!("port_value: {}", port.addr().port())),
        ("port_value: 9901".to_owned(), "port_value: 0".to_owned()),
        ("127.0.0.1:8081 weight=5".to_owned(), servers[0].addr().to_string()),
        ("127.0.0.1:8082".to_owned(), servers[1].addr().to_string()),
        ("\"port\": 8083".to_owned(), format!("\"port\": {}", servers[2].addr().port())),
        ("127.0.0.1:8084".to_owned(), servers[0].addr().to_string()),
        ("127.0.0.1:8085".to_owned(), servers[1].addr().to_string()),
    ];
    changes
        .extend(FILES.map(|name| (format!("/etc/envoy/{name}"), directory.path(name).to_string_lossy().into_owned())));
    let mut texts = FILES.map(text);
    for (from, to) in &changes {
        // The bootstrap is named by nobody.
        assert!(texts.iter().any(|text| text.contains(from)) || from.ends_with("/envoy.yaml"), "{from}");
        texts = texts.map(|text| text.replace(from, to));
    }
    for (name, text) in FILES.iter().zip(&texts) {
        fs::write(directory.path(name), text).unwrap();
    }
    let checked = command_line().arg("check").args(FILES.map(|name| directory.path(name))).output().unwrap();
    assert!(checked.status.success(), "{}", String::from_utf8_lossy(&checked.stdout));

    let path = |name: &str| directory.path(name).to_string_lossy().into_owned();
    let (config, log) = (path("envoy.yaml"), path("log"));
    let said = || String::from_utf8_lossy(&fs::read(&log).unwrap_or_default()).into_owned();
    assert!(envoy(&["--mode", "validate"], &config, &log).status().unwrap().success(), "{}", said());
    let process = Process(envoy(&[], &config, &log).spawn().unwrap());
    // A file that is refused leaves a warning, and nobody who listens or serves.
    eventually("Envoy listens", PATIENCE, || listens(&port));
    let mut client = Client::new(port.addr());
    let mut ask = |method: &str, path: &str| {
        let request = Request::new(method, path).header("host", "test");
        let answer = client.send(&if method == "POST" { request.body("x") } else { request }).expect("an answer");
        assert_eq!(answer.status, 200, "{method} {path}\n{}", said());
        answer.served_by().to_owned()
    };
    let mut served: Vec<String> = (0..12).map(|_| ask("GET", "/")).collect();
    served.sort();
    served.dedup();
    assert_eq!(served, ["a", "b", "c"]);
    let mut served = [ask("GET", "/static/x"), ask("GET", "/static/x")];
    served.sort();
    assert_eq!(served, ["a", "b"]);
    servers[0].stop();
    // Before any request could: through the gateway, which is in another of these files than the clusters that lead to it.
    eventually("the monitor finds the dead server", PATIENCE, || said().contains("to=down by=\"monitor tcp\""));
    servers[2].stop();
    for method in ["GET", "POST", "GET", "POST", "GET", "POST"] {
        assert_eq!(ask(method, "/"), "b", "{method}");
    }
    drop(process);
    assert!(!said().contains("rejected") && !said().contains("panicked"), "{}", said());
}

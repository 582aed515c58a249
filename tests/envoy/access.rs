//! Who may use the management API: the client's address is what Envoy knows of the connection, never what a client writes.

use serde_json::json;

use crate::support::client::Request;
use crate::support::config::Config;
use crate::support::envoy::{Envoy, Setup};
use crate::support::proxy::Proxy as _;
use crate::support::server::Server;
use crate::{one_upstream, server};

const TOKEN: &str = "s3cret-t0ken";

/// The API is for one network, in which the tests' own address is or is not.
fn for_network(network: &str, trusts_clients: bool) -> (Server, Envoy) {
    let a = Server::start("a");
    let mut filter = one_upstream(&[server(&a, "")]);
    filter["admin"] = json!({ "prefix": "/durpina", "token": TOKEN, "allow": [network] });
    let config = Config::reference(&filter);
    let envoy = Setup::new(if trusts_clients { config.client_addresses(false, 0) } else { config }).start();
    (a, envoy)
}

fn status(envoy: &Envoy, forwarded_for: Option<&str>) -> u16 {
    let mut request = Request::get("/durpina/upstreams").header("authorization", format!("Bearer {TOKEN}"));
    if let Some(address) = forwarded_for {
        request = request.header("x-forwarded-for", address);
    }
    envoy.client().send(&request).expect("an answer").status
}

#[test]
fn what_a_client_says_of_its_address_opens_nothing() {
    for trusts_clients in [false, true] {
        let (_a, envoy) = for_network("192.0.2.0/24", trusts_clients);
        let refused = status(&envoy, None);
        assert!(matches!(refused, 401 | 403), "{refused}");
        for address in ["192.0.2.1", "192.0.2.1, 192.0.2.2", "192.0.2.1:80"] {
            let status = status(&envoy, Some(address));
            assert_eq!(status, refused, "x-forwarded-for: {address}, use_remote_address: {}", !trusts_clients);
        }
    }
}

#[test]
fn loopback_cannot_be_claimed() {
    let (_a, envoy) = for_network("127.0.0.0/8", true);
    // This is a connection from loopback, but with such a configuration Envoy tells an address that a client wrote instead.
    for address in ["127.0.0.1", "192.0.2.1"] {
        let status = status(&envoy, Some(address));
        assert!(matches!(status, 401 | 403), "x-forwarded-for: {address}: {status}");
    }
}

#[test]
fn the_connection_s_own_address_counts_without_that_header() {
    for trusts_clients in [false, true] {
        let (_a, envoy) = for_network("127.0.0.0/8", trusts_clients);
        assert_eq!(status(&envoy, None), 200, "use_remote_address: {}", !trusts_clients);
    }
}

//! A certificate of a server of its own, for tests alone: `www.example`, signed by itself, valid from 2020 to 2120.
//!
//! Made by Python's `cryptography`: an EC key on P-256, a self-signed certificate with this one DNS name, `CA: true`.

use serde_json::{json, Value};

const TLS: &str = "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3";

/// The name in the certificate.
pub const NAME: &str = "www.example";

pub const CERTIFICATE: &str = "\
-----BEGIN CERTIFICATE-----\n\
MIIBRzCB7qADAgECAgEBMAoGCCqGSM49BAMCMBYxFDASBgNVBAMMC3d3dy5leGFt\n\
cGxlMCAXDTIwMDEwMTAwMDAwMFoYDzIxMjAwMTAxMDAwMDAwWjAWMRQwEgYDVQQD\n\
DAt3d3cuZXhhbXBsZTBZMBMGByqGSM49AgEGCCqGSM49AwEHA0IABD+iQT/qmW/2\n\
/4KP4UVL1GMgsKqrHIQlpxDrhWoIsh4yoYxsbzM/kmBx8V1l4pAxqBQ9mRV94/4p\n\
U5Sh7pB/pY6jKzApMBYGA1UdEQQPMA2CC3d3dy5leGFtcGxlMA8GA1UdEwEB/wQF\n\
MAMBAf8wCgYIKoZIzj0EAwIDSAAwRQIhAPVmH/Mu1miTVhIlEd5DX/1zavBcq76a\n\
t6sYCEjAlILoAiBa12penX4eQd8AWITDOQ1aBUHQcpitnoKxHXP97NZLfg==\n\
-----END CERTIFICATE-----\n";

pub const KEY: &str = "\
-----BEGIN PRIVATE KEY-----\n\
MIGHAgEAMBMGByqGSM49AgEGCCqGSM49AwEHBG0wawIBAQQgnQQ4DyRqrobkSQed\n\
R+dT9eO1T4b1n4omPsgAYBciGDehRANCAAQ/okE/6plv9v+Cj+FFS9RjILCqqxyE\n\
JacQ64VqCLIeMqGMbG8zP5JgcfFdZeKQMagUPZkVfeP+KVOUoe6Qf6WO\n\
-----END PRIVATE KEY-----\n";

/// A `DownstreamTlsContext` with the certificate: what a server with TLS is.
pub fn server(protocols: &[&str]) -> Value {
    let certificate = json!({
        "certificate_chain": { "inline_string": CERTIFICATE },
        "private_key": { "inline_string": KEY },
    });
    json!({
        "@type": format!("{TLS}.DownstreamTlsContext"),
        "common_tls_context": { "tls_certificates": [certificate], "alpn_protocols": protocols },
    })
}

/// The transport socket of a cluster that trusts the certificate alone, if it is for this name.
pub fn verifying(name: &str) -> Value {
    let name = json!({ "san_type": "DNS", "matcher": { "exact": name } });
    client(&json!({
        "validation_context": {
            "trusted_ca": { "inline_string": CERTIFICATE },
            "match_typed_subject_alt_names": [name],
        },
    }))
}

/// The transport socket of a cluster with this `common_tls_context`.
pub fn client(common: &Value) -> Value {
    json!({
        "name": "envoy.transport_sockets.tls",
        "typed_config": { "@type": format!("{TLS}.UpstreamTlsContext"), "common_tls_context": common },
    })
}

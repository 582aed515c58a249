//! Envoy.
//!
//! - The candidates are request headers, which the reference configuration turns into metadata and removes. A
//!   header that the filter leaves alone would be obeyed as the client sent it, so every one of them is set or
//!   removed for every request.
//! - The version is a gauge: it is shared by all workers and costs a tenth of a read of shared data. Where
//!   the operator's `stats_matcher` rejects it, it stays at zero; then a value in shared data takes its place.
//! - How attempts ended is told by two properties, which cost a tenth of what Envoy needs for a request. So the reference
//!   configuration has an access log that is called only for requests with a failure or a retry, and
//!   nothing is asked for all others. Without that access log every request is asked. With retries Envoy tells only how the last one did; that
//!   there were earlier ones means that they failed.
//! - Calls to servers go through clusters that send to whatever address a header names. Bytes over TCP are the body of a
//!   `POST` to the gateway, a listener of the reference configuration that turns it into a TCP connection. A
//!   connection alone is a gRPC stream through the same gateway, because that tells of its first headers at once.

use std::cell::Cell;
use std::net::{IpAddr, SocketAddr};

use proxy_wasm::hostcalls;
use xxhash_rust::xxh64::xxh64;

use super::raw::{self, Status};
use super::{
    Ask, Call, CallId, EndCall, Expect, Failure, Gateways, Host, HostError, Level, Reply, Response, Stored,
    LONGEST_REPLY, MOST_CANDIDATES,
};
use crate::time::Timestamp;

/// The request headers of the candidates, in their order.
const PEER_HEADERS: [&str; MOST_CANDIDATES] = ["x-durpina-peer", "x-durpina-peer-2", "x-durpina-peer-3"];

/// How often Envoy retries at the most, whatever the route says. Envoy removes it from what servers see.
const MAX_RETRIES: &str = "x-envoy-max-retries";

/// The gauge that counts announcements, and the key in shared data that stands in for it.
const VERSION_GAUGE: &str = "durpina_version";
const VERSION_KEY: &str = "durpina/version";

/// Envoy's response flags: `envoy/stream_info/stream_info.h`, by bit.
mod flag {
    pub(super) const UPSTREAM_REQUEST_TIMEOUT: u64 = 1 << 2;
    pub(super) const UPSTREAM_REMOTE_RESET: u64 = 1 << 4;
    pub(super) const UPSTREAM_CONNECTION_FAILURE: u64 = 1 << 5;
    pub(super) const UPSTREAM_CONNECTION_TERMINATION: u64 = 1 << 6;
    pub(super) const DOWNSTREAM_CONNECTION_TERMINATION: u64 = 1 << 14;
    pub(super) const UPSTREAM_PROTOCOL_ERROR: u64 = 1 << 23;
}

/// The Envoy around this VM.
pub struct Envoy {
    version: Cell<Version>,
    /// What the next random number is made from.
    random: Cell<u64>,
    /// Whether there is an access log that tells of failed requests.
    reports: Cell<bool>,
}

/// What tells workers of changes.
#[derive(Clone, Copy)]
enum Version {
    Unknown,
    Gauge(u32),
    SharedData,
}

impl Envoy {
    /// The Envoy around this VM.
    #[must_use]
    pub const fn new() -> Self {
        Self { version: Cell::new(Version::Unknown), random: Cell::new(0), reports: Cell::new(false) }
    }

    /// There is an access log in this VM that tells of failed requests.
    pub(crate) fn set_reports_failures(&self) {
        self.reports.set(true);
    }

    /// Finds out whether the gauge counts. Trying that looks like an announcement to other workers, which does no
    /// harm.
    fn version_source(&self) -> Version {
        if let Version::Unknown = self.version.get() {
            let counts =
                |id: &u32| raw::increment_metric(*id, 1).is_ok() && raw::metric(*id).is_ok_and(|value| value > 0);
            let gauge = raw::define_gauge(VERSION_GAUGE).ok().filter(counts);
            self.version.set(gauge.map_or(Version::SharedData, Version::Gauge));
        }
        self.version.get()
    }
}

impl Default for Envoy {
    fn default() -> Self {
        Self::new()
    }
}

impl Host for Envoy {
    fn now(&self) -> Timestamp {
        Timestamp::from_nanos(raw::now().unwrap_or_default())
    }

    fn random(&self) -> u64 {
        // There is no random source in this ABI without WASI. Workers do not start in the same nanosecond.
        let now = raw::now().unwrap_or_default();
        let next = xxh64(&now.to_le_bytes(), self.random.get());
        self.random.set(next);
        next
    }

    fn log(&self, level: Level, message: &str) {
        // The ABI's levels: trace 0, debug 1, info 2, warn 3, error 4.
        raw::log(level as u32 + 1, message);
    }

    fn version(&self) -> u64 {
        match self.version_source() {
            Version::Gauge(id) => raw::metric(id).unwrap_or_default(),
            Version::SharedData | Version::Unknown => {
                raw::shared_data(VERSION_KEY).ok().flatten().map_or(0, |(_, cas)| u64::from(cas))
            }
        }
    }

    fn announce(&self) {
        let announced = match self.version_source() {
            Version::Gauge(id) => raw::increment_metric(id, 1),
            // An unconditional write: its value says nothing, its new compare-and-swap number is the announcement.
            Version::SharedData | Version::Unknown => raw::set_shared_data(VERSION_KEY, b"1", 0),
        };
        if let Err(Status(status)) = announced {
            self.log(
                Level::Error,
                &format!("a change could not be announced, status {status}; workers see it within a second"),
            );
        }
    }

    fn read(&self, key: &str) -> Result<Option<Stored>, HostError> {
        let found = raw::shared_data(key).map_err(|Status(status)| HostError::Status("get_shared_data", status))?;
        Ok(found.map(|(value, cas)| Stored { value, cas }))
    }

    fn write(&self, key: &str, value: &[u8], expect: Expect) -> Result<(), HostError> {
        let cas = match expect {
            // No value ever has this number, and Envoy looks at it only where there is a value.
            Expect::Nothing => u32::MAX,
            Expect::Cas(cas) => cas,
        };
        raw::set_shared_data(key, value, cas).map_err(|status| match status {
            Status::CAS_MISMATCH => HostError::Conflict,
            Status(status) => HostError::Status("set_shared_data", status),
        })
    }

    fn resolves_names(&self) -> bool {
        false
    }

    fn survives_refusal(&self) -> bool {
        true
    }

    fn call(&self, gateways: &Gateways, call: &Call) -> Result<CallId, HostError> {
        let peer = call.to.to_string();
        let (cluster, body) = match &call.ask {
            Ask::Http { body, .. } => (&gateways.probe, body),
            Ask::Exchange(bytes) => (&gateways.tcp, bytes),
            Ask::Connect => {
                let headers = vec![(PEER_HEADERS[0], peer.as_bytes())];
                let opened = hostcalls::open_grpc_stream(&grpc_service(&gateways.tcp), "durpina", "connect", headers);
                return opened
                    .map(CallId::Stream)
                    .map_err(|status| HostError::Status("open_grpc_stream", status as u32));
            }
        };
        let mut all = vec![(PEER_HEADERS[0], peer.as_str())];
        if let Ask::Http { method, path, authority, headers, .. } = &call.ask {
            all.extend([(":method", method.as_str()), (":path", path), (":authority", authority)]);
            all.extend(headers.iter().map(|(name, value)| (name.as_str(), value.as_str())));
        } else {
            all.extend([(":method", "POST"), (":path", "/"), (":authority", "durpina")]);
        }
        hostcalls::dispatch_http_call(cluster, all, Some(body), Vec::new(), call.timeout)
            .map(CallId::Reply)
            .map_err(|status| HostError::Status("dispatch_http_call", status as u32))
    }

    fn end_call(&self, call: CallId, how: EndCall) {
        // A stream that is over already cannot be ended, which is as good. Calls end by themselves at their timeout.
        let _ = match (call, how) {
            (CallId::Stream(id), EndCall::Close) => hostcalls::close_grpc_stream(id),
            (CallId::Stream(id), EndCall::Cancel) => hostcalls::cancel_grpc_stream(id),
            (CallId::Reply(_), _) => Ok(()),
        };
    }

    fn path(&self) -> Vec<u8> {
        self.header(":path").unwrap_or_default()
    }

    fn method(&self) -> Vec<u8> {
        self.header(":method").unwrap_or_default()
    }

    fn authority(&self) -> Vec<u8> {
        self.header(":authority").unwrap_or_default()
    }

    fn header(&self, name: &str) -> Option<Vec<u8>> {
        raw::request_header(name).ok().flatten()
    }

    fn client(&self) -> Option<IpAddr> {
        let address = raw::property(b"source\0address").ok()??;
        let address: SocketAddr = std::str::from_utf8(&address).ok()?.parse().ok()?;
        Some(address.ip().to_canonical())
    }

    fn connection(&self) -> Option<u64> {
        integer(b"connection\0id")
    }

    fn property(&self, path: &[&str]) -> Option<Vec<u8>> {
        raw::property(path.join("\0").as_bytes()).ok().flatten()
    }

    fn cluster_name(&self) -> Option<Vec<u8>> {
        raw::property(b"xds\0cluster_name").ok().flatten()
    }

    fn route_name(&self) -> Option<Vec<u8>> {
        raw::property(b"xds\0route_name").ok().flatten()
    }

    fn offer(&self, addresses: &[&str]) -> Result<(), HostError> {
        // Envoy would go on to a candidate that is not there, and answer with that instead of with what really failed.
        if let Some(retries) = addresses.len().checked_sub(1).filter(|_| addresses.len() < MOST_CANDIDATES) {
            let done = raw::set_request_header(MAX_RETRIES, if retries == 0 { "0" } else { "1" });
            done.map_err(|Status(status)| HostError::Status("replace_header_map_value", status))?;
        }
        let mut addresses = addresses.iter();
        for header in PEER_HEADERS {
            let (call, done) = match addresses.next() {
                Some(address) => ("replace_header_map_value", raw::set_request_header(header, address)),
                None => ("remove_header_map_value", raw::remove_request_header(header)),
            };
            done.map_err(|Status(status)| HostError::Status(call, status))?;
        }
        Ok(())
    }

    fn respond(&self, response: &Response) {
        let headers: Vec<(&str, &str)> = response.headers.iter().map(|(name, value)| (*name, value.as_str())).collect();
        if let Err(Status(status)) = raw::respond(response.status, "durpina", &headers, &response.body) {
            self.log(Level::Error, &format!("the request could not be answered, status {status}"));
        }
    }

    fn reports_failures(&self) -> bool {
        self.reports.get()
    }

    fn failed_attempts(&self) -> usize {
        let attempts = integer(b"upstream\0request_attempt_count").unwrap_or_default();
        usize::try_from(attempts).unwrap_or_default().saturating_sub(1)
    }

    fn last_attempt(&self) -> Option<Failure> {
        let flags = integer(b"response\0flags").unwrap_or_default();
        let any = |set: u64| flags & set != 0;
        if flags == 0 || any(flag::DOWNSTREAM_CONNECTION_TERMINATION) {
            None
        } else if any(flag::UPSTREAM_CONNECTION_FAILURE) {
            Some(Failure::Connect)
        } else if any(flag::UPSTREAM_PROTOCOL_ERROR) {
            Some(Failure::Protocol)
        } else if any(flag::UPSTREAM_CONNECTION_TERMINATION | flag::UPSTREAM_REMOTE_RESET) {
            Some(Failure::Reset)
        } else if any(flag::UPSTREAM_REQUEST_TIMEOUT) {
            Some(Failure::Timeout)
        } else {
            None
        }
    }

    fn response_status(&self) -> Option<u16> {
        let status = raw::response_header(":status").ok()??;
        std::str::from_utf8(&status).ok()?.parse().ok()
    }

    fn final_status(&self) -> Option<u16> {
        u16::try_from(integer(b"response\0code")?).ok().filter(|status| *status > 0)
    }
}

/// Which cluster gRPC goes to: an `envoy.config.core.v3.GrpcService` whose `envoy_grpc.cluster_name` is set.
///
/// Envoy would also take the bare name, but might mistake some names for such a message.
fn grpc_service(cluster: &str) -> String {
    // Fields of the wire format: number 1, length-delimited. Names of clusters that need two bytes of length are not
    // text any more, and left as they are.
    match (u8::try_from(cluster.len()), u8::try_from(cluster.len() + 2)) {
        (Ok(inner), Ok(outer)) if outer < 128 => {
            format!("\n{}\n{}{cluster}", char::from(outer), char::from(inner))
        }
        _ => cluster.to_owned(),
    }
}

/// What a reply to [`Host::call`] through [`Ask::Http`] or [`Ask::Exchange`] says. Asked for in its callback only.
pub(crate) fn reply(headers: usize, is_http: bool) -> Reply {
    let header = |name| raw::call_header(name).ok().flatten();
    let status = header(":status").and_then(|status| std::str::from_utf8(&status).ok()?.parse::<u16>().ok());
    let body = raw::call_body(LONGEST_REPLY).unwrap_or_default();
    let Some(status) = status.filter(|_| headers > 0) else { return Reply::Failed(Failure::Timeout) };
    // Envoy's own answers say nothing of how long a server took.
    let is_envoys = header("x-envoy-upstream-service-time").is_none();
    match status {
        _ if !is_envoys && is_http => Reply::Http(status, body),
        200 if !is_http => Reply::Bytes(body),
        504 => Reply::Failed(Failure::Timeout),
        502 => Reply::Failed(Failure::Protocol),
        _ if starts_any(&body, &["connection termination", "remote reset", "reset reason: connection termination"]) => {
            Reply::Failed(Failure::Reset)
        }
        _ => Reply::Failed(Failure::Connect),
    }
}

/// What the first headers of a stream say.
pub(crate) fn connected(headers: u32) -> Reply {
    let is_ok = headers > 0 && raw::stream_header(":status").ok().flatten().is_none_or(|status| status == b"200");
    if is_ok {
        Reply::Connected
    } else {
        Reply::Failed(Failure::Connect)
    }
}

fn starts_any(body: &[u8], reasons: &[&str]) -> bool {
    let body = String::from_utf8_lossy(body);
    reasons.iter().any(|reason| body.contains(reason))
}

/// An integer property: eight bytes, little endian.
fn integer(path: &[u8]) -> Option<u64> {
    let value = raw::property(path).ok()??;
    Some(u64::from_le_bytes(value.try_into().ok()?))
}

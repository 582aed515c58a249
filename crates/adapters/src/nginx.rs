//! nginx with ngx_wasm_module.
//!
//! - The candidates are variables. `$durpina_peer` must be there; the others are set where the configuration declares them. They can be
//!   set by nothing that a client sends, so a request that gets no candidate leaves them alone.
//! - A request that failed comes to the filter again, in a named location, with the attempts so far in nginx's variables: see
//!   [`trail`](crate::trail).
//! - The version is a counter: increments of gauges end the VM there.
//! - Shared data is what [`zone`](crate::zone) makes of it, and calls wait in a [`queue`](crate::queue).
//! - Many calls of the ABI end the VM or the whole worker where Envoy answers with a status. Each that is made here was tried there.

use std::cell::Cell;
use std::net::{IpAddr, SocketAddr};

use durpina_host::{
    Attempt, Call, CallId, CallKind, Capabilities, EndCall, Expect, Host, HostError, RequestHost, Response,
    ResponseHost, Stored, Stray, Timestamp, Visited, MOST_CANDIDATES,
};

use crate::abi::{text, Abi, Map, Status};
use crate::nginx_path::normal;
use crate::queue::Queue;
use crate::random::Random;
use crate::trail::{single_status, Trail, STATUSES};
use crate::zone::Zone;

/// The variables of the candidates, in their order.
const PEERS: [&[u8]; MOST_CANDIDATES] = [b"ngx\0durpina_peer", b"ngx\0durpina_peer_2", b"ngx\0durpina_peer_3"];

const UNDECLARED: HostError =
    HostError::Lacking("nginx has no variable $durpina_peer here: the location needs set $durpina_peer ''");
const READ_ONLY: HostError =
    HostError::Lacking("nginx cannot set the variable $durpina_peer: it needs set or map with volatile");
const NO_HELPER: HostError = HostError::Lacking("nginx needs a helper for this, and nginx.helper names none");
const NO_GRPC: HostError = HostError::Lacking("nginx cannot make gRPC calls");

/// The nginx around this VM.
pub(crate) struct Nginx<A> {
    pub(crate) abi: A,
    random: Random,
    /// The counter that counts announcements.
    version: Cell<Option<u32>>,
    pub(crate) zone: Zone,
    pub(crate) queue: Queue,
    /// The root contexts of this VM, each of which can make a call at a time.
    roots: Cell<usize>,
    /// The root context whose filter is at work.
    pub(crate) owner: Cell<u32>,
    /// Whether the second and third variable are there; not known before the first request.
    has_more: Cell<[Option<bool>; MOST_CANDIDATES]>,
}

impl<A: Abi> Nginx<A> {
    /// The nginx behind these calls.
    pub(crate) fn new(abi: A) -> Self {
        Self {
            abi,
            random: Random::new(),
            version: Cell::new(None),
            zone: Zone::new(),
            queue: Queue::default(),
            roots: Cell::new(0),
            owner: Cell::new(0),
            has_more: Cell::new([Some(true), None, None]),
        }
    }

    /// Another root context is there. What it needs of metrics is defined now: later is too late.
    pub(crate) fn add_root(&self) {
        self.roots.set(self.roots.get() + 1);
        if self.version.get().is_none() {
            self.version.set(self.abi.define_counter("version").ok());
            self.zone.define(&self.abi);
        }
    }

    /// Whether the request at hand has a body. nginx does not say so before it has read it.
    pub(crate) fn has_body(&self) -> bool {
        let header = |name| self.abi.header(Map::Request, name).ok().flatten();
        header("content-length").is_some_and(|length| length != b"0") || header("transfer-encoding").is_some()
    }

    fn ip(&self, path: &[u8]) -> Option<IpAddr> {
        text(&self.abi, path).parse().ok().map(|ip: IpAddr| ip.to_canonical())
    }

    /// The attempts up to now. Those of the latest visit may have gone to a server that nginx knows by its name.
    fn trail(&self, first: impl FnOnce(&A) -> String) -> Trail {
        let mut trail = Trail::read(&self.abi);
        if !trail.attempts.is_empty() {
            let first = first(&self.abi);
            if !first.is_empty() && first.parse::<SocketAddr>().is_err() {
                trail.name_latest(&first);
            }
        }
        trail
    }
}

impl<A: Abi> Host for Nginx<A> {
    fn capabilities(&self) -> Capabilities {
        Capabilities {
            resolves_names: true,
            survives_refusal: false,
            most_calls: self.roots.get().max(1),
            calls_from_replies: false,
            has_clusters: false,
        }
    }

    fn now(&self) -> Timestamp {
        Timestamp::from_nanos(self.abi.now().unwrap_or_default())
    }

    fn random(&self) -> u64 {
        self.random.next(&self.abi)
    }

    fn version(&self) -> u64 {
        self.version.get().and_then(|id| self.abi.metric(id).ok()).unwrap_or_default()
    }

    fn announce(&self) {
        let announced = self.version.get().map(|id| self.abi.increment_metric(id, 1));
        if announced != Some(Ok(())) {
            log::error!("a change could not be announced; workers see it within a second");
        }
    }

    fn read(&self, key: &str) -> Result<Option<Stored>, HostError> {
        self.zone.read(&self.abi, key, || self.now())
    }

    fn write(&self, key: &str, value: &[u8], expect: Expect) -> Result<(), HostError> {
        self.zone.write(&self.abi, key, value, expect, || self.now())
    }

    fn call(&self, call: &Call) -> Result<CallId, HostError> {
        match call.kind {
            CallKind::Grpc { .. } => Err(NO_GRPC),
            CallKind::Tcp(_) | CallKind::Connect if call.cluster.is_empty() => Err(NO_HELPER),
            CallKind::Tcp(_) | CallKind::Connect | CallKind::Http { .. } => Ok(self.queue.add(self.owner.get(), call)),
        }
    }

    fn end_call(&self, call: CallId, _how: EndCall) {
        self.queue.forget(call);
    }

    fn reports_failures(&self) -> bool {
        false
    }
}

impl<A: Abi> RequestHost for Nginx<A> {
    fn path(&self) -> Vec<u8> {
        // What is in `:path` and in `$uri` is decoded, and a subrequest's is its own.
        normal(self.property(&["ngx", "request_uri"]).unwrap_or_default())
    }

    fn method(&self) -> Vec<u8> {
        self.header(":method").unwrap_or_default()
    }

    fn authority(&self) -> Vec<u8> {
        // `:authority` is the name of the server.
        self.property(&["ngx", "host"]).unwrap_or_default()
    }

    fn header(&self, name: &str) -> Option<Vec<u8>> {
        self.abi.header(Map::Request, name).ok().flatten()
    }

    fn client(&self) -> Option<IpAddr> {
        self.ip(b"ngx\0remote_addr")
    }

    fn connection_address(&self) -> Option<IpAddr> {
        // Differs where realip_module took the address from a header; is not there without that module.
        let own = self.ip(b"ngx\0realip_remote_addr");
        self.client().filter(|client| own.is_none_or(|own| own == *client))
    }

    fn connection(&self) -> Option<u64> {
        text(&self.abi, b"connection\0id").parse().ok()
    }

    fn property(&self, path: &[&str]) -> Option<Vec<u8>> {
        // `upstream.address` and `upstream.port` end the worker.
        if path.first() == Some(&"upstream") {
            return None;
        }
        self.abi.property(path.join("\0").as_bytes()).ok().flatten()
    }

    fn cluster_name(&self) -> Option<Vec<u8>> {
        None
    }

    fn route_name(&self) -> Option<Vec<u8>> {
        None
    }

    fn offer(&self, addresses: &[&str]) -> Result<(), HostError> {
        if addresses.is_empty() {
            return Ok(());
        }
        let mut addresses = addresses.iter();
        let mut has_more = self.has_more.get();
        for (position, (path, is_there)) in PEERS.iter().zip(&mut has_more).enumerate() {
            let address = addresses.next().copied().unwrap_or_default();
            if *is_there == Some(false) {
                continue;
            }
            match self.abi.set_property(path, address) {
                Ok(()) => *is_there = Some(true),
                Err(Status::NOT_FOUND) if position > 0 => *is_there = Some(false),
                Err(Status::NOT_FOUND) => return Err(UNDECLARED),
                Err(Status::READ_ONLY) => return Err(READ_ONLY),
                Err(Status(status)) => return Err(HostError::Status("set_property", status)),
            }
        }
        self.has_more.set(has_more);
        Ok(())
    }

    fn respond(&self, response: &Response) {
        let headers: Vec<(&str, &str)> = response.headers.iter().map(|(name, value)| (*name, value.as_str())).collect();
        if let Err(Status(status)) = self.abi.respond(response.status, "", &headers, &response.body) {
            log::error!("the request could not be answered, status {status}");
        }
    }

    fn visited(&self) -> Visited {
        let [first, ..] = PEERS;
        let Trail { attempts, latest } = self.trail(|abi| text(abi, first));
        Visited { attempts, known: latest }
    }
}

impl<A: Abi> ResponseHost for Nginx<A> {
    fn earlier_attempts(&self, _offered: &[&str]) -> Vec<Attempt> {
        Vec::new()
    }

    /// Asked when the request is over, which is cheaper: see [`final_status`](Self::final_status).
    fn response_status(&self) -> Option<u16> {
        None
    }

    fn final_status(&self) -> Option<u16> {
        single_status(&text(&self.abi, STATUSES))
    }

    fn ended_well(&self) -> bool {
        true
    }

    fn attempts(&self, offered: &[&str]) -> Vec<Attempt> {
        self.trail(|_| offered.first().copied().unwrap_or_default().to_owned()).attempts
    }

    fn stray(&self) -> Option<Stray> {
        None
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use durpina_host::{End, Failure};

    use super::*;
    use crate::abi::is_nginx;
    use crate::fake::Fake;

    const A: &str = "10.0.0.1:80";
    const B: &str = "10.0.0.2:80";

    fn nginx() -> Nginx<Fake> {
        let nginx = Nginx::new(Fake::nginx());
        nginx.add_root();
        nginx
    }

    /// An nginx on which setting the candidates' variables ends with these statuses.
    fn with_variables(statuses: [Option<u32>; 3]) -> Nginx<Fake> {
        let nginx = nginx();
        for (path, status) in PEERS.iter().zip(statuses) {
            nginx.abi.settable.borrow_mut().extend(status.map(|status| (path.to_vec(), status)));
        }
        nginx
    }

    fn variables(nginx: &Nginx<Fake>) -> [Option<String>; 3] {
        PEERS.map(|path| nginx.abi.property(path).unwrap().map(|value| String::from_utf8(value).unwrap()))
    }

    fn failed(nginx: &Nginx<Fake>, addresses: &str, statuses: &str) {
        let times = statuses.replace("502", "-");
        for (name, value) in
            [("addr", addresses), ("status", statuses), ("header_time", &times), ("connect_time", &times)]
        {
            nginx.abi.set_text(format!("ngx\0upstream_{name}").as_bytes(), value);
        }
    }

    #[test]
    fn the_host_is_known_without_a_configuration() {
        assert!(is_nginx(&Fake::nginx()) && !is_nginx(&Fake::default()));
    }

    #[test]
    fn candidates_go_where_there_is_a_variable() {
        let some = |texts: [&str; 3]| texts.map(|text| Some(text.to_owned()));
        let nginx = with_variables([Some(0); 3]);
        nginx.offer(&[A, B]).unwrap();
        assert_eq!(variables(&nginx), some([A, B, ""]));
        nginx.offer(&[]).unwrap();
        assert_eq!(variables(&nginx), some([A, B, ""]), "erasing them makes unmatched locations answer 500");
        let nginx = with_variables([Some(0), None, None]);
        for peer in [A, B] {
            nginx.offer(&[peer, A, B]).unwrap();
            assert_eq!(variables(&nginx), [Some(peer.to_owned()), None, None]);
        }
    }

    #[test]
    fn a_variable_that_cannot_be_set_is_an_error() {
        for (status, expected) in
            [(None, UNDECLARED), (Some(10), READ_ONLY), (Some(2), HostError::Status("set_property", 2))]
        {
            assert_eq!(with_variables([status, Some(0), Some(0)]).offer(&[A]), Err(expected));
        }
    }

    #[test]
    fn a_request_that_comes_again_tells_of_its_attempts() {
        let nginx = nginx();
        assert_eq!(nginx.visited(), Visited::default());
        failed(&nginx, "10.0.0.1:80 : 10.0.0.2:80", "502 : 502");
        let attempt = |address: &str| Attempt { address: Some(address.to_owned()), end: End::Failed(Failure::Connect) };
        assert_eq!(nginx.visited(), Visited { attempts: vec![attempt(A), attempt(B)], known: 1 });
        assert_eq!(nginx.attempts(&[B]), [attempt(A), attempt(B)]);
        // nginx resolved the name that was offered.
        nginx.abi.set_text(PEERS[0], "web:80");
        assert_eq!(nginx.visited().attempts, [attempt(A), attempt("web:80")]);
        assert_eq!(nginx.attempts(&["web:80"]), [attempt(A), attempt("web:80")]);
    }

    #[test]
    fn a_request_that_went_well_is_one_question() {
        let nginx = nginx();
        assert_eq!((nginx.response_status(), nginx.final_status()), (None, None));
        failed(&nginx, "10.0.0.1:80 : 10.0.0.2:80", "502 : 200");
        assert_eq!(nginx.final_status(), Some(200));
    }

    #[test]
    fn changes_are_announced_to_all_workers() {
        let nginx = nginx();
        let before = nginx.version();
        nginx.announce();
        assert_ne!(nginx.version(), before);
    }

    #[test]
    fn what_nginx_cannot_call_is_said() {
        let nginx = nginx();
        let call = |kind, cluster: &str| {
            let (to, timeout) = (A.parse().unwrap(), Duration::from_secs(1));
            nginx.call(&Call { to, name: None, timeout, cluster: cluster.to_owned(), kind })
        };
        let grpc = || CallKind::Grpc { path: String::new(), authority: String::new(), message: Vec::new() };
        assert_eq!(call(grpc(), "unix:/h"), Err(NO_GRPC));
        assert_eq!(call(CallKind::Connect, ""), Err(NO_HELPER));
        assert_eq!(call(CallKind::Tcp(Vec::new()), ""), Err(NO_HELPER));
        assert_eq!(call(CallKind::Connect, "unix:/h"), Ok(CallId::Reply(1)));
        assert_eq!(nginx.capabilities().most_calls, 1);
        nginx.add_root();
        assert_eq!(nginx.capabilities().most_calls, 2);
    }

    #[test]
    fn the_client_and_its_own_address() {
        let client = |remote: &str, own: Option<&str>| {
            let nginx = nginx();
            nginx.abi.set_text(b"ngx\0remote_addr", remote);
            own.iter().for_each(|own| nginx.abi.set_text(b"ngx\0realip_remote_addr", own));
            [nginx.client(), nginx.connection_address()].map(|ip| ip.map(|ip| ip.to_string()).unwrap_or_default())
        };
        assert_eq!(client("192.0.2.7", Some("192.0.2.7")), ["192.0.2.7", "192.0.2.7"]);
        assert_eq!(client("192.0.2.7", Some("10.0.0.1")), ["192.0.2.7", ""], "a header named it");
        assert_eq!(client("::ffff:192.0.2.7", None), ["192.0.2.7", "192.0.2.7"]);
        assert_eq!(client("unix:", None), ["", ""]);
    }

    #[test]
    fn properties_that_end_the_worker_are_not_asked_for() {
        let nginx = nginx();
        nginx.abi.set_text(b"upstream\0address", "x");
        nginx.abi.set_text(b"ngx\0pid", "7");
        assert_eq!(nginx.property(&["upstream", "address"]), None);
        assert_eq!(nginx.property(&["ngx", "pid"]), Some(b"7".to_vec()));
    }
}

//! Envoy.
//!
//! - The candidates are request headers, which the reference configuration turns into metadata and removes. A
//!   header that the filter leaves alone would be obeyed as the client sent it, so every one of them is set or
//!   removed for every request. So are the default names where others are in use: nobody here knows what the clusters read, and
//!   one that reads those in spite of the configuration, of a few routes only perhaps, would obey the client. The
//!   reference configuration has no such cluster for requests (those for checks are reached by no route), but a copy of it may.
//! - The version is a gauge: it is shared by all workers and costs a tenth of a read of shared data. Where
//!   the operator's `stats_matcher` rejects it, it stays at zero; then a value in shared data takes its place.
//! - How attempts ended is told by properties, each of which costs a tenth of what Envoy needs for a request. So the
//!   reference configuration has an access log that is called only for requests with a failure or a retry, and nothing is
//!   asked for all others. Without that access log every request is asked. What the properties say, and what is made of it, is the
//!   table in docs/states.md. With retries Envoy tells only of the last attempt; that there were earlier ones means that they
//!   failed, and the last one's address tells whether they went to the candidates.
//! - Calls to servers go through clusters that send to whatever address a header names. Bytes over TCP are the body of a
//!   `POST` to the gateway, a listener of the reference configuration that turns it into a TCP connection. A
//!   connection alone is a gRPC stream through the same gateway, because that tells of its first headers at once. What comes back,
//!   and from whom, is in [`answers`](crate::answers).

use std::cell::{Cell, RefCell};
use std::net::{IpAddr, SocketAddr};

use durpina_host::{
    millis, Attempt, Call, CallId, CallKind, Capabilities, EndCall, Expect, Host, HostError, PeerHeaders, Reply,
    RequestHost, Response, ResponseHost, Stored, Stray, Timestamp, MOST_CANDIDATES,
};

use crate::abi::{integer, status, text, Abi, HttpCall, Map, Status};
use crate::answers::{Answers, Sent};
use crate::blame::{earlier_attempts, Evidence, ADDRESS, CODE, FLAGS};
use crate::random::Random;

/// The request header by which a call names its server.
const CALLED: &str = PeerHeaders::DEFAULT[0];

/// How the names of the clusters begin that take the candidates.
const OUR_CLUSTERS: &str = "durpina";

/// How often Envoy retries at the most, whatever the route says. Envoy removes it from what servers see.
const MAX_RETRIES: &str = "x-envoy-max-retries";

/// The gauge that counts announcements, and the key in shared data that stands in for it.
const VERSION_GAUGE: &str = "durpina_version";
const VERSION_KEY: &str = "durpina/version";

/// The Envoy around this VM.
pub(crate) struct Envoy<A> {
    pub(crate) abi: A,
    version: Cell<Version>,
    random: Random,
    /// Whether there is an access log that tells of failed requests.
    reports: Cell<bool>,
    /// The calls under way that are requests to a server themselves, and not to the gateway.
    requests: RefCell<Vec<(u32, Sent)>>,
    /// It was said that the gateway does not mark its answers.
    has_told_of_mark: Cell<bool>,
}

/// What tells workers of changes.
#[derive(Clone, Copy)]
enum Version {
    Unknown,
    Gauge(u32),
    SharedData,
}

impl<A: Abi> Envoy<A> {
    /// The Envoy behind these calls.
    pub(crate) const fn new(abi: A) -> Self {
        Self {
            abi,
            version: Cell::new(Version::Unknown),
            random: Random::new(),
            reports: Cell::new(false),
            requests: RefCell::new(Vec::new()),
            has_told_of_mark: Cell::new(false),
        }
    }

    /// There is an access log in this VM that tells of failed requests.
    pub(crate) fn set_reports_failures(&self) {
        self.reports.set(true);
    }

    /// A property as a text; empty if there is none.
    pub(crate) fn text(&self, path: &[u8]) -> String {
        text(&self.abi, path)
    }

    /// Finds out whether the gauge counts. Trying that looks like an announcement to other workers, which does no
    /// harm.
    fn version_source(&self) -> Version {
        if let Version::Unknown = self.version.get() {
            let counts = |id: &u32| {
                self.abi.increment_metric(*id, 1).is_ok() && self.abi.metric(*id).is_ok_and(|value| value > 0)
            };
            let gauge = self.abi.define_gauge(VERSION_GAUGE).ok().filter(counts);
            self.version.set(gauge.map_or(Version::SharedData, Version::Gauge));
        }
        self.version.get()
    }

    /// The client's address and port.
    fn source(&self) -> Option<SocketAddr> {
        let address = self.abi.property(b"source\0address").ok()??;
        std::str::from_utf8(&address).ok()?.parse().ok()
    }

    /// What is to be read from replies.
    fn answers(&self) -> Answers<'_, A> {
        Answers { abi: &self.abi, has_told_of_mark: &self.has_told_of_mark }
    }

    /// What a reply to [`Host::call`] says that did not open a stream. Asked for in its callback only.
    pub(crate) fn reply(&self, token: u32, headers: usize, trailers: usize) -> Reply {
        let sent = self.requests.try_borrow_mut().ok().and_then(|mut requests| {
            let found = requests.iter().position(|(known, _)| *known == token)?;
            Some(requests.swap_remove(found).1)
        });
        self.answers().reply(sent.unwrap_or(Sent::Tcp), headers, trailers)
    }

    /// What the first headers of a stream say, if anything.
    pub(crate) fn connected(&self, headers: u32) -> Option<Reply> {
        self.answers().connected(headers)
    }

    /// What the last headers of a stream say, if anything.
    pub(crate) fn ended(&self, headers: u32) -> Option<Reply> {
        self.answers().ended(headers)
    }

    /// What is to be said of a stream that is over, and of which nothing was said before. Asked for in its callback only.
    pub(crate) fn closed(&self) -> Reply {
        self.answers().closed()
    }
}

impl<A: Abi> Host for Envoy<A> {
    fn capabilities(&self) -> Capabilities {
        Capabilities::default()
    }

    fn now(&self) -> Timestamp {
        Timestamp::from_nanos(self.abi.now().unwrap_or_default())
    }

    fn random(&self) -> u64 {
        self.random.next(&self.abi)
    }

    fn version(&self) -> u64 {
        match self.version_source() {
            Version::Gauge(id) => self.abi.metric(id).unwrap_or_default(),
            Version::SharedData | Version::Unknown => {
                self.abi.shared_data(VERSION_KEY).ok().flatten().map_or(0, |(_, cas)| u64::from(cas))
            }
        }
    }

    fn announce(&self) {
        let announced = match self.version_source() {
            Version::Gauge(id) => self.abi.increment_metric(id, 1),
            // An unconditional write: its value says nothing, its new compare-and-swap number is the announcement.
            Version::SharedData | Version::Unknown => self.abi.set_shared_data(VERSION_KEY, b"1", 0),
        };
        if let Err(Status(status)) = announced {
            log::error!("a change could not be announced, status {status}; workers see it within a second");
        }
    }

    fn read(&self, key: &str) -> Result<Option<Stored>, HostError> {
        let found = self.abi.shared_data(key).map_err(|Status(status)| HostError::Status("get_shared_data", status))?;
        Ok(found.map(|(value, cas)| Stored { value, cas }))
    }

    fn write(&self, key: &str, value: &[u8], expect: Expect) -> Result<(), HostError> {
        let cas = match expect {
            // No value ever has this number, and Envoy looks at it only where there is a value.
            Expect::Nothing => u32::MAX,
            Expect::Cas(cas) => cas,
        };
        self.abi.set_shared_data(key, value, cas).map_err(|status| match status {
            Status::CAS_MISMATCH => HostError::Conflict,
            Status(status) => HostError::Status("set_shared_data", status),
        })
    }

    fn call(&self, call: &Call) -> Result<CallId, HostError> {
        let (peer, to) = (call.to.to_string(), call.cluster.as_str());
        let first = (CALLED, peer.as_str());
        let failed = |name| move |Status(status)| HostError::Status(name, status);
        let post = |path, authority| [first, (":method", "POST"), (":path", path), (":authority", authority)];
        let mut headers = Vec::new();
        let (mut framed, mut sent) = (Vec::new(), None);
        let body = match &call.kind {
            CallKind::Connect => {
                let opened = self.abi.grpc_stream(&grpc_service(to), "durpina", "connect", &[first]);
                return opened.map(CallId::Stream).map_err(failed("grpc_stream"));
            }
            CallKind::Tcp(bytes) => {
                headers.extend(post("/", "durpina"));
                bytes
            }
            CallKind::Grpc { path, authority, message } => {
                headers.extend(post(path, authority));
                headers.extend([("content-type", "application/grpc"), ("te", "trailers")]);
                // Not compressed, and the length: gRPC over HTTP/2, "Length-Prefixed-Message".
                framed.push(0);
                framed.extend_from_slice(&u32::try_from(message.len()).unwrap_or(u32::MAX).to_be_bytes());
                framed.extend_from_slice(message);
                sent = Some(Sent::Grpc);
                &framed
            }
            CallKind::Http { method, path, authority, headers: others, body } => {
                headers.extend([first, (":method", method), (":path", path), (":authority", authority)]);
                headers.extend(others.iter().map(|(name, value)| (name.as_str(), value.as_str())));
                sent = Some(Sent::Http);
                body
            }
        };
        let timeout = u32::try_from(millis(call.timeout)).unwrap_or(u32::MAX);
        let call = HttpCall { to, headers: &headers, body, timeout };
        let token = self.abi.http_call(&call).map_err(failed("http_call"))?;
        if let (Some(sent), Ok(mut requests)) = (sent, self.requests.try_borrow_mut()) {
            requests.push((token, sent));
        }
        Ok(CallId::Reply(token))
    }

    fn end_call(&self, call: CallId, how: EndCall) {
        // A stream that is over already cannot be ended, which is as good. Calls end by themselves at their timeout.
        let _ = match (call, how) {
            (CallId::Stream(id), EndCall::Close) => self.abi.grpc_close(id),
            (CallId::Stream(id), EndCall::Cancel) => self.abi.grpc_cancel(id),
            (CallId::Reply(_), _) => Ok(()),
        };
    }

    fn reports_failures(&self) -> bool {
        self.reports.get()
    }
}

impl<A: Abi> RequestHost for Envoy<A> {
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
        self.abi.header(Map::Request, name).ok().flatten()
    }

    fn client(&self) -> Option<IpAddr> {
        self.source().map(|address| address.ip().to_canonical())
    }

    fn connection_address(&self) -> Option<IpAddr> {
        // An address that a header names has no port, whether Envoy trusts the header or not, and no connection comes from
        // port 0.
        self.source().filter(|address| address.port() != 0).map(|address| address.ip().to_canonical())
    }

    fn connection(&self) -> Option<u64> {
        integer(&self.abi, b"connection\0id")
    }

    fn property(&self, path: &[&str]) -> Option<Vec<u8>> {
        self.abi.property(path.join("\0").as_bytes()).ok().flatten()
    }

    fn cluster_name(&self) -> Option<Vec<u8>> {
        self.abi.property(b"xds\0cluster_name").ok().flatten()
    }

    fn route_name(&self) -> Option<Vec<u8>> {
        self.abi.property(b"xds\0route_name").ok().flatten()
    }

    fn offer(&self, addresses: &[&str]) -> Result<(), HostError> {
        self.offer_in(&PeerHeaders::default(), addresses)
    }

    fn offer_in(&self, headers: &PeerHeaders, addresses: &[&str]) -> Result<(), HostError> {
        // Envoy would go on to a candidate that is not there, and answer with that instead of with what really failed.
        if let Some(retries) = addresses.len().checked_sub(1).filter(|_| addresses.len() < MOST_CANDIDATES) {
            let done = self.abi.set_request_header(MAX_RETRIES, if retries == 0 { "0" } else { "1" });
            done.map_err(|Status(status)| HostError::Status("replace_header_map_value", status))?;
        }
        let mut addresses = addresses.iter();
        for header in headers.names() {
            let (call, done) = match addresses.next() {
                Some(address) => ("replace_header_map_value", self.abi.set_request_header(header, address)),
                None => ("remove_header_map_value", self.abi.remove_request_header(header)),
            };
            done.map_err(|Status(status)| HostError::Status(call, status))?;
        }
        for header in headers.others() {
            let done = self.abi.remove_request_header(header);
            done.map_err(|Status(status)| HostError::Status("remove_header_map_value", status))?;
        }
        Ok(())
    }

    fn respond(&self, response: &Response) {
        let headers: Vec<(&str, &str)> = response.headers.iter().map(|(name, value)| (*name, value.as_str())).collect();
        if let Err(Status(status)) = self.abi.respond(response.status, "durpina", &headers, &response.body) {
            log::error!("the request could not be answered, status {status}");
        }
    }
}

impl<A: Abi> ResponseHost for Envoy<A> {
    fn earlier_attempts(&self, offered: &[&str]) -> Vec<Attempt> {
        let earlier = Evidence(&self.abi).repeated();
        if earlier == 0 {
            return Vec::new();
        }
        let address = self.text(ADDRESS);
        earlier_attempts(offered, earlier, &address)
    }

    fn response_status(&self) -> Option<u16> {
        status(&self.abi, Map::Response)
    }

    fn ended_well(&self) -> bool {
        integer(&self.abi, FLAGS).unwrap_or_default() == 0
    }

    fn attempts(&self, offered: &[&str]) -> Vec<Attempt> {
        Evidence(&self.abi).all_attempts(offered)
    }

    fn stray(&self) -> Option<Stray> {
        if !Evidence(&self.abi).found_nobody() {
            return None;
        }
        let cluster = self.text(b"xds\0cluster_name");
        // Others have clusters without an endpoint for reasons of their own.
        cluster.starts_with(OUR_CLUSTERS).then(|| Stray {
            cluster,
            status: integer(&self.abi, CODE).and_then(|code| u16::try_from(code).ok()).unwrap_or_default(),
            path: self.abi.property(b"request\0path").ok().flatten().unwrap_or_default(),
            client: RequestHost::client(self),
        })
    }
}

/// Which cluster gRPC goes to: an `envoy.config.core.v3.GrpcService` whose `envoy_grpc` has a `cluster_name` and a
/// `max_receive_message_length` of 1. The stream is only opened to see whether there is a connection, and Envoy would keep the
/// beginning of a longer message until its end comes.
///
/// Envoy would also take the bare name, but might mistake some names for such a message.
fn grpc_service(cluster: &str) -> String {
    // Fields of the wire format: number 1, length-delimited, in number 1, length-delimited; and number 4, a `UInt32Value`. Names of clusters that need two bytes of length are not
    // text any more, and left as they are; the configuration has none.
    match (u8::try_from(cluster.len()), u8::try_from(cluster.len() + 6)) {
        (Ok(inner), Ok(outer)) if outer < 128 => {
            format!("\n{}\n{}{cluster}\"\x02\x08\x01", char::from(outer), char::from(inner))
        }
        _ => cluster.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::fake::Fake;

    const A: &str = "10.0.0.1:80";
    const B: &str = "10.0.0.2:80";
    const C: &str = "10.0.0.3:80";

    fn envoy() -> Envoy<Fake> {
        Envoy::new(Fake::default())
    }

    fn call(kind: CallKind) -> Call {
        Call {
            to: A.parse().unwrap(),
            name: None,
            timeout: Duration::from_millis(1_500),
            cluster: "to".to_owned(),
            kind,
        }
    }

    #[test]
    fn what_clients_send_in_the_candidates_places_is_gone_however_many_are_offered() {
        for (offered, expected) in [
            (vec![A, B, C], [Some(A), Some(B), Some(C), None]),
            (vec![A, B], [Some(A), Some(B), None, Some("1")]),
            (vec![A], [Some(A), None, None, Some("0")]),
            (vec![], [None; 4]),
        ] {
            let envoy = envoy();
            PeerHeaders::DEFAULT.iter().for_each(|name| envoy.abi.set_header(Map::Request, name, "192.0.2.66:666"));
            envoy.offer(&offered).unwrap();
            let [one, two, three] = PeerHeaders::DEFAULT;
            let found = [one, two, three, MAX_RETRIES].map(|name| envoy.abi.request_header(name));
            assert_eq!(found.each_ref().map(Option::as_deref), expected, "offered {offered:?}");
        }
    }

    #[test]
    fn default_headers_that_are_not_in_use_are_always_gone() {
        let headers = PeerHeaders::new([":durpina-1", ":durpina-2", ":durpina-3"].map(str::to_owned));
        let envoy = envoy();
        for offered in [&[A, B, C][..], &[A, B], &[A], &[], &[A, B, C]] {
            for name in PeerHeaders::DEFAULT.into_iter().chain([":durpina-1", ":durpina-2", ":durpina-3"]) {
                envoy.abi.set_header(Map::Request, name, "192.0.2.66:666");
            }
            envoy.offer_in(&headers, offered).unwrap();
            assert_eq!(PeerHeaders::DEFAULT.map(|name| envoy.abi.request_header(name)), [None, None, None]);
            let found = headers.names().iter().filter_map(|name| envoy.abi.request_header(name));
            assert_eq!(found.collect::<Vec<_>>(), offered);
            // A request that went where it was offered to go proves nothing for the next one.
            envoy.abi.set_text(ADDRESS, A);
        }
    }

    #[test]
    fn an_offer_that_envoy_refuses_is_an_error() {
        let envoy = envoy();
        envoy.abi.refuses.set(Some(10));
        assert_eq!(envoy.offer(&[A, B, C]), Err(HostError::Status("replace_header_map_value", 10)));
        assert_eq!(envoy.offer(&[]), Err(HostError::Status("remove_header_map_value", 10)));
    }

    #[test]
    fn a_stray_request_is_one_for_which_our_cluster_had_nobody() {
        let stray = |flags, cluster: &str| {
            let envoy = envoy();
            envoy.abi.set_number(FLAGS, flags);
            envoy.abi.set_number(CODE, 503);
            envoy.abi.set_text(b"xds\0cluster_name", cluster);
            envoy.abi.set_text(b"request\0path", "/a?b");
            envoy.abi.set_text(b"source\0address", "192.0.2.7:1234");
            envoy.stray()
        };
        let expected = Stray {
            cluster: "durpina".to_owned(),
            status: 503,
            path: b"/a?b".to_vec(),
            client: "192.0.2.7".parse().ok(),
        };
        assert_eq!(stray(2, "durpina"), Some(expected));
        assert_eq!(stray(0, "durpina"), None);
        assert_eq!(stray(2, "others"), None, "a cluster of others that has nobody");
    }

    #[test]
    fn the_version_is_a_gauge_where_gauges_count_and_shared_data_elsewhere() {
        let counting = envoy();
        counting.abi.gauge.set(Some(4));
        let before = counting.version();
        counting.announce();
        assert!(counting.version() != before && counting.abi.data.borrow().is_empty());

        let rejecting = envoy();
        let before = rejecting.version();
        rejecting.announce();
        assert!(rejecting.version() != before, "{} is the version there", VERSION_KEY);
    }

    #[test]
    fn writes_are_compared_with_what_is_there() {
        let envoy = envoy();
        envoy.write("k", b"1", Expect::Nothing).unwrap();
        assert_eq!(envoy.write("k", b"2", Expect::Nothing), Err(HostError::Conflict));
        let cas = envoy.read("k").unwrap().unwrap().cas;
        assert_eq!(envoy.write("k", b"2", Expect::Cas(cas + 1)), Err(HostError::Conflict));
        envoy.write("k", b"2", Expect::Cas(cas)).unwrap();
        assert_eq!(envoy.read("k").unwrap().unwrap().value, b"2");
    }

    #[test]
    fn calls_go_through_their_clusters() {
        let envoy = envoy();
        let http = CallKind::Http {
            method: "GET".to_owned(),
            path: "/up".to_owned(),
            authority: "web".to_owned(),
            headers: vec![("x-a".to_owned(), "1".to_owned())],
            body: b"b".to_vec(),
        };
        let grpc = CallKind::Grpc { path: "/S/M".to_owned(), authority: "web".to_owned(), message: b"hi".to_vec() };
        assert_eq!(envoy.call(&call(http)), Ok(CallId::Reply(1)));
        assert_eq!(envoy.call(&call(CallKind::Tcp(b"q".to_vec()))), Ok(CallId::Reply(2)));
        assert_eq!(envoy.call(&call(CallKind::Connect)), Ok(CallId::Stream(3)));
        assert_eq!(envoy.call(&call(grpc)), Ok(CallId::Reply(4)));
        let opened = envoy.abi.opened.borrow();
        let probe = "to x-durpina-peer=10.0.0.1:80 :method=GET :path=/up :authority=web x-a=1 \"b\" within 1500 ms";
        assert_eq!(opened[0], probe);
        assert!(opened[1].starts_with("to x-durpina-peer=10.0.0.1:80 :method=POST"), "{}", opened[1]);
        assert!(opened[2].contains("\\u{2}to") && opened[2].contains(A), "{}", opened[2]);
        let health =
            "to x-durpina-peer=10.0.0.1:80 :method=POST :path=/S/M :authority=web content-type=application/grpc \
                      te=trailers \"\\0\\0\\0\\0\\u{2}hi\" within 1500 ms";
        assert_eq!(opened[3], health);
        envoy.end_call(CallId::Stream(3), EndCall::Cancel);
        envoy.end_call(CallId::Reply(1), EndCall::Cancel);
        assert_eq!(*envoy.abi.ended.borrow(), [3], "a call ends by itself");
    }

    #[test]
    fn a_call_that_cannot_be_made_is_an_error() {
        let envoy = envoy();
        envoy.abi.refuses.set(Some(2));
        assert_eq!(envoy.call(&call(CallKind::Tcp(Vec::new()))), Err(HostError::Status("http_call", 2)));
        assert_eq!(envoy.call(&call(CallKind::Connect)), Err(HostError::Status("grpc_stream", 2)));
    }

    #[test]
    fn a_reply_is_read_as_what_was_sent() {
        let envoy = envoy();
        let message = CallKind::Grpc { path: String::new(), authority: String::new(), message: Vec::new() };
        assert_eq!(envoy.call(&call(CallKind::Tcp(Vec::new()))), Ok(CallId::Reply(1)));
        assert_eq!(envoy.call(&call(message)), Ok(CallId::Reply(2)));
        for (name, value) in [(":status", "200"), ("x-envoy-upstream-service-time", "3"), ("x-durpina-gateway", "1")] {
            envoy.abi.set_header(Map::Call, name, value);
        }
        assert!(matches!(envoy.reply(2, 3, 0), Reply::Grpc { .. }));
        assert_eq!(envoy.reply(1, 3, 0), Reply::Bytes(Vec::new()));
        assert_eq!(envoy.reply(2, 3, 0), Reply::Bytes(Vec::new()), "only once");
    }

    #[test]
    fn the_gateway_s_cluster_is_named_in_a_message() {
        assert_eq!(grpc_service("durpina_tcp"), "\n\x11\n\u{b}durpina_tcp\"\x02\x08\x01");
        let long = "x".repeat(126);
        assert_eq!(grpc_service(&long), long, "what does not fit is left as it is");
    }

    #[test]
    fn random_numbers_come_from_the_host_and_differ_from_call_to_call() {
        let numbers = |seed| {
            let envoy = envoy();
            envoy.abi.random.set(seed);
            [envoy.random(), envoy.random()]
        };
        let [one, two] = numbers(Some(5));
        assert!(one != two && numbers(Some(6)) != [one, two]);
        assert_eq!(numbers(Some(5)), [one, two]);
        let [one, two] = numbers(None);
        assert_ne!(one, two, "a host that withholds its source");
    }

    #[test]
    fn the_client_is_an_address_without_its_port() {
        for (property, expected) in
            [("192.0.2.7:1234", Some("192.0.2.7")), ("[::ffff:10.0.0.9]:5", Some("10.0.0.9")), ("pipe", None)]
        {
            let envoy = envoy();
            envoy.abi.set_text(b"source\0address", property);
            assert_eq!(envoy.client(), expected.map(|address| address.parse().unwrap()), "{property}");
        }
        assert_eq!(envoy().client(), None);
    }
}

//! The host calls of proxy-wasm ABI 0.2.1 that a filter needs, as a trait.
//!
//! The ABI: <https://github.com/proxy-wasm/spec/tree/main/abi-versions/v0.2.1>.

/// A status that is not `Ok`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Status(pub(crate) u32);

impl Status {
    pub(crate) const NOT_FOUND: Self = Self(1);
    pub(crate) const READ_ONLY: Self = Self(10);
    pub(crate) const CAS_MISMATCH: Self = Self(8);
}

pub(crate) type Result<T> = std::result::Result<T, Status>;

/// A map of headers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub(crate) enum Map {
    /// The request's headers.
    Request = 0,
    /// The answer's headers.
    Response = 2,
    /// The first headers of a gRPC stream.
    Stream = 4,
    /// The trailers of a gRPC stream; its headers if it ended with those.
    StreamEnd = 5,
    /// The headers of a reply to a call.
    Call = 6,
    /// The trailers of a reply to a call.
    CallEnd = 7,
}

/// A call over HTTP.
pub(crate) struct HttpCall<'c> {
    /// The cluster.
    pub(crate) to: &'c str,
    /// Method, path, authority and headers, with names in lower case.
    pub(crate) headers: &'c [(&'c str, &'c str)],
    pub(crate) body: &'c [u8],
    /// For the whole, in milliseconds.
    pub(crate) timeout: u32,
}

/// The host calls. None of them panics.
///
/// Only what is called here is imported by the module, so a call that a host lacks does no harm before it is made.
pub(crate) trait Abi {
    /// Nanoseconds since the Unix epoch.
    fn now(&self) -> Result<u64>;
    /// Random bytes (WASI's `random_get`).
    fn random(&self) -> Result<u64>;
    /// A header's value.
    fn header(&self, map: Map, name: &str) -> Result<Option<Vec<u8>>>;
    /// Replaces a request header, however many of the name there are.
    fn set_request_header(&self, name: &str, value: &str) -> Result<()>;
    /// Removes a request header, however many of the name there are.
    fn remove_request_header(&self, name: &str) -> Result<()>;
    /// A property, by a path whose steps are separated by zero bytes.
    fn property(&self, path: &[u8]) -> Result<Option<Vec<u8>>>;
    /// Sets a property.
    fn set_property(&self, path: &[u8], value: &str) -> Result<()>;
    /// A value in shared data with its compare-and-swap number.
    fn shared_data(&self, key: &str) -> Result<Option<(Vec<u8>, u32)>>;
    /// Writes a value to shared data.
    fn set_shared_data(&self, key: &str, value: &[u8], cas: u32) -> Result<()>;
    /// Defines a gauge, and returns its id.
    fn define_gauge(&self, name: &str) -> Result<u32>;
    /// Defines a counter, and returns its id.
    fn define_counter(&self, name: &str) -> Result<u32>;
    /// Sets a gauge.
    fn set_metric(&self, id: u32, value: u64) -> Result<()>;
    /// The value of a metric.
    fn metric(&self, id: u32) -> Result<u64>;
    /// Adds to a metric.
    fn increment_metric(&self, id: u32, by: i64) -> Result<()>;
    /// The beginning of the body of a reply to a call.
    fn call_body(&self, most: usize) -> Result<Vec<u8>>;
    /// Answers the request. `details` is for the host's log.
    fn respond(&self, status: u32, details: &str, headers: &[(&str, &str)], body: &[u8]) -> Result<()>;
    /// Makes a call, and returns its token.
    fn http_call(&self, call: &HttpCall<'_>) -> Result<u32>;
    /// Opens a gRPC stream with these first headers, and returns its token. `service` is a message `GrpcService`.
    fn grpc_stream(&self, service: &str, name: &str, method: &str, headers: &[(&str, &str)]) -> Result<u32>;
    /// What the host says of the status with which a stream was closed.
    fn stream_status(&self) -> Result<Vec<u8>>;
    /// Says that nothing more will be sent over a stream.
    fn grpc_close(&self, token: u32) -> Result<()>;
    /// Ends a stream.
    fn grpc_cancel(&self, token: u32) -> Result<()>;
}

/// Whether the host is nginx. `xds` is a message on Envoy, which cannot be handed out as a whole; nginx does not know it.
pub(crate) fn is_nginx(abi: &impl Abi) -> bool {
    matches!(abi.property(b"xds"), Ok(None))
}

/// A property as a text; empty if there is none.
pub(crate) fn text(abi: &impl Abi, path: &[u8]) -> String {
    let value = abi.property(path).ok().flatten().unwrap_or_default();
    String::from_utf8_lossy(&value).into_owned()
}

/// A header that holds a status.
pub(crate) fn status(abi: &impl Abi, map: Map) -> Option<u16> {
    let status = abi.header(map, ":status").ok()??;
    std::str::from_utf8(&status).ok()?.parse().ok()
}

/// An integer property: eight bytes, little endian.
pub(crate) fn integer(abi: &impl Abi, path: &[u8]) -> Option<u64> {
    let value = abi.property(path).ok()??;
    Some(u64::from_le_bytes(value.try_into().ok()?))
}

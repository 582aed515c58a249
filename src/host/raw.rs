//! The host calls of proxy-wasm ABI 0.2.1 that the filter uses, each as a function that returns what the host
//! answered. The only module with unsafe code.
//!
//! The SDK has functions for the same calls, but those panic on a status that they do not expect, and a panic ends
//! the VM of a whole worker. They also build a list for each property's path; here the path is given as the
//! host wants it, its steps separated by zero bytes.
//!
//! The ABI: <https://github.com/proxy-wasm/spec/tree/main/abi-versions/v0.2.1>.
#![allow(unsafe_code)]

use std::ptr::null_mut;

/// A status that is not `Ok`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Status(pub(crate) u32);

impl Status {
    pub(crate) const NOT_FOUND: Self = Self(1);
    pub(crate) const CAS_MISMATCH: Self = Self(8);
}

type Result<T> = std::result::Result<T, Status>;

#[link(wasm_import_module = "env")]
extern "C" {
    fn proxy_log(level: u32, message: *const u8, size: usize) -> u32;
    fn proxy_get_current_time_nanoseconds(time: *mut u64) -> u32;
    fn proxy_set_tick_period_milliseconds(period: u32) -> u32;
    fn proxy_get_buffer_bytes(kind: u32, start: usize, most: usize, data: *mut *mut u8, size: *mut usize) -> u32;
    fn proxy_get_header_map_value(
        map: u32,
        key: *const u8,
        key_size: usize,
        data: *mut *mut u8,
        size: *mut usize,
    ) -> u32;
    fn proxy_replace_header_map_value(
        map: u32,
        key: *const u8,
        key_size: usize,
        value: *const u8,
        value_size: usize,
    ) -> u32;
    fn proxy_remove_header_map_value(map: u32, key: *const u8, key_size: usize) -> u32;
    fn proxy_get_property(path: *const u8, path_size: usize, data: *mut *mut u8, size: *mut usize) -> u32;
    fn proxy_get_shared_data(
        key: *const u8,
        key_size: usize,
        data: *mut *mut u8,
        size: *mut usize,
        cas: *mut u32,
    ) -> u32;
    fn proxy_set_shared_data(key: *const u8, key_size: usize, value: *const u8, value_size: usize, cas: u32) -> u32;
    fn proxy_define_metric(kind: u32, name: *const u8, size: usize, id: *mut u32) -> u32;
    fn proxy_get_metric(id: u32, value: *mut u64) -> u32;
    fn proxy_increment_metric(id: u32, by: i64) -> u32;
    fn proxy_send_local_response(
        status: u32,
        details: *const u8,
        details_size: usize,
        body: *const u8,
        body_size: usize,
        headers: *const u8,
        headers_size: usize,
        grpc_status: i32,
    ) -> u32;
}

fn check(status: u32) -> Result<()> {
    match status {
        0 => Ok(()),
        other => Err(Status(other)),
    }
}

/// Calls with two out-parameters for bytes that the host allocates, and takes those over.
fn bytes(call: impl FnOnce(*mut *mut u8, *mut usize) -> u32) -> Result<Vec<u8>> {
    let (mut data, mut size) = (null_mut(), 0);
    check(call(&raw mut data, &raw mut size))?;
    if data.is_null() {
        return Ok(Vec::new());
    }
    // SAFETY: the host asked this module's exported allocator (the SDK's) for exactly `size` bytes, which it
    // took from the global allocator as a boxed slice, filled them, and handed them over.
    Ok(unsafe { Vec::from_raw_parts(data, size, size) })
}

/// The request's headers.
const REQUEST_HEADERS: u32 = 0;
/// The response's headers.
const RESPONSE_HEADERS: u32 = 2;
/// The headers of a reply to a call, and the first ones of a stream.
const CALL_HEADERS: u32 = 6;
const STREAM_HEADERS: u32 = 4;
const CALL_BODY: u32 = 4;
const REQUEST_BODY: u32 = 0;
const PLUGIN_CONFIGURATION: u32 = 7;
const GAUGE: u32 = 1;

// SAFETY, for all calls below: pointers and sizes are those of live slices, which the host only reads, and
// out-parameters are live for the call. Hosts keep none of them.

pub(crate) fn log(level: u32, message: &str) {
    // A line that cannot be logged can be reported nowhere.
    let _ = unsafe { proxy_log(level, message.as_ptr(), message.len()) };
}

/// Nanoseconds since the Unix epoch.
pub(crate) fn now() -> Result<u64> {
    let mut time = 0;
    check(unsafe { proxy_get_current_time_nanoseconds(&raw mut time) })?;
    Ok(time)
}

pub(crate) fn set_tick_period(millis: u32) -> Result<()> {
    check(unsafe { proxy_set_tick_period_milliseconds(millis) })
}

pub(crate) fn plugin_configuration() -> Result<Vec<u8>> {
    match bytes(|data, size| unsafe { proxy_get_buffer_bytes(PLUGIN_CONFIGURATION, 0, usize::MAX, data, size) }) {
        Err(Status::NOT_FOUND) => Ok(Vec::new()),
        result => result,
    }
}

pub(crate) fn request_header(name: &str) -> Result<Option<Vec<u8>>> {
    header(REQUEST_HEADERS, name)
}

pub(crate) fn response_header(name: &str) -> Result<Option<Vec<u8>>> {
    header(RESPONSE_HEADERS, name)
}

fn header(map: u32, name: &str) -> Result<Option<Vec<u8>>> {
    optional(bytes(|data, size| unsafe { proxy_get_header_map_value(map, name.as_ptr(), name.len(), data, size) }))
}

pub(crate) fn call_header(name: &str) -> Result<Option<Vec<u8>>> {
    header(CALL_HEADERS, name)
}

pub(crate) fn stream_header(name: &str) -> Result<Option<Vec<u8>>> {
    header(STREAM_HEADERS, name)
}

/// The beginning of what has arrived of the request's body.
pub(crate) fn request_body(most: usize) -> Result<Vec<u8>> {
    optional(bytes(|data, size| unsafe { proxy_get_buffer_bytes(REQUEST_BODY, 0, most, data, size) }))
        .map(Option::unwrap_or_default)
}

/// The beginning of the body of a reply to a call.
pub(crate) fn call_body(most: usize) -> Result<Vec<u8>> {
    optional(bytes(|data, size| unsafe { proxy_get_buffer_bytes(CALL_BODY, 0, most, data, size) }))
        .map(Option::unwrap_or_default)
}

pub(crate) fn set_request_header(name: &str, value: &str) -> Result<()> {
    check(unsafe {
        proxy_replace_header_map_value(REQUEST_HEADERS, name.as_ptr(), name.len(), value.as_ptr(), value.len())
    })
}

pub(crate) fn remove_request_header(name: &str) -> Result<()> {
    check(unsafe { proxy_remove_header_map_value(REQUEST_HEADERS, name.as_ptr(), name.len()) })
}

/// A property, by a path whose steps are separated by zero bytes.
pub(crate) fn property(path: &[u8]) -> Result<Option<Vec<u8>>> {
    optional(bytes(|data, size| unsafe { proxy_get_property(path.as_ptr(), path.len(), data, size) }))
}

/// A value in shared data with its compare-and-swap number.
pub(crate) fn shared_data(key: &str) -> Result<Option<(Vec<u8>, u32)>> {
    let mut cas = 0;
    let value = optional(bytes(|data, size| unsafe {
        proxy_get_shared_data(key.as_ptr(), key.len(), data, size, &raw mut cas)
    }))?;
    Ok(value.map(|value| (value, cas)))
}

pub(crate) fn set_shared_data(key: &str, value: &[u8], cas: u32) -> Result<()> {
    check(unsafe { proxy_set_shared_data(key.as_ptr(), key.len(), value.as_ptr(), value.len(), cas) })
}

pub(crate) fn define_gauge(name: &str) -> Result<u32> {
    let mut id = 0;
    check(unsafe { proxy_define_metric(GAUGE, name.as_ptr(), name.len(), &raw mut id) })?;
    Ok(id)
}

pub(crate) fn metric(id: u32) -> Result<u64> {
    let mut value = 0;
    check(unsafe { proxy_get_metric(id, &raw mut value) })?;
    Ok(value)
}

pub(crate) fn increment_metric(id: u32, by: i64) -> Result<()> {
    check(unsafe { proxy_increment_metric(id, by) })
}

/// Answers the request. `details` is for the host's log.
pub(crate) fn respond(status: u32, details: &str, headers: &[(&str, &str)], body: &[u8]) -> Result<()> {
    const NO_GRPC_STATUS: i32 = -1;
    let headers = encode_map(headers);
    check(unsafe {
        proxy_send_local_response(
            status,
            details.as_ptr(),
            details.len(),
            body.as_ptr(),
            body.len(),
            headers.as_ptr(),
            headers.len(),
            NO_GRPC_STATUS,
        )
    })
}

/// A header map as the ABI has it: the number of pairs, the sizes of each key and value, then each key and
/// value with a zero byte behind it.
fn encode_map(pairs: &[(&str, &str)]) -> Vec<u8> {
    let mut out = Vec::new();
    let mut size = |number: usize| out.extend_from_slice(&u32::try_from(number).unwrap_or(u32::MAX).to_le_bytes());
    size(pairs.len());
    for (key, value) in pairs {
        size(key.len());
        size(value.len());
    }
    for (key, value) in pairs {
        for text in [key, value] {
            out.extend_from_slice(text.as_bytes());
            out.push(0);
        }
    }
    out
}

fn optional<T>(result: Result<T>) -> Result<Option<T>> {
    match result {
        Ok(value) => Ok(Some(value)),
        Err(Status::NOT_FOUND) => Ok(None),
        Err(status) => Err(status),
    }
}

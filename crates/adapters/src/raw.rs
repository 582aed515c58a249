//! The host calls themselves. Each returns what the host answered. The only module with unsafe code.
//!
//! The SDK has functions for the same calls, but those panic on a status that they do not expect, and a panic ends
//! the VM of a whole worker. They also build a list for each property's path; here the path is given as the
//! host wants it, its steps separated by zero bytes.
//!
//! A module that imports a call with other parameters than a host has for it does not even load there: nginx has two for
//! `proxy_get_log_level`, which it does not implement, and Envoy one.
#![allow(unsafe_code)]

use std::ptr::null_mut;
use std::time::Duration;

use proxy_wasm::hostcalls;

use crate::abi::{Abi, HttpCall, Map, Result, Status};

#[link(wasm_import_module = "env")]
extern "C" {
    fn proxy_get_current_time_nanoseconds(time: *mut u64) -> u32;
    fn proxy_set_tick_period_milliseconds(period: u32) -> u32;
    fn proxy_set_effective_context(context: u32) -> u32;
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
    fn proxy_set_property(path: *const u8, path_size: usize, value: *const u8, value_size: usize) -> u32;
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
    fn proxy_record_metric(id: u32, value: u64) -> u32;
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
    fn proxy_get_status(code: *mut u32, data: *mut *mut u8, size: *mut usize) -> u32;
    fn proxy_grpc_close(token: u32) -> u32;
    fn proxy_grpc_cancel(token: u32) -> u32;
}

#[link(wasm_import_module = "wasi_snapshot_preview1")]
extern "C" {
    fn random_get(bytes: *mut u8, size: usize) -> u16;
    fn environ_sizes_get(count: *mut usize, size: *mut usize) -> u16;
    fn environ_get(variables: *mut *mut u8, bytes: *mut u8) -> u16;
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

/// Calls with an out-parameter for a number.
fn number<T: Default>(call: impl FnOnce(*mut T) -> u32) -> Result<T> {
    let mut number = T::default();
    check(call(&raw mut number))?;
    Ok(number)
}

fn optional<T>(result: Result<T>) -> Result<Option<T>> {
    match result {
        Ok(value) => Ok(Some(value)),
        Err(Status::NOT_FOUND) => Ok(None),
        Err(status) => Err(status),
    }
}

const CALL_BODY: u32 = 4;
const REQUEST_BODY: u32 = 0;
const PLUGIN_CONFIGURATION: u32 = 7;
const COUNTER: u32 = 0;
const GAUGE: u32 = 1;
const NO_GRPC_STATUS: i32 = -1;

/// The beginning of a buffer.
fn buffer(kind: u32, most: usize) -> Result<Vec<u8>> {
    optional(bytes(|data, size| unsafe { proxy_get_buffer_bytes(kind, 0, most, data, size) }))
        .map(Option::unwrap_or_default)
}

// SAFETY, for all calls above and below: pointers and sizes are those of live slices, which the host only reads, and
// out-parameters are live for the call. Hosts keep none of them.

pub(crate) fn set_tick_period(millis: u32) -> Result<()> {
    check(unsafe { proxy_set_tick_period_milliseconds(millis) })
}

/// From here to the end of a callback the host is asked about that context. An error if it does not know it.
pub(crate) fn set_effective_context(context: u32) -> Result<()> {
    check(unsafe { proxy_set_effective_context(context) })
}

/// Asks for one tick after so many milliseconds, and no other. For nginx, where a timer sets itself again as long as there is a period.
pub(crate) fn tick_once(millis: u32) {
    let _ = set_tick_period(millis);
    let _ = set_tick_period(0);
}

pub(crate) fn plugin_configuration() -> Result<Vec<u8>> {
    buffer(PLUGIN_CONFIGURATION, usize::MAX)
}

/// The variables of the environment, `NAME=value`, each with a zero behind it.
pub(crate) fn environment() -> Result<Vec<u8>> {
    let (mut count, mut size) = (0, 0);
    // SAFETY: the host writes one number to each of the two places.
    check(unsafe { environ_sizes_get(&raw mut count, &raw mut size) }.into())?;
    let mut variables = vec![core::ptr::null_mut(); count];
    let mut bytes = vec![0; size];
    // SAFETY: the host writes `count` pointers and `size` bytes, as it has just said; nothing runs between the two calls that could
    // change the environment.
    check(unsafe { environ_get(variables.as_mut_ptr(), bytes.as_mut_ptr()) }.into())?;
    Ok(bytes)
}

/// The beginning of what has arrived of the request's body.
pub(crate) fn request_body(most: usize) -> Result<Vec<u8>> {
    buffer(REQUEST_BODY, most)
}

/// The host around this module.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct ProxyWasm;

impl Abi for ProxyWasm {
    fn now(&self) -> Result<u64> {
        number(|time| unsafe { proxy_get_current_time_nanoseconds(time) })
    }

    fn random(&self) -> Result<u64> {
        let mut bytes = [0; 8];
        check(u32::from(unsafe { random_get(bytes.as_mut_ptr(), bytes.len()) }))?;
        Ok(u64::from_le_bytes(bytes))
    }

    fn header(&self, map: Map, name: &str) -> Result<Option<Vec<u8>>> {
        let map = map as u32;
        optional(bytes(|data, size| unsafe { proxy_get_header_map_value(map, name.as_ptr(), name.len(), data, size) }))
    }

    fn set_request_header(&self, name: &str, value: &str) -> Result<()> {
        let map = Map::Request as u32;
        check(unsafe { proxy_replace_header_map_value(map, name.as_ptr(), name.len(), value.as_ptr(), value.len()) })
    }

    fn remove_request_header(&self, name: &str) -> Result<()> {
        check(unsafe { proxy_remove_header_map_value(Map::Request as u32, name.as_ptr(), name.len()) })
    }

    fn property(&self, path: &[u8]) -> Result<Option<Vec<u8>>> {
        optional(bytes(|data, size| unsafe { proxy_get_property(path.as_ptr(), path.len(), data, size) }))
    }

    fn set_property(&self, path: &[u8], value: &str) -> Result<()> {
        check(unsafe { proxy_set_property(path.as_ptr(), path.len(), value.as_ptr(), value.len()) })
    }

    fn shared_data(&self, key: &str) -> Result<Option<(Vec<u8>, u32)>> {
        let mut cas = 0;
        let value = optional(bytes(|data, size| unsafe {
            proxy_get_shared_data(key.as_ptr(), key.len(), data, size, &raw mut cas)
        }))?;
        Ok(value.map(|value| (value, cas)))
    }

    fn set_shared_data(&self, key: &str, value: &[u8], cas: u32) -> Result<()> {
        check(unsafe { proxy_set_shared_data(key.as_ptr(), key.len(), value.as_ptr(), value.len(), cas) })
    }

    fn define_gauge(&self, name: &str) -> Result<u32> {
        number(|id| unsafe { proxy_define_metric(GAUGE, name.as_ptr(), name.len(), id) })
    }

    fn define_counter(&self, name: &str) -> Result<u32> {
        number(|id| unsafe { proxy_define_metric(COUNTER, name.as_ptr(), name.len(), id) })
    }

    fn set_metric(&self, id: u32, value: u64) -> Result<()> {
        check(unsafe { proxy_record_metric(id, value) })
    }

    fn metric(&self, id: u32) -> Result<u64> {
        number(|value| unsafe { proxy_get_metric(id, value) })
    }

    fn increment_metric(&self, id: u32, by: i64) -> Result<()> {
        check(unsafe { proxy_increment_metric(id, by) })
    }

    fn call_body(&self, most: usize) -> Result<Vec<u8>> {
        buffer(CALL_BODY, most)
    }

    fn respond(&self, status: u32, details: &str, headers: &[(&str, &str)], body: &[u8]) -> Result<()> {
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

    // The SDK finds the context of a reply by its token, so it has to open what is replied to. These are the only calls here
    // that could panic, and only on statuses that this ABI does not have for them.

    fn http_call(&self, call: &HttpCall<'_>) -> Result<u32> {
        let timeout = Duration::from_millis(u64::from(call.timeout));
        hostcalls::dispatch_http_call(call.to, call.headers.to_vec(), Some(call.body), Vec::new(), timeout)
            .map_err(|status| Status(status as u32))
    }

    fn grpc_stream(&self, service: &str, name: &str, method: &str, headers: &[(&str, &str)]) -> Result<u32> {
        let headers = headers.iter().map(|(name, value)| (*name, value.as_bytes())).collect();
        hostcalls::open_grpc_stream(service, name, method, headers).map_err(|status| Status(status as u32))
    }

    fn stream_status(&self) -> Result<Vec<u8>> {
        let mut code = 0;
        bytes(|data, size| unsafe { proxy_get_status(&raw mut code, data, size) })
    }

    fn grpc_close(&self, token: u32) -> Result<()> {
        check(unsafe { proxy_grpc_close(token) })
    }

    fn grpc_cancel(&self, token: u32) -> Result<()> {
        check(unsafe { proxy_grpc_cancel(token) })
    }
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

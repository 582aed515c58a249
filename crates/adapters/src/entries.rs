//! Entry points of a module for Envoy alone.
//!
//! The SDK exports every callback of the ABI, finds a context for each by its number, and keeps all contexts of a kind in a
//! table; Envoy calls whatever is exported. For a request that comes to a tenth of what Envoy needs for it. So there are entry
//! points of the same meaning here, under names that begin with `durpina_on_` where the ABI's begin with `proxy_on_`. A step after linking
//! (the package `durpina-module`) makes two modules of what was linked:
//!
//! - for Envoy it gives these the ABI's names, and leaves out all that Envoy need not call;
//! - for nginx it leaves these out. nginx crashes where the callbacks of bodies are missing.
//!
//! A module without that step works on both; it has the SDK's. What is not about single requests goes to the SDK here, too.
//!
//! What is left out has to be made up for, with the ticks:
//!
//! - `proxy_on_delete`: contexts that Envoy does not know any more are forgotten;
//! - `proxy_on_response_body`: answers that go on after a tick are looked at then.
#![allow(unsafe_code)]

use std::cell::{Cell, RefCell};
use std::rc::Rc;

use proxy_wasm::types::Action;

/// What the requests of a VM are handed to.
pub(crate) trait Streams {
    /// A request has begun, for the filter of that root context.
    fn create(&self, id: u32, root: u32);
    /// As the callback of that name.
    fn request_headers(&self, id: u32, end: bool) -> Action;
    /// As the callback of that name.
    fn request_body(&self, id: u32, size: usize, end: bool) -> Action;
    /// As the callback of that name.
    fn request_trailers(&self, id: u32) -> Action;
    /// As the callback of that name.
    fn response_headers(&self, id: u32);
    /// The request is over. False if it is none that was created here.
    fn log(&self, id: u32) -> bool;
    /// After a tick. `is_there` says whether the host knows a context, and makes it the one that the host is asked about.
    fn tick(&self, is_there: &dyn Fn(u32) -> bool);
}

thread_local! {
    /// None where the host is not Envoy, and before the first context.
    static STREAMS: RefCell<Option<Rc<dyn Streams>>> = const { RefCell::new(None) };
    /// Envoy's callbacks come here.
    static IS_USED: Cell<bool> = const { Cell::new(false) };
    /// The root contexts.
    static ROOTS: RefCell<Vec<u32>> = const { RefCell::new(Vec::new()) };
}

/// Whether the host's callbacks come here and not to the SDK.
pub(crate) fn are_used() -> bool {
    IS_USED.get()
}

/// From here on requests are handed to these.
pub(crate) fn set(streams: Rc<dyn Streams>) {
    STREAMS.set(Some(streams));
}

fn with<T>(call: impl FnOnce(&dyn Streams) -> T) -> Option<T> {
    STREAMS.with_borrow(|streams| streams.as_deref().map(call))
}

mod sdk {
    use proxy_wasm::types::Action;

    extern "C" {
        pub(super) fn proxy_on_context_create(context: u32, root: u32);
        pub(super) fn proxy_on_delete(context: u32);
        pub(super) fn proxy_on_log(context: u32);
        pub(super) fn proxy_on_tick(context: u32);
        pub(super) fn proxy_on_request_headers(context: u32, headers: usize, end: bool) -> Action;
        pub(super) fn proxy_on_request_body(context: u32, size: usize, end: bool) -> Action;
        pub(super) fn proxy_on_request_trailers(context: u32, trailers: usize) -> Action;
        pub(super) fn proxy_on_response_headers(context: u32, headers: usize, end: bool) -> Action;
    }
}

// SAFETY, for all calls of the SDK below: they are safe functions that it exports with these parameters.

#[no_mangle]
extern "C" fn durpina_on_context_create(context: u32, root: u32) {
    if root == 0 {
        IS_USED.set(true);
        ROOTS.with_borrow_mut(|roots| roots.push(context));
        unsafe { sdk::proxy_on_context_create(context, root) };
    } else if with(|streams| streams.create(context, root)).is_none() {
        unsafe { sdk::proxy_on_context_create(context, root) };
    }
}

#[no_mangle]
extern "C" fn durpina_on_request_headers(context: u32, headers: usize, end: bool) -> Action {
    with(|streams| streams.request_headers(context, end))
        .unwrap_or_else(|| unsafe { sdk::proxy_on_request_headers(context, headers, end) })
}

#[no_mangle]
extern "C" fn durpina_on_request_body(context: u32, size: usize, end: bool) -> Action {
    with(|streams| streams.request_body(context, size, end))
        .unwrap_or_else(|| unsafe { sdk::proxy_on_request_body(context, size, end) })
}

#[no_mangle]
extern "C" fn durpina_on_request_trailers(context: u32, trailers: usize) -> Action {
    with(|streams| streams.request_trailers(context))
        .unwrap_or_else(|| unsafe { sdk::proxy_on_request_trailers(context, trailers) })
}

#[no_mangle]
extern "C" fn durpina_on_response_headers(context: u32, headers: usize, end: bool) -> Action {
    match with(|streams| streams.response_headers(context)) {
        Some(()) => Action::Continue,
        None => unsafe { sdk::proxy_on_response_headers(context, headers, end) },
    }
}

#[no_mangle]
extern "C" fn durpina_on_log(context: u32) {
    let is_root = || ROOTS.with_borrow(|roots| roots.contains(&context));
    match with(|streams| streams.log(context)) {
        Some(true) => {}
        // The access log. The SDK ends the VM for a context that it does not know.
        Some(false) if !is_root() => {}
        Some(false) | None => unsafe { sdk::proxy_on_log(context) },
    }
}

#[no_mangle]
extern "C" fn durpina_on_tick(context: u32) {
    unsafe { sdk::proxy_on_tick(context) };
    if with(|streams| streams.tick(&|context| crate::raw::set_effective_context(context).is_ok())).is_none() {
        return;
    }
    ROOTS.with_borrow_mut(|roots| {
        roots.retain(|root| {
            let is_there = *root == context || crate::raw::set_effective_context(*root).is_ok();
            if !is_there {
                unsafe { sdk::proxy_on_delete(*root) };
            }
            is_there
        });
    });
    // The one that the host came with.
    let _ = crate::raw::set_effective_context(context);
}

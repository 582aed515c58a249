//! The modules under test.

use std::path::PathBuf;
use std::sync::OnceLock;

use proxy_wasm_sim::Module;

/// The module for Envoy that ships, or the one that `DURPINA_WASM` names, read once.
pub(crate) fn module() -> &'static Module {
    static MODULE: OnceLock<Module> = OnceLock::new();
    MODULE.get_or_init(|| load("DURPINA_WASM", "../dist/durpina.wasm"))
}

/// The one for nginx, or the one that `DURPINA_NGINX_WASM` names.
pub(crate) fn nginx_module() -> &'static Module {
    static MODULE: OnceLock<Module> = OnceLock::new();
    MODULE.get_or_init(|| load("DURPINA_NGINX_WASM", "../dist/durpina-nginx.wasm"))
}

fn load(variable: &str, built: &str) -> Module {
    let built = || PathBuf::from(env!("CARGO_MANIFEST_DIR")).join(built);
    let path = std::env::var_os(variable).map_or_else(built, PathBuf::from);
    let bytes = std::fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}; `make build` first", path.display()));
    Module::load(&bytes).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

//! The module under test.

use std::path::PathBuf;
use std::sync::OnceLock;

use proxy_wasm_sim::Module;

/// The module that ships, or the one that `DURPINA_WASM` names, read once.
pub(crate) fn module() -> &'static Module {
    static MODULE: OnceLock<Module> = OnceLock::new();
    MODULE.get_or_init(|| {
        let built = || PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../dist/durpina.wasm");
        let path = std::env::var_os("DURPINA_WASM").map_or_else(built, PathBuf::from);
        let bytes =
            std::fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}; `make build` first", path.display()));
        Module::load(&bytes).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
    })
}

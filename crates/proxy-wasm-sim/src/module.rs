//! A module, checked and translated once, run in any number of VMs.

use std::fmt;

use wasmi::{CompilationMode, Config, Engine, ExternType};

use crate::abi;

/// A proxy-wasm module. Cheap to clone, and may be shared between threads.
///
/// ```
/// use proxy_wasm_sim::Module;
///
/// let text = r#"(module
///   (import "env" "proxy_log" (func (param i32 i32 i32) (result i32)))
///   (memory (export "memory") 1)
///   (func (export "proxy_abi_version_0_2_1"))
///   (func (export "malloc") (param i32) (result i32) (i32.const 1024)))"#;
/// assert!(Module::load(&wat::parse_str(text).unwrap()).is_ok());
///
/// let text = r#"(module (import "env" "proxy_fly" (func)))"#;
/// let error = Module::load(&wat::parse_str(text).unwrap()).unwrap_err();
/// assert!(error.to_string().contains("env.proxy_fly"));
/// ```
#[derive(Clone, Debug)]
pub struct Module {
    pub(crate) engine: Engine,
    pub(crate) module: wasmi::Module,
}

/// Why a module cannot be run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LoadError {
    /// It is no valid module; what the runtime says.
    Invalid(String),
    /// It imports what no host of this ABI has, or has with other parameters: `module.name`.
    Imports(Vec<String>),
    /// It does not export a memory named `memory`.
    NoMemory,
    /// It does not say that it is of ABI 0.2.1 (an export named `proxy_abi_version_0_2_1`; 0.2.0 is taken too).
    OtherAbi,
}

impl fmt::Display for LoadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Invalid(why) => write!(f, "this is no WebAssembly module: {why}"),
            Self::Imports(names) => write!(f, "no host of proxy-wasm 0.2.1 has these imports: {}", names.join(", ")),
            Self::NoMemory => f.write_str("the module exports no memory"),
            Self::OtherAbi => {
                f.write_str("the module is not of proxy-wasm 0.2.1: it does not export proxy_abi_version_0_2_1")
            }
        }
    }
}

impl std::error::Error for LoadError {}

impl Module {
    /// Reads a module from its binary form.
    ///
    /// # Errors
    ///
    /// [`LoadError`], with all imports that are unknown.
    pub fn load(bytes: &[u8]) -> Result<Self, LoadError> {
        let mut config = Config::default();
        config.consume_fuel(true);
        // Translated when they are called first, functions would cost their first caller fuel, whoever that is.
        config.compilation_mode(CompilationMode::Eager);
        let engine = Engine::new(&config);
        let module = wasmi::Module::new(&engine, bytes).map_err(|error| LoadError::Invalid(error.to_string()))?;
        let is_unknown = |import: &wasmi::ImportType<'_>| {
            let known = abi::imports().find(|known| known.module == import.module() && known.name == import.name());
            match (known, import.ty()) {
                (Some(known), ExternType::Func(found)) => *found != known.signature(),
                _ => true,
            }
        };
        let unknown: Vec<String> =
            module.imports().filter(is_unknown).map(|it| format!("{}.{}", it.module(), it.name())).collect();
        if !unknown.is_empty() {
            return Err(LoadError::Imports(unknown));
        }
        let exports = |name| module.get_export(name);
        if !matches!(exports("memory"), Some(ExternType::Memory(_))) {
            return Err(LoadError::NoMemory);
        }
        if exports("proxy_abi_version_0_2_1").is_none() && exports("proxy_abi_version_0_2_0").is_none() {
            return Err(LoadError::OtherAbi);
        }
        Ok(Self { engine, module })
    }

    /// Whether the module exports a function of this name.
    #[must_use]
    pub fn exports(&self, name: &str) -> bool {
        matches!(self.module.get_export(name), Some(ExternType::Func(_)))
    }
}

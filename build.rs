//! Makes of the status page what the filter holds of it: the page compressed, and the policy that names the page's own style and
//! script by their hashes. So an edit of the page cannot leave an old hash behind.

use std::env;
use std::error::Error;
use std::fs;
use std::io::Write;
use std::path::Path;

use base64::engine::general_purpose::STANDARD;
use base64::Engine;
use flate2::{Compression, GzBuilder};
use sha2::{Digest, Sha256};

const PAGE: &str = "src/admin/page.html";

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-changed={PAGE}");
    let page = fs::read_to_string(PAGE)?;
    let directory = env::var("OUT_DIR")?;
    let place = |name: &str| Path::new(&directory).join(name);
    // No time and no name in it: the same page makes the same bytes.
    let mut gzip = GzBuilder::new().write(Vec::new(), Compression::best());
    gzip.write_all(page.as_bytes())?;
    fs::write(place("page.html.gz"), gzip.finish()?)?;
    // What the page may do: run its own style and script, and send requests to where it came from.
    let policy = format!(
        "default-src 'none'; script-src {}; style-src {}; connect-src 'self'; img-src data:; base-uri 'none'; form-action 'none'; \
         frame-ancestors 'none'; require-trusted-types-for 'script'",
        hash(&page, "script")?,
        hash(&page, "style")?
    );
    fs::write(place("page_policy.txt"), policy)?;
    Ok(())
}

/// The hash by which a policy names the content of the page's one element of that name (Content Security Policy, section 2.3.1).
fn hash(page: &str, element: &str) -> Result<String, String> {
    let parts: Vec<&str> = page.split(&format!("<{element}>")).collect();
    let [_, rest] = parts.as_slice() else { return Err(format!("{PAGE} has not got exactly one <{element}>")) };
    let (content, _) = rest.split_once(&format!("</{element}>")).ok_or(format!("{PAGE}: <{element}> does not end"))?;
    Ok(format!("'sha256-{}'", STANDARD.encode(Sha256::digest(content))))
}

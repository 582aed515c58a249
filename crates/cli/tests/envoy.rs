//! `durpina envoy`, and `durpina check` for files of Envoy's, as a person or a script runs them: what is printed, what is written,
//! exit codes.

#![cfg(not(target_arch = "wasm32"))]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

const CONFIGURATIONS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/data/configurations");
const FILTER: &str = r#"{"upstreams": {"web": {"servers": ["127.0.0.1:8081"]}}, "upstream": "web"}"#;

/// A directory with a filter JSON, and copies of these configurations.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str, files: &[&str]) -> Self {
        let root = std::env::temp_dir().join(format!("durpina-cli-{}-{name}", std::process::id()));
        drop(fs::remove_dir_all(&root));
        fs::create_dir(&root).unwrap();
        fs::write(root.join("filter.json"), FILTER).unwrap();
        for file in files {
            let name = Path::new(file).file_name().unwrap();
            fs::copy(Path::new(CONFIGURATIONS).join(file), root.join(name)).unwrap();
        }
        Self(root)
    }

    fn read(&self, name: &str) -> String {
        fs::read_to_string(self.0.join(name)).unwrap()
    }

    /// The exit code, the standard output, the standard error.
    fn durpina(&self, arguments: &str) -> (i32, String, String) {
        let mut command = Command::new(env!("CARGO_BIN_EXE_durpina"));
        let output = command.args(arguments.split(' ')).current_dir(&self.0).output().unwrap();
        let text = |bytes| String::from_utf8(bytes).unwrap();
        (output.status.code().unwrap(), text(output.stdout), text(output.stderr))
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        drop(fs::remove_dir_all(&self.0));
    }
}

#[test]
fn a_difference_is_shown_and_written_only_when_asked() {
    let folder = Folder::new("shown", &["live.yaml"]);
    let before = folder.read("live.yaml");
    let (code, difference, said) = folder.durpina("envoy live.yaml filter.json --route news/");
    assert_eq!((code, said.as_str()), (0, ""));
    assert!(difference.starts_with("--- live.yaml\n+++ live.yaml\n@@ "), "{difference}");
    assert!(
        difference.contains("\n-                  cluster: news\n+                  cluster: durpina\n"),
        "{difference}"
    );
    assert_eq!(folder.read("live.yaml"), before);

    assert_eq!(folder.durpina("envoy live.yaml filter.json --route news/ --write").1, difference);
    let written = folder.read("live.yaml");
    assert_ne!(written, before);
    let (code, difference, said) = folder.durpina("envoy live.yaml --write");
    assert_eq!((code, difference.as_str(), said.as_str()), (0, "", "nothing to change\n"));
    assert_eq!(folder.read("live.yaml"), written);

    assert_eq!(folder.durpina("envoy live.yaml --remove --write").0, 0);
    assert_eq!(folder.read("live.yaml"), before);
    let (code, difference, said) = folder.durpina("envoy live.yaml --remove");
    assert_eq!((code, difference.as_str(), said.as_str()), (0, "", "nothing to change\n"));
}

#[test]
fn what_cannot_be_done_leaves_everything_as_it_is() {
    let files = ["files/bootstrap.yaml", "files/lds.yaml", "files/rds.yaml", "files/cds.yaml"];
    let folder = Folder::new("none", &files);
    let names = ["bootstrap.yaml", "lds.yaml", "rds.yaml", "cds.yaml"];
    let before = names.map(|name| folder.read(name));
    for (arguments, code, message) in [
        (
            "envoy bootstrap.yaml lds.yaml rds.yaml cds.yaml filter.json --route nobody/ --write",
            1,
            "there is no route \"nobody/\"; there are books/, desk/loans",
        ),
        (
            "envoy bootstrap.yaml lds.yaml rds.yaml filter.json --route books --write",
            1,
            "leads to the cluster \"books\", which is not in these files",
        ),
        (
            "envoy bootstrap.yaml lds.yaml rds.yaml cds.yaml filter.json --manager x --write",
            1,
            "there is no connection manager \"x\"; there are readers/books, librarians/desk",
        ),
        ("envoy bootstrap.yaml lds.yaml rds.yaml cds.yaml --write", 1, "there is no filter JSON"),
        ("envoy filter.json --write", 1, "there is no configuration of Envoy's"),
        ("envoy missing.yaml filter.json", 2, "missing.yaml: No such file"),
        ("envoy --write", 2, "required"),
    ] {
        let (found, difference, said) = folder.durpina(arguments);
        assert_eq!((found, difference.as_str()), (code, ""), "{arguments}: {said}");
        assert!(said.contains(message), "{arguments}: {said}");
        assert_eq!(names.map(|name| folder.read(name)), before, "{arguments}");
    }
    fs::write(folder.0.join("filter.json"), "{\"upstream\": \"web\", \"upstreams\": {\"web\": {\"retries\": 9}}}")
        .unwrap();
    let (code, _, said) = folder.durpina("envoy bootstrap.yaml lds.yaml rds.yaml cds.yaml filter.json --write");
    assert!(code == 1 && said.contains("upstreams.web.retries: expected"), "{said}");
}

#[test]
fn files_that_belong_together_are_written_together() {
    let files = ["files/bootstrap.yaml", "files/lds.yaml", "files/rds.yaml", "files/cds.yaml"];
    let folder = Folder::new("together", &files);
    let (code, difference, said) =
        folder.durpina("envoy bootstrap.yaml lds.yaml rds.yaml cds.yaml filter.json --route books --write --peers tls");
    assert_eq!((code, said.as_str()), (0, ""), "{difference}");
    assert!(
        folder.read("cds.yaml").contains("UpstreamTlsContext")
            && folder.read("lds.yaml").contains("cluster: durpina\n")
    );
    let (code, report, _) = folder.durpina("check bootstrap.yaml lds.yaml rds.yaml cds.yaml");
    assert_eq!(code, 0, "{report}");
    assert_eq!(report, "bootstrap.yaml, lds.yaml, rds.yaml, cds.yaml: good. 2 filters, 0 warnings\n");
    // Without the clusters it cannot be told what is there.
    let (code, report, _) = folder.durpina("check bootstrap.yaml lds.yaml rds.yaml");
    assert_eq!(code, 0, "{report}");
    assert!(
        report.contains("warning: resources[0]") && report.contains("there is no cluster \"durpina\" in these files"),
        "{report}"
    );
    let (code, _, said) = folder.durpina("envoy lds.yaml --remove --write");
    assert!(code == 1 && said.contains("the cluster durpina is not in these files"), "{said}");
}

#[test]
fn check_tells_files_of_envoys_from_filter_jsons() {
    let folder = Folder::new("check", &["shop-front.yaml"]);
    let (code, report, _) = folder.durpina("check filter.json");
    assert_eq!((code, report.as_str()), (0, "filter.json: good. 1 upstreams with 1 servers, 1 routes\n"));
    let (code, report, _) = folder.durpina("check shop-front.yaml");
    assert!(code == 1 && report.contains("there is no filter of durpina's"), "{report}");
    folder.durpina("envoy shop-front.yaml filter.json --route catalogue --write");
    let broken = folder.read("shop-front.yaml").replacen("127.0.0.1:8081", "127.0.0.1:99999", 1);
    fs::write(folder.0.join("shop-front.yaml"), &broken).unwrap();
    let line = 1 + broken[..broken.find("99999").unwrap()].matches('\n').count();
    let (code, report, _) = folder.durpina("check shop-front.yaml");
    assert_eq!(code, 1, "{report}");
    assert!(
        report.starts_with(&format!("shop-front.yaml:{line}: error: the filter JSON: upstreams.web.servers[0]")),
        "{report}"
    );
    assert_eq!(folder.durpina("check missing.yaml").0, 2);
}

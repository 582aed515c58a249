//! The structure of the core, read from its own imports: arrows go down, in no circle, and no file grows too long.
//!
//! An arrow goes from the file that names something to the file that holds it. A `mod.rs` that only hands on what the files
//! beside it hold (`pub use`) names nothing.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use regex_lite::Regex;

/// The rooms of `src/`, from the ground up. A room may name what lies below it, and itself.
const FLOORS: [&str; 19] = [
    "time", "bits", "json", "repeats", "problem", "model", "settings", "store", "balancer", "monitor", "request",
    "registry", "config", "handle", "worker", "checks", "admin", "filter", "fuzzing",
];

/// The most lines of a file, without its tests.
const LONGEST: usize = 400;

/// A file of the core, without its tests.
struct Source {
    /// Its module, as in `model/peer`.
    module: String,
    /// Whether it is the file of a folder, `mod.rs`.
    is_folder: bool,
    text: String,
}

fn sources() -> Vec<Source> {
    fn visit(folder: &Path, found: &mut Vec<PathBuf>) {
        for entry in fs::read_dir(folder).expect("a folder of the checkout") {
            let path = entry.expect("an entry").path();
            if path.is_dir() {
                visit(&path, found);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                found.push(path);
            }
        }
    }
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut paths = Vec::new();
    visit(&root, &mut paths);
    paths.sort();
    let mut sources = Vec::new();
    for path in paths {
        let relative = path.strip_prefix(&root).unwrap().with_extension("");
        let name = relative.file_name().unwrap().to_string_lossy().into_owned();
        // What only tests use names whatever it likes.
        let is_test = relative.iter().any(|step| step == "tests") || name == "testing";
        if is_test || relative == Path::new("lib") {
            continue;
        }
        let is_folder = name == "mod";
        let module = if is_folder { relative.parent().unwrap() } else { &relative }.to_string_lossy().into_owned();
        let text = fs::read_to_string(&path).expect("a file of the checkout");
        let text = text.split("#[cfg(test)]\nmod ").next().unwrap_or_default().to_owned();
        sources.push(Source { module, is_folder, text });
    }
    assert!(sources.len() > 40, "the core has more files than {}", sources.len());
    sources
}

/// For each file, the files that it names.
fn arrows(sources: &[Source]) -> BTreeMap<&str, BTreeSet<&str>> {
    let known: BTreeSet<&str> = sources.iter().map(|source| source.module.as_str()).collect();
    let comment = Regex::new(r"(?m)//.*$").unwrap();
    let handed_on = Regex::new(r"pub(?:\([a-z]+\))? use [^;]*;").unwrap();
    let path = Regex::new(r"\b(crate|super|self)((?:::[a-z_][a-z_0-9]*)+)").unwrap();
    let list = Regex::new(r"\b(crate|super|self)((?:::[a-z_][a-z_0-9]*)*)::\{([^}]*)\}").unwrap();
    let sibling = Regex::new(r"(?m)^use ([a-z_]+)::").unwrap();
    let mut arrows = BTreeMap::new();
    for source in sources {
        let text = comment.replace_all(&source.text, "");
        let text = if source.is_folder { handed_on.replace_all(&text, "") } else { text };
        let above = match (source.is_folder, source.module.rsplit_once('/')) {
            (true, above) => (source.module.as_str(), above.map_or("", |(above, _)| above)),
            (false, above) => {
                let above = above.map_or("", |(above, _)| above);
                (above, above)
            }
        };
        let start = |word: &str| match word {
            "crate" => String::new(),
            "super" if source.is_folder => above.1.to_owned(),
            "super" => above.1.to_owned(),
            _ => source.module.clone(),
        };
        let mut named = BTreeSet::new();
        // The longest beginning of a path that is a file.
        let mut name = |start: &str, steps: &str| {
            let mut steps: Vec<&str> =
                start.split('/').chain(steps.split("::")).filter(|step| !step.is_empty()).collect();
            while !steps.is_empty() {
                if let Some(module) = known.get(steps.join("/").as_str()) {
                    if *module != source.module {
                        named.insert(*module);
                    }
                    return;
                }
                steps.pop();
            }
        };
        for found in path.captures_iter(&text) {
            name(&start(&found[1]), &found[2]);
        }
        for found in list.captures_iter(&text) {
            for item in found[3].split(',') {
                name(&start(&found[1]), &format!("{}::{}", &found[2], item.trim()));
            }
        }
        if source.is_folder {
            for found in sibling.captures_iter(&text) {
                name(&source.module, &found[1]);
            }
        }
        arrows.insert(source.module.as_str(), named);
    }
    arrows
}

#[test]
fn no_arrow_goes_up() {
    let sources = sources();
    let room = |module: &str| module.split('/').next().unwrap_or_default().to_owned();
    let floor = |room: &str| FLOORS.iter().position(|known| *known == room);
    let mut wrong = Vec::new();
    for (from, all) in arrows(&sources) {
        for to in all {
            let (above, below) = (room(from), room(to));
            let (Some(high), Some(low)) = (floor(&above), floor(&below)) else {
                panic!("{above} or {below} has no floor")
            };
            if low > high {
                wrong.push(format!("{from} names {to}, which lies above it"));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn no_files_name_each_other_in_a_circle() {
    let sources = sources();
    let mut left = arrows(&sources);
    // What names nothing that is left is in no circle, and neither is, then, what names only such files.
    loop {
        let free: Vec<&str> = left.iter().filter(|(_, named)| named.is_empty()).map(|(module, _)| *module).collect();
        if free.is_empty() {
            break;
        }
        for module in free {
            left.remove(module);
            for named in left.values_mut() {
                named.remove(module);
            }
        }
    }
    // Nor is what nobody in a circle names.
    loop {
        let named: BTreeSet<&str> = left.values().flatten().copied().collect();
        let before = left.len();
        left.retain(|module, _| named.contains(module));
        if left.len() == before {
            break;
        }
    }
    let shown: Vec<String> = left.iter().map(|(module, named)| format!("{module} names {named:?}")).collect();
    assert!(shown.is_empty(), "files that name each other:\n{}", shown.join("\n"));
}

#[test]
fn no_file_is_too_long() {
    let long = |source: &Source| {
        let lines = source.text.lines().count();
        (lines > LONGEST).then(|| format!("{} has {lines} lines", source.module))
    };
    let wrong: Vec<String> = sources().iter().filter_map(long).collect();
    assert!(wrong.is_empty(), "more than {LONGEST} lines without tests: {wrong:?}");
}

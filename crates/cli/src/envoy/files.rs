//! The files of a configuration: read, compared, written all or none.

use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use similar::TextDiff;

/// A file and what is to be in it.
#[derive(Debug)]
pub(crate) struct Change {
    pub(crate) path: PathBuf,
    pub(crate) before: String,
    pub(crate) after: String,
}

impl Change {
    /// What changes, as a unified diff; empty if nothing does.
    pub(crate) fn diff(&self) -> String {
        let name = self.path.display().to_string();
        TextDiff::from_lines(self.before.as_str(), self.after.as_str())
            .unified_diff()
            .context_radius(3)
            .header(&name, &name)
            .to_string()
    }
}

/// Writes all files, or none. Each is replaced in one step, so that who reads it meanwhile sees the old or the new text.
///
/// # Errors
///
/// What could not be written; all files are as they were then.
pub(crate) fn write(changes: &[Change]) -> Result<(), String> {
    let mut ready: Vec<(PathBuf, PathBuf, &str)> = Vec::new();
    let prepared = changes.iter().filter(|change| change.before != change.after).try_for_each(|change| {
        let said = |error: io::Error| format!("{}: {error}", change.path.display());
        // A link stays one.
        let path = change.path.canonicalize().map_err(said)?;
        if fs::read(&path).map_err(said)? != change.before.as_bytes() {
            return Err(format!("{}: was changed meanwhile", change.path.display()));
        }
        let beside = beside(&path);
        ready.push((beside.clone(), path.clone(), &change.before));
        prepare(&path, &beside, &change.after).map_err(said)
    });
    if let Err(error) = prepared {
        for (beside, ..) in ready {
            drop(fs::remove_file(beside));
        }
        return Err(error);
    }
    for (at, (beside, path, _)) in ready.iter().enumerate() {
        if let Err(error) = fs::rename(beside, path) {
            for (done, (beside, path, before)) in ready.iter().enumerate() {
                if done < at {
                    // What could be replaced once can be replaced again, or else there is nothing to be done.
                    drop(prepare(path, beside, before).and_then(|()| fs::rename(beside, path)));
                } else {
                    drop(fs::remove_file(beside));
                }
            }
            return Err(format!("{}: {error}", path.display()));
        }
    }
    Ok(())
}

/// A name beside the file that nobody else has.
fn beside(path: &Path) -> PathBuf {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(format!(".durpina-{}", std::process::id()));
    path.with_file_name(name)
}

fn prepare(path: &Path, beside: &Path, text: &str) -> io::Result<()> {
    let mut file = fs::OpenOptions::new().write(true).create_new(true).open(beside)?;
    file.write_all(text.as_bytes())?;
    file.set_permissions(fs::metadata(path)?.permissions())?;
    file.sync_all()
}

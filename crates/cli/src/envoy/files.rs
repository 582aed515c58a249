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

#[cfg(test)]
mod tests {
    use super::*;

    /// A directory of its own, with files of this text.
    fn directory(name: &str, files: &[&str]) -> (PathBuf, Vec<PathBuf>) {
        let root = std::env::temp_dir().join(format!("durpina-files-{}-{name}", std::process::id()));
        drop(fs::remove_dir_all(&root));
        fs::create_dir(&root).unwrap();
        let paths = files.iter().map(|file| root.join(file)).collect::<Vec<_>>();
        for path in &paths {
            fs::write(path, "old").unwrap();
        }
        (root, paths)
    }

    fn change(path: &Path, before: &str) -> Change {
        Change { path: path.to_owned(), before: before.to_owned(), after: "new".to_owned() }
    }

    fn names(root: &Path) -> Vec<String> {
        let entries = fs::read_dir(root).unwrap();
        let mut names: Vec<String> = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    #[test]
    fn all_files_are_written_or_none() {
        let (root, paths) = directory("all", &["a", "b"]);
        // Somebody else wrote the second one since it was read.
        let error = write(&[change(&paths[0], "old"), change(&paths[1], "other")]).unwrap_err();
        assert!(error.contains("was changed meanwhile"), "{error}");
        assert!(paths.iter().all(|path| fs::read_to_string(path).unwrap() == "old"));
        assert_eq!(names(&root), ["a", "b"], "nothing is left behind");

        // The second one cannot be put in its place.
        let taken = beside(&paths[1].canonicalize().unwrap());
        fs::write(&taken, "").unwrap();
        assert!(write(&[change(&paths[0], "old"), change(&paths[1], "old")]).is_err());
        assert!(paths.iter().all(|path| fs::read_to_string(path).unwrap() == "old"));
        drop(fs::remove_file(taken));

        write(&[change(&paths[0], "old"), change(&paths[1], "old")]).unwrap();
        assert!(paths.iter().all(|path| fs::read_to_string(path).unwrap() == "new"));
        assert_eq!(names(&root), ["a", "b"]);
        fs::remove_dir_all(root).unwrap();
    }

    #[cfg(unix)]
    #[test]
    fn links_and_permissions_stay() {
        use std::os::unix::fs::PermissionsExt;
        let (root, paths) = directory("links", &["a"]);
        fs::set_permissions(&paths[0], fs::Permissions::from_mode(0o640)).unwrap();
        let link = root.join("link");
        std::os::unix::fs::symlink(&paths[0], &link).unwrap();
        write(&[change(&link, "old")]).unwrap();
        assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
        assert_eq!(fs::read_to_string(&paths[0]).unwrap(), "new");
        assert_eq!(fs::metadata(&paths[0]).unwrap().permissions().mode() & 0o777, 0o640);
        fs::remove_dir_all(root).unwrap();
    }
}

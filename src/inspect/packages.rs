//! Which package a file belongs to: the databases of dpkg and apk, as they are in the tree.

use std::collections::HashMap;
use std::io::Read as _;

use super::data::ContentReader;
use super::path::Last;
use super::tree::{Object, Tree};
use crate::error::{Context, Failure};

/// The longest database file that is read, in bytes.
const MAX_DATABASE: u64 = 256 << 20;

/// A package.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Package {
    /// Its name.
    pub name: Vec<u8>,
    /// Its version.
    pub version: String,
    /// The paths that it lists.
    pub files: Vec<Vec<u8>>,
}

/// The packages of a tree; `None` when it has no database that is known here.
///
/// # Errors
/// `System` when a database can't be read.
pub fn packages(tree: &Tree) -> Result<Option<Vec<Package>>, Failure> {
    let dpkg = dpkg(tree)?;
    let apk = apk(tree)?;
    Ok(match (dpkg, apk) {
        (None, None) => None,
        (dpkg, apk) => Some(dpkg.into_iter().chain(apk).flatten().collect()),
    })
}

/// A file's bytes; `None` when there is none.
fn read(tree: &Tree, path: &[u8]) -> Result<Option<Vec<u8>>, Failure> {
    match tree.resolve(path, Last::Follow) {
        Ok(found) if found.object.is_file() => contents(tree, &found.object)
            .context(|| path.escape_ascii().to_string())
            .map(Some),
        _ => Ok(None),
    }
}

fn contents(tree: &Tree, object: &Object) -> Result<Vec<u8>, Failure> {
    if object.stat.size > MAX_DATABASE {
        return Err(Failure::invalid(format!(
            "{} bytes long, at most {MAX_DATABASE} are read",
            object.stat.size
        )));
    }
    let mut bytes = Vec::new();
    ContentReader::new(tree.open(object)?).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// dpkg: versions in `status` (distroless images have a file a package in `status.d`), files in
/// `info/NAME[:ARCH].list`.
fn dpkg(tree: &Tree) -> Result<Option<Vec<Package>>, Failure> {
    let Some(status) = read(tree, b"/var/lib/dpkg/status")? else {
        return Ok(None);
    };
    let versions = versions(&status);
    let mut found = Vec::new();
    let Ok(info) = tree.resolve(b"/var/lib/dpkg/info", Last::Follow) else {
        return Ok(Some(found));
    };
    let mut lists = Vec::new();
    for child in tree.children(&info.object)? {
        let name = child.name.as_bytes().strip_suffix(b".list");
        if let (Some(name), Some(object)) = (name, child.entry.object().filter(Object::is_file)) {
            lists.push((tree.origin(&object)?, name.to_vec(), object));
        }
    }
    // In the order in which they are stored: a compressed layer is read forward once.
    lists.sort_by_key(|(origin, _, _)| *origin);
    for (_, name, object) in lists {
        let list = contents(tree, &object)?;
        let name = name.split(|b| *b == b':').next().unwrap_or(&name).to_vec();
        let files = list.split(|b| *b == b'\n').filter(|l| l.starts_with(b"/"));
        found.push(Package {
            version: versions.get(&name).cloned().unwrap_or_default(),
            files: files.map(<[u8]>::to_vec).collect(),
            name,
        });
    }
    found.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(Some(found))
}

fn versions(status: &[u8]) -> HashMap<Vec<u8>, String> {
    let mut versions = HashMap::new();
    let mut name = Vec::new();
    for line in status.split(|b| *b == b'\n') {
        if let Some(value) = line.strip_prefix(b"Package: ") {
            name = value.trim_ascii().to_vec();
        } else if let Some(value) = line.strip_prefix(b"Version: ") {
            let version = String::from_utf8_lossy(value.trim_ascii()).into_owned();
            versions.insert(std::mem::take(&mut name), version);
        }
    }
    versions
}

/// apk: one file, `P:` name, `V:` version, `F:` directory, `R:` file in it, an empty line at the end
/// of a package.
fn apk(tree: &Tree) -> Result<Option<Vec<Package>>, Failure> {
    let database = match read(tree, b"/lib/apk/db/installed")? {
        Some(database) => Some(database),
        None => read(tree, b"/usr/lib/apk/db/installed")?,
    };
    Ok(database.map(|database| apk_packages(&database)))
}

fn apk_packages(database: &[u8]) -> Vec<Package> {
    let mut found: Vec<Package> = Vec::new();
    let mut dir = Vec::new();
    for line in database.split(|b| *b == b'\n') {
        let (Some(key), Some(value)) = (line.get(..2), line.get(2..)) else {
            continue;
        };
        match key {
            b"P:" => found.push(Package {
                name: value.to_vec(),
                version: String::new(),
                files: Vec::new(),
            }),
            b"V:" => {
                if let Some(package) = found.last_mut() {
                    package.version = String::from_utf8_lossy(value).into_owned();
                }
            }
            b"F:" => dir = value.to_vec(),
            b"R:" => {
                if let Some(package) = found.last_mut() {
                    let path = [b"/".as_slice(), &dir, b"/", value].concat();
                    package.files.push(path);
                }
            }
            _ => {}
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn databases_are_read() {
        let apk = b"C:Q1\nP:musl\nV:1.2\nF:lib\nR:ld.so\na:0:0:755\nR:libc.so\n\nP:busybox\nV:3\nF:\nR:x\n";
        let found = apk_packages(apk);
        assert_eq!(found[0].name, b"musl");
        assert_eq!(
            found[0].files,
            [b"/lib/ld.so".to_vec(), b"/lib/libc.so".to_vec()]
        );
        assert_eq!((found[1].version.as_str(), found[1].files.len()), ("3", 1));
        let status = b"Package: libc6\nStatus: install ok installed\nVersion: 2.36\n\nPackage: bash\nVersion: 5\n";
        let versions = versions(status);
        assert_eq!(versions[b"libc6".as_slice()], "2.36");
        assert_eq!(versions[b"bash".as_slice()], "5");
        assert!(apk_packages(b"V:1\nR:\nF\n\n:").is_empty());
    }
}
